package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// removed parks the instances of replicas and services that the file no longer has, and deletes those that have
// been parked for as long as they are kept. Blocked ones are wanted, only not to be had now: they stay.
func (d *differ) removed() {
	wanted := map[string]bool{}
	for _, w := range d.want.Instances {
		wanted[w.Name] = true
	}

	for _, b := range d.want.Blocked {
		wanted[b.On.Name] = true
	}

	maps.Copy(wanted, d.carriers)
	gone := slices.DeleteFunc(slices.Clone(d.ours), func(name string) bool { return wanted[name] })
	slices.SortStableFunc(gone, func(a, b string) int { // the highest numbers first
		return cmp.Or(strings.Compare(d.service(a), d.service(b)), d.number(b)-d.number(a))
	})
	for _, name := range gone {
		d.leave(name, "service "+d.service(name)+" no longer has it"+d.heirs(name))
	}
}

// leave parks an instance that is wanted no more, deletes it when it was parked for long enough, or leaves it alone
// because it is protected.
func (d *differ) leave(name, cause string, deps ...ID) {
	id := ID{KindInstance, name}
	switch {
	case d.have.Instances[name].Config[KeySurge] != "":
		d.stop(name, surgeOver, deps...)
		d.step(id, DeleteInstance{Name: name}, surgeOver, deps...)
	case d.want.Shut != "" && !d.want.Hurried[d.service(name)] && d.have.Instances[name].Status == Running:
		d.keeping = append(d.keeping, name)
		d.plan.Blocked = append(d.plan.Blocked, scheduled(id, Place{}, cause+", and its end waits for "+d.want.Shut, d.want.Stack))
	case d.protected(name):
		d.keeping = append(d.keeping, name)
		d.plan.Blocked = append(d.plan.Blocked, Blocked{
			On: id, Type: TypeRemovalHeld, Reason: fmt.Sprintf("%s, and it is protected: it stays until \"ic-agent confirm-removal %s/%s\" says that this was meant", cause, d.want.Stack, d.service(name)),
		})
	case d.led.Expired[name]:
		d.stop(name, cause, deps...)
		d.step(id, DeleteInstance{Name: name}, "it has been parked for as long as it is kept", deps...)
	default:
		d.park(name, cause, deps...)
	}
}

// protected reports whether an instance outlives its service's removal until that is confirmed.
func (d *differ) protected(name string) bool {
	return d.have.Instances[name].Config[KeyProtect] == "true" && !d.led.Confirmed[""] && !d.led.Confirmed[d.service(name)]
}

// park stops an instance, keeps Incus and the health daemon from starting it, and takes it off our networks, so that
// they can go. All else stays for the return of what wanted it.
func (d *differ) park(name, cause string, deps ...ID) {
	have := d.have.Instances[name]
	was := "stopped"
	if have.Status == Running {
		was = parkedRunning
		d.leaving = append(d.leaving, name)
	}

	d.stop(name, cause, deps...)
	set, devices := map[string]string{}, map[string]Device{}
	for k, v := range map[string]string{KeyParked: cmp.Or(have.Config[KeyParked], was), keyHealthStopped: "true", keyAutostart: "false"} {
		if have.Config[k] != v {
			set[k] = v
		}
	}

	before := strings.Fields(have.Config[KeyKeys])
	if !slices.Contains(before, keyAutostart) {
		set[KeyKeys] = strings.Join(slices.Sorted(slices.Values(append(before, keyAutostart))), " ")
	}

	for n, dev := range have.Devices {
		if dev["type"] == "nic" && d.have.Networks[dev["network"]].Config[KeyOwner] == d.want.Owner {
			devices[n] = nil
		}
	}

	if len(set) > 0 || len(devices) > 0 {
		d.step(ID{KindInstance, name}, UpdateInstance{Name: name, Config: set, Devices: devices}, "parked", deps...)
	}
}

// heirs says which new services go on with a removed instance's volumes: a renamed service is one removed and one
// new.
func (d *differ) heirs(name string) string {
	var heirs []string
	for _, w := range d.want.Instances {
		_, there := d.have.Instances[w.Name]
		if !there && !slices.Contains(heirs, w.Service) && shareVolume(w, d.have.Instances[name]) {
			heirs = append(heirs, w.Service)
		}
	}

	if len(heirs) == 0 {
		return ""
	}

	return "; its volumes are used by " + strings.Join(heirs, ", ") + ", which is new"
}

func shareVolume(w DesiredInstance, have ObservedInstance) bool {
	for _, dev := range have.Devices {
		volume, _, _ := strings.Cut(dev["source"], "/")
		if dev["type"] == "disk" && dev["pool"] != "" && dev["path"] != "/" && slices.Contains(w.Volumes, dev["pool"]+"/"+volume) {
			return true
		}
	}

	return false
}

// predecessors are the instances that leave in this plan and whose volumes or host ports this one takes over: two
// databases on one volume would be the end of it.
func (d *differ) predecessors(w DesiredInstance, of []string) []ID {
	var ids []ID
	for _, name := range of {
		have := d.have.Instances[name]
		if shareVolume(w, have) || sharePort(w, have) {
			ids = append(ids, ID{KindInstance, name})
		}
	}

	return ids
}

func sharePort(w DesiredInstance, have ObservedInstance) bool {
	for _, dev := range have.Devices {
		for _, mine := range allDevices(w) {
			if dev["type"] == "proxy" && mine["type"] == "proxy" && dev["listen"] == mine["listen"] {
				return true
			}
		}
	}

	return false
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

	op := StopInstance{Name: name, Grace: graceOf(have)}
	if have.Config[KeySurge] != "" {
		op.Drain = drain
	}

	d.step(ID{KindInstance, name}, op, cause, deps...).Interrupts = op.Drain == 0
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
		if wanted[name] || have.Config[KeyOwner] != d.want.Owner || !d.mine(have.Config[KeyStack]) {
			continue
		}

		if users == nil {
			users = d.users()
		}

		if have.UsedBy > len(users[name]) || slices.ContainsFunc(users[name], func(id ID) bool { return d.last[id] == 0 }) {
			continue // one of them stays on it, or somebody of another project is
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

// Recover rebuilds what a lost ledger knew of a stack from the objects themselves: addresses, and which
// instances have been started.
func Recover(stack, owner string, have Observed) Ledger {
	led := Ledger{Stack: stack}
	for name, inst := range have.Instances {
		if inst.Config[KeyOwner] != owner {
			continue
		}

		if inst.Status != Stopped || inst.LastUsed.After(inst.Created) && inst.Config[KeyParked] != parkedRunning {
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

		for device, addr := range inst.Addresses6 {
			network := inst.Devices[device]["network"]
			if network != "" && strings.Contains(inst.Devices[device]["ipv6.address"], "/") {
				led.SetAddress(V6(network), name, addr)
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
