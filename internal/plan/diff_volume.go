package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (d *differ) volume(w DesiredVolume) {
	id := ID{KindVolume, w.Pool + "/" + w.Name}
	have, ok := d.have.Volumes[w.Pool+"/"+w.Name]
	switch {
	case w.External && !ok:
		d.block(id, w.At, "the external volume %q does not exist in pool %q of project %q: create it, or remove \"external: true\"", w.Name, w.Pool, d.want.Incus)
	case w.External:
	case !ok && w.Copy.Ref != "":
		d.fill(w, true)
	case !ok:
		d.step(id, CreateVolume{
			Pool: w.Pool, Name: w.Name, Description: "ic-agent: " + d.want.Stack + ":" + w.Key, Config: d.fresh(w),
		}, "new volume "+volumeLabel(w), d.projectID())
	case have.Config[KeyOwner] != d.want.Owner:
		d.conflict(id, w.At, "a volume of this name exists and is not ours: rename it, declare it \"external: true\" to use it, or take it over with \"ic-agent adopt %s\"", d.want.Stack)
	case w.Copy.Ref != "":
		if have.Config[KeySeed] == seedPending {
			d.fill(w, false)
		}
	default:
		d.unfinished(w, have)
		d.volumeChanges(w, have)
	}
}

// volumeChanges reports what differs: a volume holds data and is never changed behind its back.
func (d *differ) volumeChanges(w DesiredVolume, have ObservedVolume) {
	for _, k := range slices.Sorted(maps.Keys(w.Config)) {
		if strings.HasPrefix(k, "user.") || strings.HasPrefix(k, "initial.") || have.Config[k] == w.Config[k] {
			continue
		}

		d.plan.Warnings = append(d.plan.Warnings, Warning{
			File: w.At.File, Line: w.At.Line, Key: "volumes." + w.Key,
			Text: fmt.Sprintf("%s of the volume %s stays %q: change it by hand with \"incus storage volume set\"", k, w.Name, have.Config[k]),
		})
	}
}

func volumeLabel(w DesiredVolume) string {
	if w.Key == "" {
		return "(anonymous)"
	}

	return w.Key
}

// seedPending is the value of KeySeed until a volume has the image's files.
const seedPending = "pending"

// fresh is the config of a new volume, which says that its files are still to come.
func (d *differ) fresh(w DesiredVolume) map[string]string {
	c := maps.Clone(w.Config)
	if len(w.Seeds) > 0 {
		c[KeySeed] = seedPending
		d.seedless[w.Pool+"/"+w.Name] = w
	}

	return c
}

// fill makes a volume for mounts of an image and copies the image's files into it, out of an instance that is made for
// that, never started, and deleted again. Who mounts the volume waits for that. One that was broken off goes on.
func (d *differ) fill(w DesiredVolume, fresh bool) {
	id := ID{KindVolume, w.Pool + "/" + w.Name}
	cause := "the image " + w.Copy.Ref + " is mounted"
	if fresh {
		config := maps.Clone(w.Config)
		config[KeySeed] = seedPending
		d.step(id, CreateVolume{Pool: w.Pool, Name: w.Name, Description: "ic-agent: " + d.want.Stack + ": " + w.Copy.Ref, Config: config}, cause, d.projectID())
	}

	name := strings.TrimPrefix(w.Name, "vol-")
	carrier := ID{KindInstance, name}
	have, there := d.have.Instances[name]
	switch {
	case there && have.Config[KeyOwner] != d.want.Owner:
		d.conflict(id, w.At, "an instance called %s exists and is not ours: rename it", name)
		return
	case !there:
		d.pull(DesiredInstance{Image: w.Copy})
		d.step(carrier, CreateInstance{
			Name: name, Description: "ic-agent: " + d.want.Stack + ": " + w.Copy.Ref, Fingerprint: w.Copy.Fingerprint,
			Config:  map[string]string{KeyOwner: d.want.Owner, KeyStack: d.want.Stack, KeySurge: "true", "boot.autostart": "false"},
			Devices: map[string]Device{rootDevice: {"type": "disk", "path": "/", "pool": w.Pool}},
		}, cause, d.projectID(), ID{KindImage, w.Copy.Ref})
	}

	d.step(id, SeedVolume{Pool: w.Pool, Name: w.Name, From: []Seed{{Instance: name, Path: w.Path}}, Required: true}, cause, carrier)
	d.seeded(w, "the image's files are there")
	d.step(carrier, DeleteInstance{Name: name}, "its files are copied", id)
	d.carriers[name] = true
}

// unfinished finds a volume whose copy was broken off. One that somebody started an instance with meanwhile may hold
// data: it is left as it is.
func (d *differ) unfinished(w DesiredVolume, have ObservedVolume) {
	if have.Config[KeySeed] != seedPending {
		return
	}

	for _, name := range d.ours {
		inst := d.have.Instances[name]
		for _, dev := range inst.Devices {
			if inst.Status != Stopped && inst.Status != Error && dev["pool"] == w.Pool && volumeOfSource(dev["source"]) == w.Name {
				d.seeded(w, "it is in use")
				return
			}
		}
	}

	if len(w.Seeds) == 0 {
		d.seeded(w, "nothing is to be copied")
		return
	}

	d.seedless[w.Pool+"/"+w.Name] = w
}

// volumeOfSource is the volume in the source of a disk device, which may name a path in it.
func volumeOfSource(source string) string {
	name, _, _ := strings.Cut(source, "/")

	return name
}

func (d *differ) seeded(w DesiredVolume, cause string) {
	d.step(ID{KindVolume, w.Pool + "/" + w.Name}, UpdateVolume{Pool: w.Pool, Name: w.Name, Set: map[string]string{KeySeed: "done"}}, cause)
}

// makeSources makes the new instances that fresh volumes may get their files from, so that each of them is there
// before the first is started.
func (d *differ) makeSources() {
	if len(d.seedless) == 0 {
		return
	}

	for _, w := range d.ordered() {
		_, there := d.have.Instances[w.Name]
		held, _ := d.holds(*w)
		if !there && !held && d.mountsSeedless(*w) {
			d.made[w.Name] = d.make(*w, false)
		}
	}
}

func (d *differ) mountsSeedless(w DesiredInstance) bool {
	return slices.ContainsFunc(w.Volumes, func(v string) bool {
		_, seedless := d.seedless[v]
		return seedless
	})
}

// seed fills the fresh volumes of an instance that is stopped, before it is started with them.
func (d *differ) seed(w DesiredInstance) {
	for _, name := range w.Volumes {
		v, seedless := d.seedless[name]
		if !seedless {
			continue
		}

		delete(d.seedless, name)
		op := SeedVolume{Pool: v.Pool, Name: v.Name}
		var from []ID
		for _, s := range v.Seeds {
			_, there := d.have.Instances[s.Instance]
			if there || d.made[s.Instance] {
				op.From = append(op.From, s)
				from = append(from, ID{KindInstance, s.Instance})
			}
		}

		d.step(ID{KindVolume, name}, op, "new volume "+volumeLabel(v), from...)
		d.seeded(v, "the image's files are there")
	}
}
