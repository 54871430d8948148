package apply

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// prepare finds the images and addresses a project needs; what it cannot find is in the input as a reason.
func (l *Loop) prepare(ctx context.Context, p plan.Project, have plan.Observed) plan.Input {
	in := plan.Input{
		Owner: l.host.Owner, Pool: have.Server.Pool, Domain: l.host.Domain, FilesDir: l.host.FilesDir,
		Segments: map[string]plan.Segment{}, Addresses: map[string]map[string]netip.Addr{},
		Beside: map[string]bool{},
	}
	in.Images, in.Missing, in.Blocked = l.images(ctx, p, have)
	in.Paths = l.sources(p)
	for _, n := range p.Networks {
		config := have.Networks[n.Incus].Config
		if n.External && config[plan.KeyOwner] != l.host.Owner || config[plan.KeyAdopted] != "" {
			in.Beside[n.Incus] = plan.ReachesServiceAddress(have.Networks[n.Incus])
			continue // Somebody else hands out the addresses there.
		}

		seg, err := l.segment(n, have)
		if err != nil {
			in.Blocked = append(in.Blocked, l.blockNetwork(p, n, err)...)
			continue
		}

		in.Segments[n.Incus] = seg
		addrs, blocked := l.host.book.allocate(l.stack, n.Incus, seg, leases(p, n), l.led.Addresses[n.Incus], existing(have))
		in.Addresses[n.Incus] = addrs
		in.Blocked = append(in.Blocked, blocked...)
	}

	l.led.Addresses = in.Addresses
	l.led.Ports = l.chosenPorts(ctx, p)
	in.Ports = l.led.Ports

	return in
}

// chosenPorts finds a host port for those that name none: the one they have, or a free one.
func (l *Loop) chosenPorts(ctx context.Context, p plan.Project) map[string]uint16 {
	out := map[string]uint16{}
	for _, s := range p.Services {
		for _, port := range s.Ports {
			if port.Published != 0 || s.Replicas == 0 {
				continue
			}

			key := plan.PortKey(s.Name, port)
			out[key] = l.led.Ports[key]
			if out[key] != 0 || l.host.FreePort == nil {
				continue
			}

			var at []plan.Listen
			for _, ip := range port.IPs() {
				at = append(at, plan.Listen{Protocol: port.Protocol, IP: ip})
			}

			out[key] = l.host.FreePort(ctx, l.stack, key, at)
		}
	}

	return out
}

func existing(have plan.Observed) map[string]bool {
	out := map[string]bool{}
	for name := range have.Instances {
		out[name] = true
	}

	return out
}

// leases lists the addresses a project asks for on one network.
func leases(p plan.Project, n plan.Network) []plan.Lease {
	var out []plan.Lease
	for _, s := range p.Services {
		for _, a := range s.Networks {
			if a.Network != n.Name {
				continue
			}

			for i := 1; i <= s.Replicas; i++ {
				lease := plan.Lease{Network: n.Incus, Instance: plan.InstanceName(s, i), At: s.At, Service: s.Name}
				if s.Replicas == 1 {
					lease.Fixed = a.IPv4
				}

				out = append(out, lease)
			}
		}
	}

	return out
}

// segment finds a network's subnet: the one it has, the one the file asks for, or a free one.
func (l *Loop) segment(n plan.Network, have plan.Observed) (plan.Segment, error) {
	seg := plan.Segment{Subnet: n.Subnet, Gateway: n.Gateway, Range: n.Range, Reserved: n.Reserved}
	asked, err := netip.ParsePrefix(n.Config["ipv4.address"])
	if err == nil {
		seg.Subnet, seg.Gateway = asked.Masked(), asked.Addr()
	}

	old := have.Networks[n.Incus]
	current, err := netip.ParsePrefix(old.Config["ipv4.address"])
	if err == nil && old.Config[plan.KeyOwner] == l.host.Owner && (!seg.Subnet.IsValid() || old.UsedBy > 0) {
		seg.Subnet, seg.Gateway = current.Masked(), current.Addr()
		return seg, l.reserve(n.Incus, seg.Subnet)
	}

	if seg.Subnet.IsValid() {
		if !seg.Gateway.IsValid() {
			seg.Gateway = seg.Subnet.Masked().Addr().Next()
		}

		return seg, l.free(n, seg.Subnet, have)
	}

	seg.Subnet, err = l.host.Subnets.Reserve(n.Incus, func(taken map[string]netip.Prefix) (netip.Prefix, error) {
		return plan.PickSubnet(n.Incus, l.host.Pool, slices.Concat(slices.Collect(maps.Values(taken)), l.occupied(n.Incus, have)))
	})
	if err != nil {
		return seg, err
	}

	seg.Gateway = seg.Subnet.Masked().Addr().Next()

	return seg, nil
}

// reserve notes a subnet that is in use already.
func (l *Loop) reserve(network string, p netip.Prefix) error {
	_, err := l.host.Subnets.Reserve(network, func(map[string]netip.Prefix) (netip.Prefix, error) { return p, nil })

	return err
}

// free checks a subnet that the file asks for against everything known.
func (l *Loop) free(n plan.Network, p netip.Prefix, have plan.Observed) error {
	got, err := l.host.Subnets.Reserve(n.Incus, func(taken map[string]netip.Prefix) (netip.Prefix, error) {
		for other, t := range taken {
			if t.Overlaps(p) {
				return p, fmt.Errorf("the subnet %s is taken by network %s: choose another in ipam", p, other)
			}
		}

		for name, o := range have.Networks {
			t, perr := netip.ParsePrefix(o.Config["ipv4.address"])
			if perr == nil && name != n.Incus && t.Overlaps(p) {
				return p, fmt.Errorf("the subnet %s is taken by the Incus network %s: choose another in ipam", p, name)
			}
		}

		if have.Networks[n.Incus].Type == "" && l.host.HostPrefixes != nil {
			for _, t := range l.host.HostPrefixes() {
				if t.Overlaps(p) {
					return p, fmt.Errorf("the subnet %s overlaps %s, which the host itself uses: choose another in ipam", p, t)
				}
			}
		}

		return p, nil
	})
	if err != nil || got == p {
		return err
	}

	err = l.host.Subnets.Release(n.Incus)
	if err != nil {
		return err
	}

	return l.free(n, p, have)
}

// occupied lists the subnets of the host and of Incus networks other than name.
func (l *Loop) occupied(name string, have plan.Observed) []netip.Prefix {
	var out []netip.Prefix
	for n, o := range have.Networks {
		p, err := netip.ParsePrefix(o.Config["ipv4.address"])
		if err == nil && n != name {
			out = append(out, p.Masked())
		}
	}

	if l.host.HostPrefixes != nil {
		out = append(out, l.host.HostPrefixes()...)
	}

	return out
}

// blockNetwork blocks a network and all instances on it.
func (l *Loop) blockNetwork(p plan.Project, n plan.Network, err error) []plan.Blocked {
	out := []plan.Blocked{{On: plan.ID{Kind: plan.KindNetwork, Name: n.Incus}, Reason: err.Error(), At: n.At}}
	for _, lease := range leases(p, n) {
		out = append(out, plan.Blocked{
			On: plan.ID{Kind: plan.KindInstance, Name: lease.Instance}, Reason: "its network " + n.Name + " is blocked: " + err.Error(), At: n.At, Service: lease.Service,
		})
	}

	return out
}
