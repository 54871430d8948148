package plan

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ours lists the instances of the project that carry our owner key and this stack's name, sorted.
func (d *differ) ours() []string {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(d.have.Instances)) {
		if d.have.Instances[n].Config[KeyOwner] == d.want.Owner {
			names = append(names, n)
		}
	}

	return names
}

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

	for _, name := range d.ours() {
		if wanted[name] {
			continue
		}

		id := ID{KindInstance, name}
		cause := "service " + d.have.Instances[name].Config[KeyService] + " no longer has it"
		d.stop(name, cause)
		d.step(id, DeleteInstance{Name: name}, cause)
	}
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

	for _, name := range slices.Sorted(maps.Keys(d.have.Networks)) {
		have := d.have.Networks[name]
		if wanted[name] || have.Config[KeyOwner] != d.want.Owner || have.Config[KeyStack] != d.want.Stack {
			continue
		}

		users, held := d.usersOf(name)
		if held {
			continue
		}

		d.step(ID{KindNetwork, name}, DeleteNetwork{Name: name}, "the file no longer has network "+have.Config[KeyName], users...)
	}
}

// usersOf lists the instances on a network; held says that one of them stays on it.
func (d *differ) usersOf(network string) (users []ID, held bool) {
	for _, name := range slices.Sorted(maps.Keys(d.have.Instances)) {
		on := false
		for _, dev := range d.have.Instances[name].Devices {
			on = on || dev["type"] == "nic" && dev["network"] == network
		}

		if !on {
			continue
		}

		id := ID{KindInstance, name}
		users = append(users, id)
		held = held || d.last[id] == 0
	}

	return users, held
}

// Park plans what follows when a stack's file is gone and its grace is over: everything stops, dependents
// first, and stays where it is. Putting the file back starts it again.
func Park(stack, owner string, have Observed) Plan {
	d := parkDiffer(stack, owner, have)
	if d == nil {
		return Plan{Stack: stack}
	}

	for _, name := range d.dependentsFirst() {
		d.stop(name, "the stack's file is gone", d.dependents(name)...)
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
	for _, name := range d.dependentsFirst() {
		d.stop(name, "the stack's file is gone", d.dependents(name)...)
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

	return &differ{
		want: Desired{Owner: owner, Stack: stack, Incus: have.Project.Name}, have: have, last: map[ID]int{},
		plan: Plan{Stack: stack},
	}
}

// dependentsFirst orders our instances so that one comes after all that wait for it; the boot priority holds
// the depth of the graph.
func (d *differ) dependentsFirst() []string {
	names := d.ours()
	slices.SortStableFunc(names, func(a, b string) int {
		return priorityOf(d.have.Instances[a]) - priorityOf(d.have.Instances[b])
	})

	return names
}

// dependents are the instances whose stop comes before this one's.
func (d *differ) dependents(name string) []ID {
	mine := priorityOf(d.have.Instances[name])

	var ids []ID
	for _, other := range d.ours() {
		if priorityOf(d.have.Instances[other]) < mine {
			ids = append(ids, ID{KindInstance, other})
		}
	}

	return ids
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
