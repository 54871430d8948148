package plan

import (
	"maps"
	"slices"
	"strings"
)

// Root says what is wrong with the root filesystem of an instance. Incus does not show it: it is found out by what
// fails. The empty one is a whole one.
type Root string

const (
	// RootBegun says that a rebuild was begun and is not known to have ended.
	RootBegun Root = "rebuild begun"
	// RootLost says that a call failed because there is no root filesystem, or half of one: it is made anew in place.
	RootLost Root = "lost"
	// RootGone says that that failed for the same reason: the instance is made anew.
	RootGone Root = "gone"
)

// repaired gives a bridge that Incus never finished, for its maker was killed, the way it was meant to be: nothing can
// start on it. It is false where nothing has to be done, or can be.
func (d *differ) repaired(w DesiredNetwork, have ObservedNetwork) bool {
	if have.Status != NetworkPending && have.Status != NetworkErrored {
		return false
	}

	id := ID{KindNetwork, w.Name}
	users := d.users()[w.Name]
	for _, user := range users {
		inst := d.have.Instances[user.Name]
		if inst.Status != Stopped && inst.Status != Error {
			return false // Incus makes the bridge of such a network when it starts itself: it works.
		}

		if inst.Config[KeyOwner] != d.want.Owner {
			users = nil
			break
		}
	}

	if len(users) != have.UsedBy {
		d.block(id, w.At, "Incus was interrupted while it made it, and something else uses it: \"incus network show %s\" lists what; it is made anew when that is gone", w.Name)
		return true
	}

	const cause = "Incus was interrupted while it made the network: it is made anew"
	for _, user := range users {
		d.detach(user, w.Name, cause)
	}

	d.step(id, DeleteNetwork{Name: w.Name}, cause, users...)
	d.step(id, d.createNetwork(w), cause)

	return true
}

// detach takes a stopped instance off a network. What comes later in the plan sees it so, and puts it on again.
func (d *differ) detach(user ID, network, cause string) {
	inst := d.have.Instances[user.Name]
	off := map[string]Device{}
	inst.Devices = maps.Clone(inst.Devices)
	for name, dev := range inst.Devices {
		if dev["type"] == "nic" && dev["network"] == network {
			off[name] = nil
			delete(inst.Devices, name)
		}
	}

	d.have.Instances = maps.Clone(d.have.Instances)
	d.have.Instances[user.Name] = inst
	d.step(user, UpdateInstance{Name: user.Name, Devices: off}, cause)
}

// rootless reports whether the root filesystem of an instance is to be made anew in place.
func (d *differ) rootless(w DesiredInstance, have ObservedInstance) bool {
	root := d.led.Rootless[w.Name]
	stopped := have.Status == Stopped || have.Status == Error

	return stopped && (root == RootBegun || root == RootLost)
}

// remake makes an instance anew that Incus cannot rebuild, with what was set on it by hand. It is false for all others.
// One that is not to run is left until it is.
func (d *differ) remake(w DesiredInstance, have ObservedInstance) bool {
	stopped := have.Status == Stopped || have.Status == Error
	if d.led.Rootless[w.Name] != RootGone || !stopped || !d.due(w) {
		return false
	}

	const cause = "its root filesystem is gone: it is made anew; its volumes and addresses stay"
	d.step(ID{KindInstance, w.Name}, DeleteInstance{Name: w.Name, Rootless: true}, cause)
	d.have.Instances = maps.Clone(d.have.Instances)
	delete(d.have.Instances, w.Name)
	d.create(byHand(w, have))

	return true
}

// byHand adds to what is wanted of an instance the keys and devices that somebody else gave it.
func byHand(w DesiredInstance, have ObservedInstance) DesiredInstance {
	ours := append(slices.Collect(setBefore(have.Config)), KeyKeys, KeyDevices)
	config := maps.Clone(have.Config)
	maps.DeleteFunc(config, func(k, _ string) bool {
		return slices.Contains(ours, k) || strings.HasPrefix(k, "volatile.") || strings.HasPrefix(k, "image.") ||
			strings.HasPrefix(k, "oci.") || strings.HasPrefix(k, "user.ic-agent.") || strings.HasPrefix(k, keyHealthPrefix)
	})
	maps.Copy(config, w.Config)

	devices := maps.Clone(have.Devices)
	for name := range strings.FieldsSeq(have.Config[KeyDevices]) {
		delete(devices, name)
	}

	maps.Copy(devices, w.Devices)
	for name := range w.Late {
		delete(devices, name)
	}

	w.Config, w.Devices = config, devices

	return w
}
