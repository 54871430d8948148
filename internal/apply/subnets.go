package apply

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// family is IPv4 or IPv6.
type family struct {
	option string // the Incus network key of its address
	six    bool
}

var (
	v4 = family{option: "ipv4.address"}
	v6 = family{option: "ipv6.address", six: true}
)

// key is the name a network's addresses of the family are kept under.
func (f family) key(network string) string {
	if f.six {
		return plan.V6(network)
	}

	return network
}

// of reports whether a network has the family: as its file says, or, where another stack's does, as it is.
func (f family) of(n plan.Network, have plan.ObservedNetwork) bool {
	switch {
	case n.External:
		return have.Config[f.option] != "" && have.Config[f.option] != "none"
	case f.six:
		return n.IPv6
	}

	return !n.NoIPv4
}

// asked is what the file wants of the family: ipam, or the network's own x-incus.
func (f family) asked(n plan.Network) plan.Segment {
	seg := plan.Segment{Subnet: n.Subnet, Gateway: n.Gateway, Range: n.Range, Reserved: n.Reserved}
	if f.six {
		seg = plan.Segment{Subnet: n.Subnet6, Gateway: n.Gateway6, Range: n.Range6, Reserved: n.Reserved}
	}

	asked, err := netip.ParsePrefix(n.Config[f.option])
	if err == nil {
		seg.Subnet, seg.Gateway = asked.Masked(), asked.Addr()
	}

	return seg
}

// fixed is the address an attachment asks for.
func (f family) fixed(a plan.Attachment) netip.Addr {
	if f.six {
		return a.IPv6
	}

	return a.IPv4
}

// leases lists the addresses a project asks for on one network.
func leases(p plan.Project, n plan.Network, f family) []plan.Lease {
	var out []plan.Lease
	for _, s := range p.Services {
		for _, a := range s.Networks {
			if a.Network != n.Name {
				continue
			}

			for i := 1; i <= s.Replicas; i++ {
				lease := plan.Lease{Network: n.Incus, Instance: plan.InstanceName(s, i), At: s.At, Service: s.Name}
				if s.Replicas == 1 {
					lease.Fixed = f.fixed(a)
				}

				out = append(out, lease)
			}
		}
	}

	return out
}

// rebuilds reports whether the file allows that a network in use is made anew.
func (l *Loop) rebuilds() bool { return slices.Contains(l.led.Project.Allow, "network-recreate") }

// segment finds a network's subnet: the one it has, the one the file asks for, or a free one. One in use stays, unless
// the file allows that the network is made anew.
func (l *Loop) segment(n plan.Network, f family, have plan.Observed) (plan.Segment, error) {
	seg := f.asked(n)
	old := have.Networks[n.Incus]
	stays := old.UsedBy > 0 && (!l.rebuilds() || l.shut(time.Now()) != nil)
	current, err := netip.ParsePrefix(old.Config[f.option])
	if err == nil && old.Config[plan.KeyOwner] == l.host.Owner && (!seg.Subnet.IsValid() || stays) {
		if seg.Subnet.IsValid() && seg.Subnet != current.Masked() {
			seg.Range = netip.Prefix{}
		}

		seg.Subnet, seg.Gateway = current.Masked(), current.Addr()

		return seg, l.reserve(f.key(n.Incus), seg.Subnet)
	}

	if seg.Subnet.IsValid() {
		if !seg.Gateway.IsValid() {
			seg.Gateway = seg.Subnet.Masked().Addr().Next()
		}

		return seg, l.free(n, f, seg.Subnet, have)
	}

	pool := l.host.Pool
	if f.six {
		pool = l.host.Pool6
	}

	seg.Subnet, err = l.host.Subnets.Reserve(f.key(n.Incus), func(taken map[string]netip.Prefix) (netip.Prefix, error) {
		return plan.PickSubnet(n.Incus, pool, slices.Concat(slices.Collect(maps.Values(taken)), l.occupied(n.Incus, f, have)))
	})
	if err != nil {
		return seg, err
	}

	seg.Gateway = seg.Subnet.Masked().Addr().Next()

	return seg, nil
}

// reserve notes a subnet that is in use already.
func (l *Loop) reserve(key string, p netip.Prefix) error {
	_, err := l.host.Subnets.Reserve(key, func(map[string]netip.Prefix) (netip.Prefix, error) { return p, nil })

	return err
}

// free checks a subnet that the file asks for against everything known.
func (l *Loop) free(n plan.Network, f family, p netip.Prefix, have plan.Observed) error {
	key := f.key(n.Incus)
	got, err := l.host.Subnets.Reserve(key, func(taken map[string]netip.Prefix) (netip.Prefix, error) {
		for other, t := range taken {
			if t.Overlaps(p) {
				return p, fmt.Errorf("the subnet %s is taken by network %s: choose another in ipam", p, other)
			}
		}

		for name, o := range have.Networks {
			t, perr := netip.ParsePrefix(o.Config[f.option])
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

	err = l.host.Subnets.Release(key)
	if err != nil {
		return err
	}

	return l.free(n, f, p, have)
}

// occupied lists the subnets of the host and of Incus networks other than name.
func (l *Loop) occupied(name string, f family, have plan.Observed) []netip.Prefix {
	var out []netip.Prefix
	for n, o := range have.Networks {
		p, err := netip.ParsePrefix(o.Config[f.option])
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
func (l *Loop) blockNetwork(p plan.Project, n plan.Network, f family, err error) []plan.Blocked {
	out := []plan.Blocked{{On: plan.ID{Kind: plan.KindNetwork, Name: n.Incus}, Reason: err.Error(), At: n.At}}
	for _, lease := range leases(p, n, f) {
		out = append(out, plan.Blocked{
			On: plan.ID{Kind: plan.KindInstance, Name: lease.Instance}, Reason: "its network " + n.Name + " is blocked: " + err.Error(), At: n.At, Service: lease.Service,
		})
	}

	return out
}
