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

const (
	optMTU       = "com.docker.network.driver.mtu"
	optInterface = "com.docker.network.endpoint.ifname"
)

// network translates a top-level network.
func (t *translation) network(name string, c types.NetworkConfig) {
	key := "networks." + name
	n := plan.Network{
		Name: name, Incus: NetworkName(t.project.Name, name), External: bool(c.External), Internal: c.Internal,
		Config: t.scalars(key+".x-incus", c.Extensions[extIncus]), Labels: labels(c.Labels), At: t.index.place(key),
	}
	t.networkName(&n, key, c)
	t.networkFamilies(&n, key, c)
	if !slices.Contains([]string{"", "bridge", "default"}, c.Driver) {
		t.refuse(key+".driver", fmt.Sprintf("the network driver %q does not exist here", c.Driver),
			`remove driver for a bridge, or make the network with "incus network create" and name it here with external: true`)
	}

	for _, opt := range slices.Sorted(maps.Keys(c.DriverOpts)) {
		t.driverOpt(&n, key+".driver_opts."+opt, opt, c.DriverOpts[opt])
	}

	t.ipam(&n, key+".ipam", c.Ipam)
	t.out.Networks = append(t.out.Networks, n)
}

// driverOpt reads one of the bridge driver's options (Docker's "bridge network driver").
func (t *translation) driverOpt(n *plan.Network, key, opt, value string) {
	const bridge = "com.docker.network.bridge."
	set := func(option, to string) {
		_, own := n.Config[option]
		if !own { // x-incus has the last word
			if n.Config == nil {
				n.Config = map[string]string{}
			}

			n.Config[option] = to
		}
	}
	on, err := strconv.ParseBool(value)
	switch opt {
	case optMTU:
		mtu, merr := strconv.Atoi(value)
		if merr != nil || mtu < 68 || mtu > 65535 {
			t.refuse(key, fmt.Sprintf("%q is not an MTU", value), "write a number from 68 to 65535")
			return
		}

		n.MTU = mtu
	case bridge + "name":
		if !n.External {
			n.Incus = bridgeName(value)
		}
	case bridge + "enable_ip_masquerade":
		if err == nil && !on {
			if !n.NoIPv4 {
				set("ipv4.nat", "false")
			}

			if n.IPv6 {
				set("ipv6.nat", "false")
			}
		}
	case bridge + "enable_icc":
		if err == nil && !on {
			t.warn(key, "ignored: services of one network reach each other; give each a network of its own, or set security.port_isolation with x-incus on the attachment")
		}
	default:
		t.warn(key, "ignored: "+optMTU+", "+bridge+"name and "+bridge+"enable_ip_masquerade are honoured; set Incus's own keys with x-incus")
	}
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

// networkFamilies says which kinds of addresses there are.
func (t *translation) networkFamilies(n *plan.Network, key string, c types.NetworkConfig) {
	n.IPv6 = c.EnableIPv6 != nil && *c.EnableIPv6
	n.NoIPv4 = c.EnableIPv4 != nil && !*c.EnableIPv4
	if n.NoIPv4 && !n.IPv6 && !n.External {
		t.refuse(key+".enable_ipv4", "a network without IPv4 and without IPv6 has no addresses", "write enable_ipv6: true, or remove enable_ipv4")
	}
}

// ipam takes the first pool of each family.
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
		six := err == nil && subnet.Addr().Is6()
		switch {
		case pool.Subnet == "":
			t.refuse(at, "has no subnet", `write subnet: 10.20.30.0/24`)
		case err != nil:
			t.refuse(at+".subnet", fmt.Sprintf("%q is not a subnet", pool.Subnet), `write an address and a prefix length, "10.20.30.0/24" or "fd00:1:2:3::/64"`)
		case six && n.Subnet6.IsValid(), !six && n.Subnet.IsValid():
			t.warn(at, "ignored: a network has one subnet of a family")
		case six && !n.IPv6:
			t.warn(at, "ignored: the network has IPv4 only; write enable_ipv6: true")
		case !six && n.NoIPv4:
			t.warn(at, "ignored: the network has no IPv4")
		case six:
			n.Subnet6 = subnet.Masked()
			n.Gateway6, n.Range6 = t.pool(n, at, n.Subnet6, pool)
		default:
			n.Subnet = subnet.Masked()
			n.Gateway, n.Range = t.pool(n, at, n.Subnet, pool)
		}
	}

	slices.SortFunc(n.Reserved, netip.Addr.Compare)
	n.Reserved = slices.Compact(n.Reserved)
}

// pool reads gateway, range and reserved addresses of a subnet.
func (t *translation) pool(n *plan.Network, key string, subnet netip.Prefix, pool *types.IPAMPool) (gateway netip.Addr, within netip.Prefix) {
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		t.refuse(key+".subnet", fmt.Sprintf("%s has no room for a gateway and a service", subnet), "use a /29 or larger, a /64 of IPv6")
		return gateway, within
	}

	if pool.Gateway != "" {
		gateway = t.address(key+".gateway", pool.Gateway, subnet)
	}

	if pool.IPRange != "" {
		r, err := netip.ParsePrefix(pool.IPRange)
		if err != nil || !subnet.Contains(r.Addr()) || r.Bits() < subnet.Bits() {
			t.refuse(key+".ip_range", fmt.Sprintf("%q is not a part of %s", pool.IPRange, subnet), "write a smaller subnet inside it")
		} else {
			within = r.Masked()
		}
	}

	for _, name := range slices.Sorted(maps.Keys(pool.AuxiliaryAddresses)) {
		a := t.address(key+".aux_addresses."+name, pool.AuxiliaryAddresses[name], subnet)
		if a.IsValid() {
			n.Reserved = append(n.Reserved, a)
		}
	}

	return gateway, within
}

// address parses an address that must lie in the subnet.
func (t *translation) address(key, text string, subnet netip.Prefix) netip.Addr {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		t.refuse(key, fmt.Sprintf("%q is not an address", text), `write it as "10.20.30.40"`)
	case !subnet.Contains(a) || a == subnet.Addr() || a == lastOf(subnet):
		t.refuse(key, fmt.Sprintf("%s is not an address for a host in %s", a, subnet), "choose another one inside the subnet")
	default:
		return a
	}

	return netip.Addr{}
}

// lastOf is the broadcast address of an IPv4 subnet; IPv6 has none.
func lastOf(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}

	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}

	return netip.AddrFrom4(b)
}
