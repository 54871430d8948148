package plan

import (
	"fmt"
	"strings"
)

func (d *differ) network(w DesiredNetwork) {
	id := ID{KindNetwork, w.Name}
	have, ok := d.have.Networks[w.Name]
	if w.External {
		if !ok {
			d.block(id, w.At, "the external network %q does not exist in Incus: create it, or remove \"external: true\"", w.Name)
		}

		return
	}

	if !ok {
		d.step(id, d.createNetwork(w), "new network "+w.Key+" "+addressesOf(w.Config))
		return
	}

	if have.Config[KeyOwner] != d.want.Owner {
		d.conflict(id, w.At, "a network interface or Incus network of this name exists and is not ours: give the network another \"name:\", declare it \"external: true\", or take it over with \"ic-agent adopt %s\"", d.want.Stack)
		return
	}

	if have.Config[KeyAdopted] != "" {
		d.plan.Warnings = append(d.plan.Warnings, Warning{
			File: w.At.File, Line: w.At.Line, Key: "networks." + w.Key,
			Text: fmt.Sprintf("%s keeps the way it was made, with its own DHCP and DNS: \"ic-agent adopt %s --networks\" changes that", w.Name, d.want.Stack),
		})
		return
	}

	if have.Config[KeyStack] != "" && !d.mine(have.Config[KeyStack]) {
		d.conflict(id, w.At, "the stack %s has a network of this name: give this one another \"name:\", or share that one with \"external: true\"", have.Config[KeyStack])
		return
	}

	if d.repaired(w, have) {
		return
	}

	set := changedKeys(w.Config, have.Config)
	unset(set, w.Config, have.Config)
	d.settle(id, set)
	if len(set) == 0 {
		return
	}

	if moves(have.Config, set) && have.UsedBy > 0 {
		d.rebuildNetwork(w, have, set)
		return
	}

	d.step(id, UpdateNetwork{Name: w.Name, Set: set}, causeOf(set, nil))
}

func (d *differ) createNetwork(w DesiredNetwork) CreateNetwork {
	return CreateNetwork{Name: w.Name, Description: "ic-agent: " + d.want.Stack + ":" + w.Key, Config: w.Config}
}

// addressesOf names a network's addresses.
func addressesOf(config map[string]string) string {
	var out []string
	for _, option := range []string{"ipv4.address", "ipv6.address"} {
		if config[option] != "none" && config[option] != "" {
			out = append(out, config[option])
		}
	}

	return strings.Join(out, " ")
}

// moves reports whether a change takes an address away that instances may have their own next to.
func moves(have, set map[string]string) bool {
	for _, option := range []string{"ipv4.address", "ipv6.address"} {
		_, changes := set[option]
		if changes && have[option] != "" && have[option] != "none" {
			return true
		}
	}

	return false
}

// rebuildNetwork gives a network in use other addresses: all that are on it stop first, and start with theirs.
func (d *differ) rebuildNetwork(w DesiredNetwork, have ObservedNetwork, set map[string]string) {
	id := ID{KindNetwork, w.Name}
	users := d.users()[w.Name]
	wanted := map[string]DesiredInstance{}
	for _, i := range d.want.Instances {
		wanted[i.Name] = i
	}

	stranger := len(users) != have.UsedBy
	for _, user := range users {
		_, known := wanted[user.Name]
		stranger = stranger || !known
	}

	from, to := addressesOf(have.Config), addressesOf(w.Config)
	if stranger {
		d.block(id, w.At, "its addresses cannot change from %s to %s while something else uses it: \"incus network show %s\" lists what", from, to, w.Name)
		return
	}

	cause := fmt.Sprintf("the network %s goes from %s to %s", w.Key, from, to)
	for _, user := range users {
		if d.have.Instances[user.Name].Status != Running || d.stopped[user.Name] {
			continue
		}

		d.stopped[user.Name] = true
		d.step(user, StopInstance{Name: user.Name, Grace: wanted[user.Name].Grace}, cause).Interrupts = true
	}

	d.step(id, UpdateNetwork{Name: w.Name, Set: set}, cause, users...)
}
