package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// driftReport is the Extension.Drift that leaves what was changed by hand.
const driftReport = "report"

// specHash covers all that is set on an instance: where it is what was last applied, a difference was made by hand.
func specHash(d DesiredInstance) string {
	config := maps.Clone(d.Config)
	maps.DeleteFunc(config, func(k, _ string) bool { return strings.HasPrefix(k, "user.ic-agent.") })
	b, err := json.Marshal([]any{config, d.Devices, d.Image.Fingerprint})
	if err != nil {
		panic(err) // maps of strings always marshal
	}

	sum := sha256.Sum256(b)

	return hex.EncodeToString(sum[:8])
}

// drift takes out of the changes, where the file says so, what was changed by hand, and says it.
func (d *differ) drift(c *changes, w DesiredInstance, have ObservedInstance) {
	byHand := have.Config[KeySpec] == w.Config[KeySpec] && have.Config[KeyParked] == "" && have.Config[KeyChanging] == ""
	if d.want.Drift != driftReport || !byHand {
		return
	}

	say := func(what, is string) {
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			File: w.At.File, Line: w.At.Line, Key: "instance/" + w.Name,
			Text: fmt.Sprintf("%s was changed by hand%s and is left so (drift: report)", what, is),
		})
	}
	for _, k := range slices.Sorted(maps.Keys(c.config)) {
		if strings.HasPrefix(k, "user.ic-agent.") || k == keyAutostart || k == keyHealthStopped {
			continue
		}

		say(k, fmt.Sprintf(" to %.60q (the file: %.60q)", have.Config[k], c.config[k]))
		delete(c.config, k)
	}

	for _, n := range slices.Sorted(maps.Keys(c.devices)) {
		_, late := w.Late[n]
		if !late {
			say("the device "+n, "")
			delete(c.devices, n)
		}
	}
}

// foreign lists what somebody else set on an instance: it is left alone.
func (d *differ) foreign(w DesiredInstance, have ObservedInstance) {
	known := func(k string) bool {
		for _, prefix := range []string{"volatile.", "image.", "user.healthcheck.", "user.ic-agent.", "user.incus-compose.", "user.label.incus-compose."} {
			if strings.HasPrefix(k, prefix) {
				return true
			}
		}

		return slices.Contains(setBefore(have.Config), k) || w.Config[k] != ""
	}

	var names []string
	for _, k := range slices.Sorted(maps.Keys(have.Config)) {
		if !known(k) {
			names = append(names, k)
		}
	}

	all, before := allDevices(w), strings.Fields(have.Config[KeyDevices])
	for _, n := range slices.Sorted(maps.Keys(have.Devices)) {
		if all[n] == nil && !slices.Contains(before, n) {
			names = append(names, "the device "+n)
		}
	}

	if len(names) > 0 {
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			Key: "instance/" + w.Name, Text: "set by hand, and left alone: " + strings.Join(names, ", "),
		})
	}
}
