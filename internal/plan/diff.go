package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Diff compares what is wanted with what is there and says what to do. It needs no clock and does no I/O;
// what cannot be done is Blocked, what is odd is a Warning. Only objects that carry our owner key are touched.
func Diff(want Desired, have Observed, led Ledger) Plan {
	d := newDiffer(want, have, led)

	if !d.project() {
		return d.plan
	}

	for _, n := range want.Networks {
		d.network(n)
	}

	for _, v := range want.Volumes {
		d.volume(v)
	}

	d.removed()
	d.makeSources()
	for _, w := range d.ordered() {
		from := len(d.plan.Steps)
		d.instance(*w)
		d.postStart(*w, from)
	}

	d.surplusNetworks()
	d.surplusSnapshots()
	d.rename()
	if d.hopeless() {
		d.plan.Steps = nil
	}

	return d.plan
}

// hopeless reports whether nothing of a new stack could run now: it is not begun, so that a port or a name that is taken
// leaves nothing behind.
func (d *differ) hopeless() bool {
	starts := slices.ContainsFunc(d.plan.Steps, func(s Step) bool {
		create, made := s.Op.(CreateInstance)
		_, start := s.Op.(StartInstance)

		return start || made && create.Start
	})

	return d.have.Project == nil && !starts && slices.ContainsFunc(d.plan.Blocked, func(b Blocked) bool { return !b.Waits })
}

type differ struct {
	want Desired
	have Observed
	led  Ledger
	plan Plan
	// last is the last step on an object, which what depends on the object waits for.
	last map[ID]int
	// refused are objects whose own state keeps what needs them from being touched.
	refused map[ID]string
	// services are the wanted instances by service, missing what is blocked of a service, clients the instances
	// that ask to be restarted with a service.
	services map[string][]*DesiredInstance
	missing  map[string][]Blocked
	clients  map[string][]*DesiredInstance
	// turned are the instances that this plan starts or stops, stopped those it stops before their own turn.
	turned, stopped map[string]bool
	// leaving are the running instances that this plan parks, keeping those it does not park because they are
	// protected.
	leaving, keeping []string
	// made are the instances this plan makes before their own turn, seedless the fresh volumes, by "pool/name", that
	// have not yet got the image's files.
	made     map[string]bool
	seedless map[string]DesiredVolume
	// snapped are the volumes, by "pool/name", that this plan takes a snapshot of.
	snapped map[string]bool
	// carriers are the instances that this plan copies out of and deletes.
	carriers map[string]bool
	// ours are the instances that carry our owner key, sorted.
	ours []string
}

// newDiffer prepares the lookups, so that a plan costs the same for each instance however many there are.
func newDiffer(want Desired, have Observed, led Ledger) *differ {
	d := &differ{
		want: want, have: have, led: led, last: map[ID]int{}, turned: map[string]bool{}, stopped: map[string]bool{},
		made: map[string]bool{}, seedless: map[string]DesiredVolume{}, snapped: map[string]bool{}, carriers: map[string]bool{},
		services: map[string][]*DesiredInstance{}, missing: map[string][]Blocked{}, clients: map[string][]*DesiredInstance{},
		plan: Plan{Stack: want.Stack, Blocked: slices.Clone(want.Blocked), Warnings: slices.Clone(want.Warnings)},
	}
	for i := range want.Instances {
		w := &want.Instances[i]
		d.services[w.Service] = append(d.services[w.Service], w)
		for _, need := range w.Needs {
			if need.Restart {
				d.clients[need.Service] = append(d.clients[need.Service], w)
			}
		}
	}

	for _, b := range want.Blocked {
		if b.Service != "" {
			d.missing[b.Service] = append(d.missing[b.Service], b)
		}
	}

	for _, n := range slices.Sorted(maps.Keys(have.Instances)) {
		if have.Instances[n].Config[KeyOwner] == want.Owner {
			d.ours = append(d.ours, n)
		}
	}

	return d
}

// step appends a step that waits for the object's previous one and for the last ones of deps.
func (d *differ) step(on ID, op Op, cause string, deps ...ID) *Step {
	var after []int
	for _, dep := range append([]ID{on}, deps...) {
		n := d.last[dep]
		if n != 0 && !slices.Contains(after, n) {
			after = append(after, n)
		}
	}

	stop, stops := op.(StopInstance)
	if stops {
		stop.Before = Commands(d.have.Instances[on.Name].Config[KeyPreStop])
		op = stop
	}

	if turns(op) {
		d.turned[on.Name] = true
	}

	slices.Sort(after)
	d.plan.Steps = append(d.plan.Steps, Step{N: len(d.plan.Steps) + 1, Op: op, On: on, Cause: cause, After: after})
	d.last[on] = len(d.plan.Steps)

	return &d.plan.Steps[len(d.plan.Steps)-1]
}

// turns reports whether an op starts or stops an instance; one that is made runs with its first start.
func turns(op Op) bool {
	switch op.(type) {
	case StartInstance, StopInstance, CreateInstance:
		return true
	default:
		return false
	}
}

func (d *differ) block(on ID, at Place, format string, args ...any) {
	d.refuse(Blocked{On: on, At: at, Reason: fmt.Sprintf(format, args...)})
}

func (d *differ) conflict(on ID, at Place, format string, args ...any) {
	d.refuse(Blocked{On: on, At: at, Reason: fmt.Sprintf(format, args...), Conflict: true})
}

func (d *differ) refuse(b Blocked) {
	if d.refused == nil {
		d.refused = map[ID]string{}
	}

	d.refused[b.On] = b.Reason
	d.plan.Blocked = append(d.plan.Blocked, b)
}

func (d *differ) projectID() ID { return ID{KindProject, d.want.Incus} }

// project is false where the Incus project is not ours: nothing in it is touched.
func (d *differ) project() bool {
	id := d.projectID()
	if d.have.Project == nil {
		d.step(id, CreateProject{
			Name: d.want.Incus, Description: "ic-agent: stack " + d.want.Stack, Config: d.want.Config,
		}, "new stack "+d.want.Stack)
		return true
	}

	owner, stack := d.have.Project.Config[KeyOwner], d.have.Project.Config[KeyStack]
	switch {
	case owner != d.want.Owner:
		d.conflict(id, Place{File: d.want.Source},
			"an Incus project of this name exists and is not ours: choose another name with a top-level \"name:\", remove it, or take it over with \"ic-agent adopt %s\"", d.want.Stack)
		return false
	case stack != d.want.Stack && d.have.Project.Config[KeyStack] != "":
		// The file was renamed while its project name stayed: the objects are the same ones.
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			File: d.want.Source, Text: fmt.Sprintf("this project was made for the stack %q, whose file is gone: it goes on under the name %q", stack, d.want.Stack),
		})
	}

	set := changedKeys(d.want.Config, d.have.Project.Config)
	delete(set, KeyStack) // see rename
	if d.have.Project.Config[KeyAdopted] != "" {
		// Features cannot be changed once something is in it.
		maps.DeleteFunc(set, func(k, _ string) bool { return strings.HasPrefix(k, "features.") })
	}

	d.settle(id, set)
	if len(set) > 0 {
		d.step(id, UpdateProject{Name: d.want.Incus, Set: set}, causeOf(set, nil))
	}

	return true
}

// rename gives the project the name its stack has now, once its networks have it: until then they are told by the old one
// from those of other stacks.
func (d *differ) rename() {
	id := d.projectID()
	if d.have.Project == nil || d.have.Project.Config[KeyStack] == d.want.Stack || d.refused[id] != "" {
		return
	}

	var networks []ID
	for _, w := range d.want.Networks {
		network := ID{KindNetwork, w.Name}
		if d.refused[network] != "" {
			return
		}

		networks = append(networks, network)
	}

	d.step(id, UpdateProject{Name: d.want.Incus, Set: map[string]string{KeyStack: d.want.Stack}}, "its stack is called "+d.want.Stack, networks...)
}

// mine reports whether an object of this agent's is this stack's, going by the name it carries.
func (d *differ) mine(stack string) bool {
	return stack == d.want.Stack || d.have.Project != nil && stack == d.have.Project.Config[KeyStack]
}

// changedKeys are the wanted keys that have lacks, or has otherwise.
func changedKeys(want, have map[string]string) map[string]string {
	set := map[string]string{}
	for k, v := range want {
		if have[k] != v {
			set[k] = v
		}
	}

	return set
}

// unset adds to what is set on an object "" for the keys that we have set on it and that are wanted no more. What
// somebody else set is left alone.
func unset(set, want, have map[string]string) {
	for k := range setBefore(have) {
		_, wanted := want[k]
		_, there := have[k]
		if !wanted && there {
			set[k] = ""
		}
	}
}

// settle drops the fields that Incus did not keep when they were last written: writing them again and again
// would never end. They are named in a warning.
func (d *differ) settle(id ID, set map[string]string) {
	for _, k := range d.led.Unsettled[id.String()] {
		_, ok := set[k]
		if ok {
			delete(set, k)
			d.plan.Warnings = append(d.plan.Warnings, Warning{
				Key: id.String() + " " + k, Text: "Incus does not keep the value that is written: left as it is",
			})
		}
	}
}

// causeOf names what changes, most telling first, at most four.
func causeOf(config map[string]string, devices map[string]Device) string {
	var names []string
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if !strings.HasPrefix(k, ownPrefix) {
			names = append(names, k)
		}
	}

	for _, n := range slices.Sorted(maps.Keys(devices)) {
		verb := " changed"
		if devices[n] == nil {
			verb = " removed"
		}

		names = append(names, "device "+n+verb)
	}

	const most = 4
	switch {
	case len(names) == 0:
		return "bookkeeping"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}

	return strings.Join(names, ", ")
}
