package plan

import "maps"

// make makes an instance, and starts it at once when start says so. It is false where that cannot be.
func (d *differ) make(w DesiredInstance, start bool) bool {
	if d.unreadable(w) {
		return false
	}

	d.pull(w)
	deps := d.prerequisites(w)
	d.makeHostDirs(w)
	if len(w.Placed) > 0 {
		d.placeFiles(w, "new instance")
	}

	op := CreateInstance{
		Name: w.Name, Description: "ic-agent: " + d.want.Stack + ":" + w.Service, Fingerprint: w.Image.Fingerprint,
		Config: maps.Clone(w.Config), Devices: w.Devices, Start: start,
	}
	delete(op.Config, KeyFiles)
	if start {
		deps = append(deps, d.stopDependents(w.Service)...)
	}

	d.step(ID{KindInstance, w.Name}, op, "new instance of service "+w.Service, deps...)

	return true
}

func (d *differ) create(w DesiredInstance) {
	id := ID{KindInstance, w.Name}
	made, sources := d.made[w.Name]
	start := !sources && len(w.Files)+len(w.Needs)+len(w.Targets) == 0
	if !sources {
		made = d.make(w, start)
	}

	if !made {
		return
	}

	if start {
		d.late(w)
		return
	}

	d.makeTargets(w, "new instance")
	d.pushFiles(w, "new instance")
	if len(w.Files) > 0 {
		d.step(id, UpdateInstance{Name: w.Name, Config: map[string]string{KeyFiles: w.FilesHash}}, "files written")
	}

	d.seed(w)
	if d.waits(w) {
		return
	}

	deps := append(d.needs(w), d.stopDependents(w.Service)...)
	if sources {
		deps = append(deps, d.prerequisites(w)...)
	}

	d.step(id, StartInstance{Name: w.Name}, "new instance", deps...)
	d.late(w)
}

// late adds the devices that would delay the start. Nothing waits for them.
func (d *differ) late(w DesiredInstance) {
	if len(w.Late) == 0 {
		return
	}

	id := ID{KindInstance, w.Name}
	started := d.last[id]
	d.step(id, UpdateInstance{Name: w.Name, Devices: w.Late}, "published on loopback")
	d.last[id] = started
}

func (d *differ) pushFiles(w DesiredInstance, cause string) {
	for _, f := range w.Files {
		d.step(ID{KindInstance, w.Name}, PushFile{Instance: w.Name, File: f}, cause)
	}
}
