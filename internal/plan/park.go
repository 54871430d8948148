package plan

import (
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Park plans what follows when a stack's file is gone and its grace is over: everything stops, dependents first, and
// stays where it is for the file's return; its networks go. What has been parked for as long as it is kept is
// deleted, and the project when nothing is left in it. Volumes stay, and with them the project.
func Park(stack, owner string, have Observed, led Ledger) Plan {
	d := parkDiffer(stack, owner, have, led)
	if d == nil {
		return Plan{Stack: stack}
	}

	var gone []ID
	for name, dependents := range d.dependentsFirst() {
		d.leave(name, "the stack's file is gone", dependents...)
		if d.led.Expired[name] && !d.protected(name) {
			gone = append(gone, ID{KindInstance, name})
		}
	}

	d.surplusNetworks()
	d.emptied(gone, 0)

	return d.plan
}

// Destroy plans the end of a stack by its user's word: its instances and networks are deleted, with volumes also the
// volumes that are ours, and the project when nothing is left in it. This is the one plan with a DeleteVolume.
func Destroy(stack, owner string, have Observed, led Ledger, volumes bool) Plan {
	d := parkDiffer(stack, owner, have, led)
	if d == nil {
		return Plan{Stack: stack}
	}

	const cause = "the stack is destroyed"

	var gone []ID
	for name, dependents := range d.dependentsFirst() {
		if d.protected(name) {
			d.plan.Blocked = append(d.plan.Blocked, Blocked{
				On: ID{KindInstance, name}, Type: TypeRemovalHeld,
				Reason: fmt.Sprintf("it is protected: \"ic-agent confirm-removal %s\" comes first", stack),
			})
			continue
		}

		d.stop(name, cause, dependents...)
		id := ID{KindInstance, name}
		d.step(id, DeleteInstance{Name: name}, cause)
		gone = append(gone, id)
	}

	if len(d.plan.Blocked) > 0 {
		d.plan.Steps = nil // all or nothing
		return d.plan
	}

	d.surplusNetworks()
	deleted := 0
	for _, name := range slices.Sorted(maps.Keys(have.Volumes)) {
		v := have.Volumes[name]
		if !volumes || !v.of(stack, owner, have.Project) {
			continue
		}

		id := ID{KindVolume, name}
		d.step(id, DeleteVolume{Pool: v.Pool, Name: name[len(v.Pool)+1:]}, cause+" with its volumes", gone...)
		gone = append(gone, id)
		deleted++
	}

	d.emptied(gone, deleted)

	return d.plan
}

// of says that a volume is a stack's, and ours. One in a project that has volumes of its own is, whatever the stack was
// called when it was made; else the volumes of all such projects lie side by side.
func (v ObservedVolume) of(stack, owner string, p *ObservedProject) bool {
	alone := p.Config["features.storage.volumes"] == "true"

	return v.Config[KeyOwner] == owner && (alone || v.Config[KeyStack] == stack)
}

// emptied deletes the project when the steps on gone leave nothing in it.
func (d *differ) emptied(gone []ID, volumes int) {
	if len(d.have.Volumes) == volumes && len(gone)-volumes == len(d.have.Instances) {
		d.step(d.projectID(), DeleteProject{Name: d.want.Incus}, "nothing is left in it", gone...)
	}
}

// parkDiffer is nil where there is nothing of ours, or where another stack has taken the project over.
func parkDiffer(stack, owner string, have Observed, led Ledger) *differ {
	if have.Project == nil || have.Project.Config[KeyOwner] != owner || have.Project.Config[KeyStack] != stack {
		return nil
	}

	return newDiffer(Desired{Owner: owner, Stack: stack, Incus: have.Project.Name}, have, led)
}

// dependentsFirst orders our instances so that one comes after all that wait for it, and gives for each the ones
// whose stop comes before its own: the boot priority holds the depth of the graph, and a layer waits for the one
// above it, which waits for those above.
func (d *differ) dependentsFirst() iter.Seq2[string, []ID] {
	names := slices.Clone(d.ours)
	priority := func(name string) int { return priorityOf(d.have.Instances[name]) }
	slices.SortStableFunc(names, func(a, b string) int { return priority(a) - priority(b) })

	return func(yield func(string, []ID) bool) {
		var before, layer []ID
		for i, name := range names {
			if i > 0 && priority(name) != priority(names[i-1]) {
				before, layer = layer, nil
			}

			layer = append(layer, ID{KindInstance, name})
			if !yield(name, before) {
				return
			}
		}
	}
}
