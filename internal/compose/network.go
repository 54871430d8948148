package compose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const optMTU = "com.docker.network.driver.mtu"

// network translates a top-level network.
func (t *translation) network(name string, c types.NetworkConfig) {
	key := "networks." + name
	n := plan.Network{
		Name: name, Incus: NetworkName(t.project.Name, name), External: bool(c.External), Internal: c.Internal,
		Config: t.scalars(key+".x-incus", c.Extensions[extIncus]), Labels: labels(c.Labels), At: t.index.place(key),
	}
	t.networkName(&n, key, c)
	t.networkFamilies(key, c)
	if !slices.Contains([]string{"", "bridge", "default"}, c.Driver) {
		t.refuse(key+".driver", fmt.Sprintf("the network driver %q does not exist here", c.Driver),
			`remove driver for a bridge, or make the network with "incus network create" and name it here with external: true`)
	}

	for _, opt := range slices.Sorted(maps.Keys(c.DriverOpts)) {
		mtu, err := strconv.Atoi(c.DriverOpts[opt])
		switch {
		case opt != optMTU:
			t.warn(key+".driver_opts."+opt, "ignored: only "+optMTU+" is honoured; set Incus's own keys with x-incus")
		case err != nil || mtu < 68 || mtu > 65535:
			t.refuse(key+".driver_opts."+opt, fmt.Sprintf("%q is not an MTU", c.DriverOpts[opt]), "write a number from 68 to 65535")
		default:
			n.MTU = mtu
		}
	}

	t.ipam(&n, key+".ipam", c.Ipam)
	t.out.Networks = append(t.out.Networks, n)
}

// networkName gives a network its own name: the user's, when there is one.
func (t *translation) networkName(n *plan.Network, key string, c types.NetworkConfig) {
	own := ""
	v, ok := t.known(key+".x-incus-compose", c.Extensions[extCompose], "network")["network"]
	if ok {
		own = t.scalar(key+".x-incus-compose.network", v)
	}

	if own == "" && (n.External || c.Name != t.project.Name+"_"+n.Name) {
		own = c.Name
	}

	switch {
	case own == "":
	case n.External:
		n.Incus = own
	default:
		n.Incus = bridgeName(own)
	}

	if len(n.Incus) < 2 || len(n.Incus) > 15 && !n.External || strings.Trim(n.Incus, "-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		t.refuse(key+".name", fmt.Sprintf("%q is not a name for a network", n.Incus), "use 2 to 15 letters, digits and hyphens")
	}
}

func (t *translation) networkFamilies(key string, c types.NetworkConfig) {
	if c.EnableIPv6 != nil && *c.EnableIPv6 {
		t.warn(key+".enable_ipv6", "not supported yet: the network has IPv4 only")
	}

	if c.EnableIPv4 != nil && !*c.EnableIPv4 {
		t.refuse(key+".enable_ipv4", "a network without IPv4 is not supported yet", "remove enable_ipv4")
	}
}

// ipam takes the first IPv4 pool.
func (t *translation) ipam(n *plan.Network, key string, c types.IPAMConfig) {
	if c.Driver != "" && c.Driver != "default" {
		t.warn(key+".driver", fmt.Sprintf("ignored: the address manager %q does not exist here, the agent hands out the addresses", c.Driver))
	}

	for i, pool := range c.Config {
		if pool == nil {
			continue
		}

		at := key + ".config." + strconv.Itoa(i)
		subnet, err := netip.ParsePrefix(pool.Subnet)
		switch {
		case pool.Subnet == "" && n.Subnet.IsValid(), err == nil && subnet.Addr().Is4() && n.Subnet.IsValid():
			t.warn(at, "ignored: a network has one IPv4 subnet")
		case pool.Subnet == "":
			t.refuse(at, "has no subnet", `write subnet: 10.20.30.0/24`)
		case err != nil:
			t.refuse(at+".subnet", fmt.Sprintf("%q is not a subnet", pool.Subnet), `write an address and a prefix length, "10.20.30.0/24"`)
		case !subnet.Addr().Is4():
			t.warn(at, "ignored: IPv6 is not supported yet, the network has IPv4 only")
		default:
			n.Subnet = subnet.Masked()
			t.pool(n, at, pool)
		}
	}
}

// pool reads gateway, range and reserved addresses of the subnet.
func (t *translation) pool(n *plan.Network, key string, pool *types.IPAMPool) {
	if n.Subnet.Bits() > 30 {
		t.refuse(key+".subnet", fmt.Sprintf("%s has no room for a gateway and a service", n.Subnet), "use a /29 or larger")
		return
	}

	if pool.Gateway != "" {
		n.Gateway = t.address(key+".gateway", pool.Gateway, n.Subnet)
	}

	if pool.IPRange != "" {
		r, err := netip.ParsePrefix(pool.IPRange)
		if err != nil || !n.Subnet.Contains(r.Addr()) || r.Bits() < n.Subnet.Bits() {
			t.refuse(key+".ip_range", fmt.Sprintf("%q is not a part of %s", pool.IPRange, n.Subnet), "write a smaller subnet inside it")
		} else {
			n.Range = r.Masked()
		}
	}

	for _, name := range slices.Sorted(maps.Keys(pool.AuxiliaryAddresses)) {
		a := t.address(key+".aux_addresses."+name, pool.AuxiliaryAddresses[name], n.Subnet)
		if a.IsValid() {
			n.Reserved = append(n.Reserved, a)
		}
	}

	slices.SortFunc(n.Reserved, netip.Addr.Compare)
	n.Reserved = slices.Compact(n.Reserved)
}

// address parses an IPv4 address that must lie in the subnet, when there is one.
func (t *translation) address(key, text string, subnet netip.Prefix) netip.Addr {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || !a.Is4():
		t.refuse(key, fmt.Sprintf("%q is not an IPv4 address", text), `write it as "10.20.30.40"`)
	case subnet.IsValid() && (!subnet.Contains(a) || a == subnet.Addr() || a == lastOf(subnet)):
		t.refuse(key, fmt.Sprintf("%s is not an address for a host in %s", a, subnet), "choose another one inside the subnet")
	default:
		return a
	}

	return netip.Addr{}
}

// lastOf is the broadcast address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}

	return netip.AddrFrom4(b)
}
