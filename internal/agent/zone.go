package agent

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/dns"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// servedNetworks are the networks whose clients are answered. subnets are the ledger's, for the time before Incus has answered;
// upstreams are those of one network each.
func servedNetworks(views []*apply.View, subnets map[string]netip.Prefix, upstreams map[string][]netip.AddrPort) []dns.Network {
	var nets []dns.Network
	for _, v := range views {
		if v.Project == nil || silent(v.State) {
			continue
		}

		for _, n := range v.Project.Networks {
			net, ok := network(v, n, subnets)
			if ok {
				net.Upstreams = upstreams[net.Name]
				nets = append(nets, net)
			}
		}
	}

	for _, n := range foreign(views) {
		known := slices.ContainsFunc(nets, func(have dns.Network) bool { return have.Name == n.Name })
		if !known {
			n.Upstreams = upstreams[n.Name]
			nets = append(nets, n)
		}
	}

	return nets
}

// declared are the records of a stack, found the addresses that others gave.
func declared(v *apply.View, found addressBook) []dns.Record {
	var recs []dns.Record
	if v.Project == nil || v.State == apply.Parked {
		return nil
	}

	for _, s := range v.Project.Services {
		recs = append(recs, records(v, s, found)...)
	}

	return recs
}

// leasing tells whether somebody else gives addresses to the stack's instances.
func leasing(v *apply.View) bool {
	return v.Project != nil && slices.ContainsFunc(v.Project.Networks, func(n plan.Network) bool { return n.External || adopted(v, n) })
}

// silent stacks have no names: nothing of them runs, or it is not ours.
func silent(s apply.State) bool { return s == apply.Parked || s == apply.Released }

// foreign are the networks of others that stacks use and whose clients reach the service address: the bridges of
// this host. At their gateway Incus's own dnsmasq answers.
func foreign(views []*apply.View) []dns.Network {
	var out []dns.Network
	for _, v := range views {
		if v.Project == nil || silent(v.State) {
			continue
		}

		for _, n := range v.Project.Networks {
			have := v.Observed.Networks[n.Incus]
			there := slices.ContainsFunc(out, func(o dns.Network) bool { return o.Name == n.Incus })
			if !n.External && !adopted(v, n) || there || !plan.ReachesServiceAddress(have) {
				continue
			}

			d := dns.Network{Name: n.Incus, Key: n.Incus, Project: foreignProject}
			d.Prefix = prefixOf(have.Config["ipv4.address"])
			d.Prefix6 = prefixOf(have.Config["ipv6.address"])
			own, _ := netip.ParsePrefix(have.Config["ipv4.address"]) // it is one: it reaches us
			d.Beside = netip.AddrPortFrom(own.Addr(), besidePort)
			out = append(out, d)
		}
	}

	return out
}

// besidePort is where the host itself asks on bridges whose port 53 is dnsmasq's. Systemd-resolved asks from the bridge it
// was told, and from there the service address, which is another link's, is not reached.
const besidePort = 53053

// adopted networks were made by others and are marked as ours; Incus's dnsmasq has their gateway address still.
func adopted(v *apply.View, n plan.Network) bool {
	return v.Observed.Networks[n.Incus].Config[plan.KeyAdopted] != ""
}

// foreignProject is where Incus keeps networks, and the project of clients on those of others.
const foreignProject = "default"

func prefixOf(text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}
	}

	return p.Masked()
}

func foreignNetworks(views []*apply.View) []string {
	var out []string
	for _, n := range foreign(views) {
		out = append(out, n.Name)
	}

	return out
}

// hosted are the records of instances made by hand.
func hosted(s sight, nets []dns.Network, groups []*dns.Group) []dns.Record {
	if len(s.guests) == 0 {
		return nil
	}

	taken := map[netip.Addr]bool{}
	for _, n := range nets {
		taken[n.Gateway], taken[n.Gateway6] = true, true
	}

	for _, g := range groups {
		for _, r := range g.Records {
			for _, on := range r.On {
				taken[on.Addr] = true
			}
		}
	}

	var out []dns.Record
	for _, g := range s.guests {
		r, ok := g.record(nets, s.found, taken)
		if ok {
			out = append(out, r)
		}
	}

	return out
}

// theirs tells whether what Incus has under a name of the stack is somebody else's: it is in the stack's way, and none of
// its addresses are ours to tell.
func theirs(v *apply.View, config map[string]string) bool {
	return len(config) > 0 && config[plan.KeyOwner] != v.Owner
}

// network is a managed network; external ones are served by the stack that has them.
func network(v *apply.View, n plan.Network, subnets map[string]netip.Prefix) (dns.Network, bool) {
	if n.External || adopted(v, n) || inConflict(v, n) || theirs(v, v.Observed.Networks[n.Incus].Config) {
		return dns.Network{}, false
	}

	d := dns.Network{Name: n.Incus, Key: n.Name, Project: v.Project.Incus, Internal: n.Internal}
	four, ok4 := segment(v, n.Incus, n.Gateway, subnets)
	six, ok6 := segment(v, plan.V6(n.Incus), n.Gateway6, subnets)
	d.Prefix, d.Gateway, d.Prefix6, d.Gateway6 = four.Subnet, four.Gateway, six.Subnet, six.Gateway

	return d, ok4 || ok6
}

// inConflict reports whether a network is not there and will not be made, for the stack's project is somebody else's.
func inConflict(v *apply.View, n plan.Network) bool {
	ours := v.Owner != "" && v.Observed.Networks[n.Incus].Config[plan.KeyOwner] == v.Owner

	return !ours && slices.ContainsFunc(v.Ledger.Conditions, func(c plan.Condition) bool {
		return c.Type == "Conflict" && (c.Object == "" || c.Object == plan.ID{Kind: plan.KindProject, Name: v.Project.Incus}.String())
	})
}

// segment is half of a network, as the last pass had it or the ledger has.
func segment(v *apply.View, key string, gateway netip.Addr, subnets map[string]netip.Prefix) (plan.Segment, bool) {
	seg, ok := v.Segments[key]
	if ok {
		return seg, true
	}

	p, known := subnets[key]
	if !known {
		return plan.Segment{}, false
	}

	if !gateway.IsValid() {
		gateway = p.Masked().Addr().Next()
	}

	return plan.Segment{Subnet: p, Gateway: gateway}, true
}

// records declares a service and its instances.
func records(v *apply.View, s plan.Service, found addressBook) []dns.Record {
	on := map[string]string{} // compose key → Incus name
	for _, n := range v.Project.Networks {
		on[n.Name] = n.Incus
	}

	declaration := dns.Record{Project: v.Project.Incus, Service: s.Name}
	for _, a := range s.Networks {
		declaration.On = append(declaration.On, dns.Interface{Network: on[a.Network], Aliases: a.Aliases})
	}

	out := []dns.Record{declaration}
	for i := 1; i <= s.Replicas; i++ {
		name := plan.InstanceName(s, i)
		r := dns.Record{Project: v.Project.Incus, Service: s.Name, Instance: name, Up: up(v, name), Unready: unready(v, name), Ports: offers(s)}
		r.Draining = v.Observed.Instances[name].Status == apply.Stopping
		r.Up = r.Up || r.Draining
		r.Reason, r.Since = why(v, name)
		r.Upstreams, r.Hosts = s.Resolver.Upstreams, hosts(v, s, on)
		for _, extra := range []string{s.ContainerName, s.Hostname} {
			if extra != "" && extra != name && !slices.Contains(r.Names, extra) {
				r.Names = append(r.Names, extra)
			}
		}

		for _, a := range s.Networks {
			addr := v.Ledger.Addresses[on[a.Network]][name]
			if !addr.IsValid() {
				addr = leased(v.Observed.Instances[name], on[a.Network], found)
			}

			r.On = append(r.On, dns.Interface{Network: on[a.Network], Addr: addr, Aliases: a.Aliases})
			six := v.Ledger.Addresses[plan.V6(on[a.Network])][name]
			if six.IsValid() {
				r.On = append(r.On, dns.Interface{Network: on[a.Network], Addr: six, Aliases: a.Aliases})
			}
		}

		out = append(out, r)
	}

	return out
}

// hosts are the names that a service alone is told. Those without an address mean this host, as the service's first
// network sees it.
func hosts(v *apply.View, s plan.Service, on map[string]string) []dns.Host {
	var gateway netip.Addr
	for _, a := range s.Networks {
		gateway = cmp.Or(gateway, v.Segments[on[a.Network]].Gateway)
	}

	var out []dns.Host
	for _, h := range s.ExtraHosts {
		addr := cmp.Or(h.Addr, gateway)
		if addr.IsValid() {
			out = append(out, dns.Host{Name: h.Name, Addr: addr})
		}
	}

	return out
}

// leased is the address an instance has on a network of others: one it was told to have, or one it was leased.
func leased(i plan.ObservedInstance, network string, found addressBook) netip.Addr {
	for device, d := range i.Devices {
		if d["type"] == "nic" && d["network"] == network {
			return cmp.Or(i.Addresses[device], found.leases[network][hardware(i, device)])
		}
	}

	return netip.Addr{}
}

// offers are the ports a service publishes and exposes, as they are inside.
func offers(s plan.Service) []dns.Port {
	var out []dns.Port
	add := func(port dns.Port) {
		if !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	for _, p := range s.Ports {
		add(dns.Port{Number: p.Target, Protocol: p.Protocol})
	}

	for _, p := range s.Expose {
		add(dns.Port{Number: p.Port, Protocol: p.Protocol})
	}

	return out
}

// why says what is to be known of an instance that does not run, or since when one does.
func why(v *apply.View, name string) (reason string, since time.Time) {
	have := v.Observed.Instances[name]
	stop, stopped := v.Ledger.Stops[name]
	switch {
	case theirs(v, have.Config):
		return "an instance of this name is not the stack's", time.Time{}
	case have.Status == plan.Running:
		return "", have.LastUsed
	case stopped:
		return "stopped by " + stop.By, stop.At
	}

	for _, c := range v.Ledger.Conditions {
		if c.Object == "instance/"+name {
			return c.Text, c.Since
		}
	}

	return "", time.Time{}
}

// up is what Incus says, and until it has been asked, what was so when the agent last ran.
func up(v *apply.View, name string) bool {
	if v.Observed.Instances == nil {
		_, stopped := v.Ledger.Stops[name]
		return v.Ledger.Started[name] != "" && !stopped
	}

	have := v.Observed.Instances[name]

	return have.Status == plan.Running && !theirs(v, have.Config)
}

// unready says that an instance is not well, or that it is checked and nobody has said of its present run that it is:
// one that has just been started may not listen yet, whatever was said of it before.
func unready(v *apply.View, name string) bool {
	have := v.Observed.Instances[name]
	status, _ := plan.HealthOf(have)

	return status != "healthy" && (plan.Checked(have.Config) || status != "")
}
