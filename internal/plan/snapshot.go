package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// keptSnapshots is how many of our snapshots of a volume are kept.
const keptSnapshots = 3

// Snapshot is a snapshot that we took of a volume. Only what is remembered so is ever deleted.
type Snapshot struct {
	Pool, Volume, Name string
	// Generation is the one whose update, of Service, it was taken before; without a Service the one that was given up
	// together with the data.
	Generation uint64
	Service    string
	At         time.Time
}

// SnapshotName names the snapshots taken at one moment: an update that is broken off finds its own again.
func SnapshotName(at time.Time) string { return "ic-agent-" + at.UTC().Format("20060102-150405") }

// snapshot keeps what the volumes of a stopped instance hold before its new version gets at them.
func (d *differ) snapshot(w DesiredInstance, restarts bool) {
	if w.Snapshot.Name == "" || !restarts {
		return
	}

	for _, name := range w.Volumes {
		have, there := d.have.Volumes[name]
		_, seedless := d.seedless[name]
		s := w.Snapshot
		s.Pool, s.Volume = have.Pool, strings.TrimPrefix(name, have.Pool+"/")
		if !there || seedless || have.Config[KeyOwner] != d.want.Owner || d.snapped[name] || d.led.snapshot(s) >= 0 {
			continue
		}

		d.snapped[name] = true
		d.step(ID{KindVolume, name}, SnapshotVolume{s}, fmt.Sprintf("the data before generation %d of %s", s.Generation, s.Service), ID{KindInstance, w.Name})
	}
}

// snapshot is where the ledger has a snapshot; -1 for nowhere.
func (l Ledger) snapshot(s Snapshot) int {
	return slices.IndexFunc(l.Snapshots, func(o Snapshot) bool { return o.Pool == s.Pool && o.Volume == s.Volume && o.Name == s.Name })
}

// surplusSnapshots deletes those of our own that are too many of a volume, the oldest first; never one of what was
// there when somebody had data brought back.
func (d *differ) surplusSnapshots() {
	of := map[string][]Snapshot{}
	for _, s := range d.led.Snapshots {
		if s.Service != "" {
			of[s.Pool+"/"+s.Volume] = append(of[s.Pool+"/"+s.Volume], s)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(of)) {
		all := of[name]
		_, there := d.have.Volumes[name]
		if !there || len(all) <= keptSnapshots {
			continue
		}

		slices.SortStableFunc(all, func(a, b Snapshot) int { return a.At.Compare(b.At) })
		for _, s := range all[:len(all)-keptSnapshots] {
			d.step(ID{KindVolume, name}, DeleteSnapshot{s}, fmt.Sprintf("the newest %d are kept", keptSnapshots))
		}
	}
}

// Restore plans that the volumes of a stack hold again what they did when a generation was given up: the snapshots that
// were taken before its successors. What they hold now is kept as a snapshot first. Who uses them is stopped, and is
// started by the plan after. Blocked is what cannot be restored, and then nothing is.
func Restore(stack, owner string, generation uint64, have Observed, led Ledger, now time.Time) Plan {
	d := newDiffer(Desired{Owner: owner, Stack: stack}, have, led)
	chosen := led.successors(generation)
	if len(chosen) == 0 {
		d.block(ID{KindProject, stack}, Place{}, "no snapshot was taken when generation %d was given up (\"ic-agent history %s\" lists those there are)", generation, stack)
	}

	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		s, id := chosen[name], ID{KindVolume, name}
		if have.Volumes[name].Config[KeyOwner] != owner {
			d.block(id, Place{}, "it is not there, or not ours")
			continue
		}

		users := d.quiet(s)
		keep := Snapshot{Pool: s.Pool, Volume: s.Volume, Name: SnapshotName(now), Generation: led.Generation, At: now}
		d.step(id, SnapshotVolume{keep}, "what it holds now is kept", users...)
		d.step(id, RestoreVolume{s}, fmt.Sprintf("the data as it was before generation %d of %s", s.Generation, s.Service))
	}

	return d.plan
}

// successors are the snapshots taken before the first update after a generation, by "pool/name" of their volume.
func (l Ledger) successors(generation uint64) map[string]Snapshot {
	chosen := map[string]Snapshot{}
	for _, s := range l.Snapshots {
		name := s.Pool + "/" + s.Volume
		old, known := chosen[name]
		if s.Generation > generation && s.Service != "" && (!known || s.At.Before(old.At)) {
			chosen[name] = s
		}
	}

	return chosen
}

// quiet stops who uses the volume of a snapshot, and says who that is.
func (d *differ) quiet(s Snapshot) []ID {
	var users []ID
	for _, name := range slices.Sorted(maps.Keys(d.have.Instances)) {
		inst, id := d.have.Instances[name], ID{KindInstance, name}
		if inst.Status == Stopped || !mounts(inst, s.Pool, s.Volume) {
			continue
		}

		users = append(users, id)
		if inst.Config[KeyOwner] != d.want.Owner {
			d.block(ID{KindVolume, s.Pool + "/" + s.Volume}, Place{}, "%s uses it and is not ours: stop it first", name)
		} else if d.last[id] == 0 {
			d.step(id, StopInstance{Name: name, Grace: graceOf(inst)}, "its data goes back").Interrupts = true
		}
	}

	return users
}

func mounts(inst ObservedInstance, pool, volume string) bool {
	for _, dev := range inst.Devices {
		if dev["type"] == "disk" && dev["pool"] == pool && dev["path"] != "/" && volumeOfSource(dev["source"]) == volume {
			return true
		}
	}

	return false
}
