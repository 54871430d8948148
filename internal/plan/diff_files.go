package plan

import (
	"fmt"
	"slices"
	"strings"
)

// placement decides what becomes of the configs and secrets: whether the host has to place them, and how the app of
// a running instance learns of a new content.
func (d *differ) placement(c *changes, w DesiredInstance, have ObservedInstance) {
	c.place = have.Placed != w.PlacedHash
	if w.PlacedHash == "" && have.Config[KeyPlaced] != "" {
		c.config[KeyPlaced] = ""
	}

	running := have.Status != Stopped && have.Status != Error
	if have.Config[KeyPlaced] == w.PlacedHash || !running {
		return
	}

	switch w.OnChange {
	case "push":
	case "signal":
		if !c.restart {
			c.signal = w.ChangeSignal
			delete(c.config, KeyPlaced) // after the signal
		}
	case "none":
		if !c.restart && c.place {
			d.postpone(c, w)
		}
	case "recreate":
		c.rebuild, c.restart = true, true
	default:
		c.restart = true
	}
}

// postpone leaves a running instance with the files it has.
func (d *differ) postpone(c *changes, w DesiredInstance) {
	c.place = false
	delete(c.config, KeyPlaced)
	delete(c.config, KeyBoot)
	for name := range c.devices {
		if isFileDevice(name) {
			delete(c.devices, name)
			delete(c.config, KeyDevices)
		}
	}

	d.plan.Warnings = append(d.plan.Warnings, Warning{
		File: w.At.File, Line: w.At.Line, Key: "services." + w.Service,
		Text: fmt.Sprintf("the configs or secrets of %s changed, and on-change is none: it gets them when it is next started by the agent", w.Name),
	})
}

// isFileDevice knows the devices of configs and secrets by their names (fileDevices).
func isFileDevice(name string) bool { return name == "secrets" || strings.HasPrefix(name, "file-") }

// unreadable blocks an instance whose secrets cannot be placed: they are known from the ledger, which does not hold
// their content.
func (d *differ) unreadable(w DesiredInstance) bool {
	for _, f := range w.Placed {
		_, known := f.Bytes()
		if !known {
			d.block(ID{KindInstance, w.Name}, f.At, "the content of the secret %s is not known: the stack's files could not be read since the agent started", f.Name)
			return true
		}
	}

	return false
}

// makeTargets makes what the mounts with mapped users need in a fresh root filesystem: liblxc makes the place of a
// mount itself, but not of one with mapped users.
func (d *differ) makeTargets(w DesiredInstance, cause string) {
	if len(w.Targets) > 0 {
		d.step(ID{KindInstance, w.Name}, MakeTargets{Instance: w.Name, Targets: w.Targets}, cause)
	}
}

// makeHostDirs makes what is mounted from the host and is not there.
func (d *differ) makeHostDirs(w DesiredInstance) {
	for _, dir := range w.HostDirs {
		d.step(ID{KindInstance, w.Name}, MakeHostDir{Path: dir}, "it is mounted, and the host does not have it")
	}
}

// hasNewTarget reports whether a mount that needs a place is not among the devices of the instance yet.
func (d *differ) hasNewTarget(w DesiredInstance, have ObservedInstance) bool {
	old := map[string]bool{}
	for _, dev := range have.Devices {
		old[dev["path"]] = true
	}

	return slices.ContainsFunc(w.Targets, func(t Target) bool { return !old[t.Path] })
}

func (d *differ) placeFiles(w DesiredInstance, cause string) {
	d.step(ID{KindInstance, w.Name}, PlaceFiles{Instance: w.Name, Files: w.Placed, Hash: w.PlacedHash}, cause)
}

// signal tells the app, and notes it only then: a signal that did not arrive is sent again.
func (d *differ) signal(w DesiredInstance, signal string) {
	id := ID{KindInstance, w.Name}
	const cause = "configs or secrets changed"
	d.step(id, SignalInstance{Name: w.Name, Signal: signal}, cause)
	d.step(id, UpdateInstance{Name: w.Name, Config: map[string]string{KeyPlaced: w.PlacedHash}}, cause)
}

// filesWereMissing tells an instance that ran when the host went down, and could not be started again because the
// host had lost the files it mounts.
func filesWereMissing(w DesiredInstance, have ObservedInstance) bool {
	return w.PlacedHash != "" && have.Placed == "" && have.Config["volatile.last_state.power"] == "RUNNING"
}

// filesCause says what is new about the configs and secrets.
func filesCause(w DesiredInstance, have ObservedInstance, c changes) string {
	switch {
	case have.Config[KeyPlaced] != w.PlacedHash && (c.place || c.config[KeyPlaced] != ""):
		return "configs or secrets changed"
	case c.place:
		return "its configs and secrets are not on the host"
	}

	return ""
}
