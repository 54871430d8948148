package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ordered lists the wanted instances so that a service comes after all it depends on.
func (d *differ) ordered() []*DesiredInstance {
	out := make([]*DesiredInstance, 0, len(d.want.Instances))
	seen := map[string]bool{}
	var visit func(service string)
	visit = func(service string) {
		if seen[service] {
			return
		}

		seen[service] = true
		replicas := d.services[service]
		if len(replicas) > 0 {
			for _, need := range replicas[0].Needs { // which all of them share
				visit(need.Service)
			}
		}

		out = append(out, replicas...)
	}

	for _, service := range slices.Sorted(maps.Keys(d.services)) {
		visit(service)
	}

	return out
}

// instance plans one instance: nothing, a live change, a restart, a rebuild, or a new one.
func (d *differ) instance(w DesiredInstance) {
	id := ID{KindInstance, w.Name}
	held, reason := d.holds(w)
	if held {
		d.block(id, w.At, "%s", reason)
		return
	}

	have, ok := d.have.Instances[w.Name]
	if !ok {
		d.create(w)
		return
	}

	if have.Config[KeyOwner] != d.want.Owner {
		d.conflict(id, w.At, "an instance of this name exists in project %s and is not ours: set container_name, remove it, or take it over with \"ic-agent adopt %s\"", d.want.Incus, d.want.Stack)
		return
	}

	if w.Leave && !d.stopped[w.Name] {
		return
	}

	if d.remake(w, have) {
		return
	}

	d.foreign(w, have)
	c := d.compare(w, have)
	if d.rootless(w, have) {
		c.rebuild, c.restart, c.files = true, true, w.FilesHash != ""
	}

	d.change(w, have, c)
}

// holds tells whether an instance must be left alone because its network or volume is refused, and why.
func (d *differ) holds(w DesiredInstance) (held bool, reason string) {
	for _, n := range w.Networks {
		why, refused := d.refused[ID{KindNetwork, n}]
		if refused {
			return true, fmt.Sprintf("its network %s is blocked: %s", n, why)
		}
	}

	for _, v := range w.Volumes {
		why, refused := d.refused[ID{KindVolume, v}]
		if refused {
			return true, fmt.Sprintf("its volume %s is blocked: %s", v, why)
		}
	}

	kept := d.predecessors(w, d.keeping)
	switch {
	case len(kept) == 0:
		return false, ""
	case !d.protected(kept[0].Name):
		return true, fmt.Sprintf("%s still has its volume or port, and goes in %s", kept[0].Name, d.want.Shut)
	}

	return true, fmt.Sprintf("%s still has its volume or port, and is protected: \"ic-agent confirm-removal %s/%s\" lets it go", kept[0].Name, d.want.Stack, d.service(kept[0].Name))
}

// prerequisites are the objects an instance is made from.
func (d *differ) prerequisites(w DesiredInstance) []ID {
	ids := []ID{d.projectID(), {KindImage, w.Image.Ref}}
	for _, n := range w.Networks {
		ids = append(ids, ID{KindNetwork, n})
	}

	for _, v := range w.Volumes {
		ids = append(ids, ID{KindVolume, v})
	}

	return append(ids, d.predecessors(w, d.leaving)...)
}

// pull makes sure that the image is on the host.
func (d *differ) pull(w DesiredInstance) {
	id := ID{KindImage, w.Image.Ref}
	_, have := d.have.Images[w.Image.Fingerprint]
	if have || d.last[id] != 0 {
		return
	}

	d.step(id, PullImage{
		Server: w.Image.Server, Alias: w.Image.Alias, Ref: w.Image.Ref, Want: w.Image.Fingerprint,
		Owner: d.want.Owner, Config: w.Image.Config, Origin: Pinned(w.Image), Marked: w.Image.Marked, Size: w.Image.Size,
	}, "not on this host", d.projectID())
}

// changes is how an instance differs from what is wanted.
type changes struct {
	config  map[string]string
	devices map[string]Device
	// restart says that some of it reaches the app only at its next start.
	restart bool
	rebuild bool
	files   bool
	// place says that the host does not have the configs and secrets that are wanted.
	place bool
	// signal is what tells a running app that they changed; empty for none.
	signal string
}

func (c changes) empty() bool {
	return len(c.config) == 0 && len(c.devices) == 0 && !c.rebuild && !c.files && !c.place && c.signal == ""
}

func (d *differ) compare(w DesiredInstance, have ObservedInstance) changes {
	if have.Config[KeyAdopted] != "" && len(Disagreements(w, have)) == 0 {
		return d.taken(w, have)
	}

	id := ID{KindInstance, w.Name}
	c := changes{
		config:  changedKeys(w.Config, have.Config),
		rebuild: have.Fingerprint != w.Image.Fingerprint,
		files:   have.Config[KeyFiles] != w.FilesHash && w.FilesHash != "",
	}
	unset(c.config, w.Config, have.Config)
	if have.Config[KeyFiles] != "" && w.FilesHash == "" {
		c.config[KeyFiles] = ""
	}

	c.devices = changedDevices(w, have)
	d.elsewhere(w, have)
	d.settle(id, c.config)

	// A running instance of the wanted spec whose start-only values differ was changed by hand: its app never
	// saw the change, so putting the values back interrupts nothing.
	newSpec := have.Config[KeyBoot] != w.Config[KeyBoot]
	running := have.Status != Stopped && have.Status != Error
	for k := range c.config {
		if bootKey(k, d.have.Server.Restart) && newSpec {
			c.restart = true
		}
	}

	for _, n := range slices.Sorted(maps.Keys(c.devices)) {
		if !bootDevice(have.Devices[n], c.devices[n]) {
			continue
		}

		if newSpec || !running {
			c.restart = true
			continue
		}

		delete(c.devices, n)
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			Key: id.String(), Text: fmt.Sprintf("its device %s was changed by hand and can be put back only by a restart: run \"incus stop %s --project %s\" and start it again", n, w.Name, d.want.Incus),
		})
	}

	c.restart = c.restart || c.rebuild || c.files || d.mountsSeedless(w)
	d.placement(&c, w, have)
	d.drift(&c, w, have)

	return c
}

// elsewhere says that a root disk is not in the pool it would be made in today: moving it is nothing that a changed
// setting of the host asks for.
func (d *differ) elsewhere(w DesiredInstance, have ObservedInstance) {
	is, want := have.Devices[rootDevice]["pool"], w.Devices[rootDevice]["pool"]
	if is == "" || is == want || have.Config[KeyAdopted] != "" {
		return
	}

	d.plan.Warnings = append(d.plan.Warnings, Warning{
		File: w.At.File, Line: w.At.Line, Key: "services." + w.Service,
		Text: fmt.Sprintf("the root disk of %s stays in pool %s; to have it made in %s: \"incus delete --force %s --project %s\", and the agent makes it anew, with its volumes and addresses",
			w.Name, is, want, w.Name, d.want.Incus),
	})
}

// changedDevices says what to set; nil removes. The root disk's pool stays what it was.
func changedDevices(w DesiredInstance, have ObservedInstance) map[string]Device {
	set, all := map[string]Device{}, allDevices(w)
	for name, dev := range all {
		old := have.Devices[name]
		if name == rootDevice && old != nil && old["pool"] != dev["pool"] && w.Config[KeyBoot] != "" {
			dev = maps.Clone(dev)
			dev["pool"] = old["pool"]
		}

		if !maps.Equal(old, dev) {
			set[name] = dev
		}
	}

	for name := range strings.FieldsSeq(have.Config[KeyDevices]) {
		_, wanted := set[name]
		_, listed := all[name]
		_, there := have.Devices[name]
		if !wanted && !listed && there {
			set[name] = nil
		}
	}

	return set
}

// allDevices are the devices of an instance once it runs, not to be written to.
func allDevices(w DesiredInstance) map[string]Device {
	if len(w.Late) == 0 {
		return w.Devices
	}

	all := maps.Clone(w.Devices)
	maps.Copy(all, w.Late)

	return all
}

// due says whether an instance that does not run has to be started: it was not with its present spec, and nobody
// stopped it by hand, which holds whatever else changes.
func (d *differ) due(w DesiredInstance) bool {
	_, byHand := d.led.Stops[w.Name]

	return !byHand && (d.led.Started[w.Name] != w.Config[KeyBoot] || d.have.Instances[w.Name].Config[KeyParked] == parkedRunning)
}

// change brings an existing instance to what is wanted with the least interruption.
func (d *differ) change(w DesiredInstance, have ObservedInstance, c changes) {
	id := ID{KindInstance, w.Name}
	running := have.Status != Stopped && have.Status != Error
	start := !running && (d.due(w) || filesWereMissing(w, have)) || d.stopped[w.Name]
	running = running && !d.stopped[w.Name]
	if c.place && d.unreadable(w) {
		return
	}

	d.makeHostDirs(w)

	if c.rebuild {
		d.pull(w)
	}

	if c.empty() {
		if start && !d.waits(w) {
			d.start(w, have)
		}

		return
	}

	cause := d.changeCause(w, have, c)
	switch {
	case c.restart && running:
		if d.waits(w) {
			return // what runs keeps running until what it needs is there
		}

		deps := append(d.prerequisites(w), d.stopDependents(w.Service)...)
		d.step(id, d.stopping(w, have, c), cause, deps...).Interrupts = true
		start = true
	case c.restart && start:
		op := d.stopping(w, have, c)
		if op.Mark != nil {
			op.Drain = 0
			d.step(id, op, "nobody is to restart it during its change") // and one that has just been is stopped
		}
	}

	d.snapshot(w, c.restart)
	d.carry(w, have, c, cause)
	if start && !(c.restart && running) && d.waits(w) {
		return
	}

	if start {
		d.step(id, StartInstance{Name: w.Name}, startReason(c.restart && running, cause), d.startDeps(w)...)
	}
}

// start starts an instance that has nothing to be changed.
func (d *differ) start(w DesiredInstance, have ObservedInstance) {
	d.seed(w)
	cause := startCause(d.led, w, have)
	if d.stopped[w.Name] {
		cause = "stopped for what it needs"
	}

	d.step(ID{KindInstance, w.Name}, StartInstance{Name: w.Name}, cause, d.startDeps(w)...)
}

// carry brings what differs into an instance, which is stopped for what only a start applies.
func (d *differ) carry(w DesiredInstance, have ObservedInstance, c changes, cause string) {
	id := ID{KindInstance, w.Name}
	if c.rebuild {
		d.step(id, RebuildInstance{Name: w.Name, Fingerprint: w.Image.Fingerprint}, cause, d.prerequisites(w)...)
	}

	if c.files {
		d.pushFiles(w, cause)
	}

	if c.place {
		d.placeFiles(w, cause)
	}

	if c.restart && (c.rebuild || d.hasNewTarget(w, have)) {
		d.makeTargets(w, cause)
	}

	if c.restart || have.Status == Stopped {
		d.seed(w)
	}

	if len(c.config) > 0 || len(c.devices) > 0 {
		d.step(id, UpdateInstance{Name: w.Name, Config: c.config, Devices: c.devices, Stopped: c.restart}, cause, d.prerequisites(w)...)
	}

	if c.signal != "" {
		d.signal(w, c.signal)
	}
}

// stopping is the stop of an instance for a change that only a start applies. Where the health daemon may restart it, it
// is marked, so that nobody starts it in the middle: what ended by itself, or fails its checks, is at the daemon's mercy
// else. The change itself takes the mark away.
func (d *differ) stopping(w DesiredInstance, have ObservedInstance, c changes) StopInstance {
	op := StopInstance{Name: w.Name, Grace: w.Grace, Drain: w.Drain}
	policy := have.Config[keyHealthPrefix+"restart"]
	acts := policy != "" && policy != "no" || have.Config[keyOnUnhealthy] == "restart"
	if !acts || have.Config[KeyParked] != "" || d.rootless(w, have) {
		return op // nothing can start without a root filesystem, and its keys may be refused
	}

	op.Mark = map[string]string{KeyChanging: "true", keyHealthStopped: "true"}
	for k := range op.Mark {
		c.config[k] = ""
	}

	return op
}

func (d *differ) startDeps(w DesiredInstance) []ID {
	return append(append(d.prerequisites(w), d.needs(w)...), d.stopDependents(w.Service)...)
}
