package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// driftReport is the Extension.Drift that leaves what was changed by hand.
const driftReport = "report"

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
		if strings.HasPrefix(k, ownPrefix) || k == keyAutostart || k == keyHealthStopped {
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

// noted reports whether a key is written by Incus or by the programs that look after the instance.
func noted(key string) bool {
	for _, prefix := range []string{"volatile.", "image.", keyHealthPrefix, ownPrefix, "user.incus-compose.", "user.label.incus-compose."} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}

	return false
}

// foreign lists what somebody else set on an instance: it is left alone.
func (d *differ) foreign(w DesiredInstance, have ObservedInstance) {
	var keys, devices []string
	for k := range have.Config {
		if w.Config[k] == "" && !noted(k) {
			keys = append(keys, k)
		}
	}

	if len(keys) > 0 {
		before := slices.Collect(setBefore(have.Config))
		keys = slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(before, k) })
	}

	all := allDevices(w)
	for n := range have.Devices {
		if all[n] == nil && !slices.Contains(strings.Fields(have.Config[KeyDevices]), n) {
			devices = append(devices, "the device "+n)
		}
	}

	slices.Sort(keys)
	slices.Sort(devices)
	names := append(keys, devices...)

	if len(names) > 0 {
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			Key: "instance/" + w.Name, Text: "set by hand, and left alone: " + strings.Join(names, ", "),
		})
	}
}
