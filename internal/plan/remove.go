package plan

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// removed stops and deletes the instances of replicas and services that the file no longer has. Blocked ones
// are wanted, only not to be had now: they stay.
func (d *differ) removed() {
	wanted := map[string]bool{}
	for _, w := range d.want.Instances {
		wanted[w.Name] = true
	}

	for _, b := range d.want.Blocked {
		wanted[b.On.Name] = true
	}

	gone := slices.DeleteFunc(slices.Clone(d.ours), func(name string) bool { return wanted[name] })
	slices.SortStableFunc(gone, func(a, b string) int { // the highest numbers first
		return cmp.Or(strings.Compare(d.service(a), d.service(b)), d.number(b)-d.number(a))
	})
	for _, name := range gone {
		id := ID{KindInstance, name}
		cause := "service " + d.service(name) + " no longer has it"
		d.stop(name, cause)
		d.step(id, DeleteInstance{Name: name}, cause)
	}
}

func (d *differ) service(instance string) string {
	return d.have.Instances[instance].Config[KeyService]
}

// number is the number of a replica; 0 when it has none.
func (d *differ) number(instance string) int {
	n, err := strconv.Atoi(d.have.Instances[instance].Config[KeyIndex])
	if err != nil {
		return 0
	}

	return n
}

func (d *differ) stop(name, cause string, deps ...ID) {
	have := d.have.Instances[name]
	if have.Status == Stopped || have.Status == Error {
		return
	}

	d.step(ID{KindInstance, name}, StopInstance{Name: name, Grace: graceOf(have)}, cause, deps...).Interrupts = true
}

// surplusNetworks deletes our networks that the file no longer has, after the instances that were on them.
func (d *differ) surplusNetworks() {
	wanted := map[string]bool{}
	for _, n := range d.want.Networks {
		wanted[n.Name] = true
	}

	var users map[string][]ID
	for _, name := range slices.Sorted(maps.Keys(d.have.Networks)) {
		have := d.have.Networks[name]
		if wanted[name] || have.Config[KeyOwner] != d.want.Owner || have.Config[KeyStack] != d.want.Stack {
			continue
		}

		if users == nil {
			users = d.users()
		}

		if slices.ContainsFunc(users[name], func(id ID) bool { return d.last[id] == 0 }) {
			continue // one of them stays on it
		}

		d.step(ID{KindNetwork, name}, DeleteNetwork{Name: name}, "the file no longer has network "+have.Config[KeyName], users[name]...)
	}
}

// users lists the instances on each network, sorted.
func (d *differ) users() map[string][]ID {
	users := map[string][]ID{}
	for _, name := range slices.Sorted(maps.Keys(d.have.Instances)) {
		id := ID{KindInstance, name}
		for _, dev := range d.have.Instances[name].Devices {
			if dev["type"] == "nic" && !slices.Contains(users[dev["network"]], id) {
				users[dev["network"]] = append(users[dev["network"]], id)
			}
		}
	}

	return users
}

// Park plans what follows when a stack's file is gone and its grace is over: everything stops, dependents
// first, and stays where it is. Putting the file back starts it again.
func Park(stack, owner string, have Observed) Plan {
	d := parkDiffer(stack, owner, have)
	if d == nil {
		return Plan{Stack: stack}
	}

	for name, dependents := range d.dependentsFirst() {
		d.stop(name, "the stack's file is gone", dependents...)
	}

	return d.plan
}

// Clear plans the end of a parked stack: its instances and networks are deleted. Its volumes stay, and with
// them the project.
func Clear(stack, owner string, have Observed) Plan {
	d := parkDiffer(stack, owner, have)
	if d == nil {
		return Plan{Stack: stack}
	}

	var gone []ID
	for name, dependents := range d.dependentsFirst() {
		d.stop(name, "the stack's file is gone", dependents...)
		id := ID{KindInstance, name}
		d.step(id, DeleteInstance{Name: name}, "the stack's file has been gone for longer than it is kept")
		gone = append(gone, id)
	}

	d.surplusNetworks()
	if len(have.Volumes) == 0 && len(gone) == len(have.Instances) {
		d.step(d.projectID(), DeleteProject{Name: d.want.Incus}, "nothing is left in it", gone...)
	}

	return d.plan
}

// parkDiffer is nil where there is nothing of ours, or where another stack has taken the project over.
func parkDiffer(stack, owner string, have Observed) *differ {
	if have.Project == nil || have.Project.Config[KeyOwner] != owner || have.Project.Config[KeyStack] != stack {
		return nil
	}

	return newDiffer(Desired{Owner: owner, Stack: stack, Incus: have.Project.Name}, have, Ledger{})
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

// Recover rebuilds what a lost ledger knew of a stack from the objects themselves: addresses, and which
// instances have been started.
func Recover(stack, owner string, have Observed) Ledger {
	led := Ledger{Stack: stack}
	for name, inst := range have.Instances {
		if inst.Config[KeyOwner] != owner {
			continue
		}

		if inst.Status != Stopped || inst.LastUsed.After(inst.Created) {
			setString(&led.Started, name, inst.Config[KeyBoot])
		}

		hash, digest, held := strings.Cut(inst.Config[KeyHeld], " ")
		if held {
			if led.Rollouts == nil {
				led.Rollouts = map[string]Rollout{}
			}

			led.Rollouts[inst.Config[KeyService]] = Rollout{Hash: hash, Digest: digest, Phase: HeldBack, Reason: "why is not known any more"}
		}

		for device, addr := range inst.Addresses {
			network := inst.Devices[device]["network"]
			if network != "" && strings.Contains(inst.Devices[device]["ipv4.address"], "/") {
				led.SetAddress(network, name, addr)
			}
		}
	}

	return led
}

func setString(m *map[string]string, k, v string) {
	if *m == nil {
		*m = map[string]string{}
	}

	(*m)[k] = v
}

// graceOf reads the stop grace back from the key that holds it for host shutdowns.
func graceOf(have ObservedInstance) time.Duration {
	n, err := strconv.Atoi(have.Config["boot.host_shutdown_timeout"])
	if err != nil || n <= 0 {
		return defaultGrace
	}

	return time.Duration(n) * time.Second
}

func priorityOf(have ObservedInstance) int {
	n, err := strconv.Atoi(have.Config["boot.autostart.priority"])
	if err != nil {
		return 0
	}

	return n
}
