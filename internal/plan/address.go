package plan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// V6 names the IPv6 half of a network where addresses and subnets are kept by network. It is no name that Incus
// takes for one.
func V6(network string) string { return network + "/6" }

// PickSubnet chooses the subnet of pool a new network gets (a /24, a /64 of IPv6): the first one, counted from a place
// that depends on the network's name, that overlaps nothing in taken. The same name and the same taken give the same
// subnet.
func PickSubnet(name string, pool netip.Prefix, taken []netip.Prefix) (netip.Prefix, error) {
	bits := 24
	if pool.Addr().Is6() {
		bits = 64
	}

	if !pool.IsValid() || pool.Bits() > bits {
		return netip.Prefix{}, fmt.Errorf("the address pool %s holds no subnet of size /%d", pool, bits)
	}

	count := 1 << min(bits-pool.Bits(), 16)
	sum := sha256.Sum256([]byte(name))
	first := int(sum[0])<<8 | int(sum[1])
	for i := range count {
		p := nthSubnet(pool, bits, (first+i)%count)
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p, nil
		}
	}

	return netip.Prefix{}, fmt.Errorf("every /%d of the address pool %s is taken: set network.pool in agent.toml to a larger range", bits, pool)
}

func nthSubnet(pool netip.Prefix, bits, n int) netip.Prefix {
	b := pool.Masked().Addr().AsSlice()
	for i := bits/8 - 1; i >= 0 && n > 0; i-- {
		n += int(b[i])
		b[i], n = byte(n), n>>8
	}

	a, _ := netip.AddrFromSlice(b)

	return netip.PrefixFrom(a, bits)
}

// Lease is one address asked for.
type Lease struct {
	// Network is the Incus network, Instance the instance on it.
	Network, Instance string
	// Fixed is the address the file asks for; the zero Addr lets the agent choose.
	Fixed netip.Addr
	// At is the place in the file, for errors.
	At Place
	// Service is the service the instance is one of.
	Service string
}

// Segment is a network that addresses are handed out from.
type Segment struct {
	Subnet  netip.Prefix
	Gateway netip.Addr
	// Range restricts the choice; the zero Prefix means the subnet.
	Range netip.Prefix
	// Reserved addresses are never chosen.
	Reserved []netip.Addr
}

// Allocate answers the leases asked for on one network. have are the addresses handed out before, by
// instance, which stay as they are; taken are those of others, with their names. Fixed addresses go first.
// What cannot be had is Blocked and has no address in the result.
func Allocate(seg Segment, asked []Lease, have map[string]netip.Addr, taken map[netip.Addr]string) (map[string]netip.Addr, []Blocked) {
	out := make(map[string]netip.Addr, len(asked))
	used := maps.Clone(taken)
	if used == nil {
		used = map[netip.Addr]string{}
	}

	used[seg.Gateway] = "the gateway"
	for _, a := range seg.Reserved {
		used[a] = "aux_addresses"
	}

	asked = slices.SortedFunc(slices.Values(asked), func(a, b Lease) int {
		return strings.Compare(a.Instance, b.Instance)
	})

	var blocked []Blocked
	for _, l := range asked {
		if !l.Fixed.IsValid() {
			continue
		}

		reason := refuseFixed(seg, l, used)
		if reason != "" {
			blocked = append(blocked, Blocked{On: ID{KindInstance, l.Instance}, Reason: reason, At: l.At, Service: l.Service})
			continue
		}

		out[l.Instance] = l.Fixed
		used[l.Fixed] = "instance " + l.Instance
	}

	for _, l := range asked {
		old, ok := have[l.Instance]
		if l.Fixed.IsValid() || !ok || used[old] != "" || !seg.Subnet.Contains(old) {
			continue
		}

		out[l.Instance] = old
		used[old] = "instance " + l.Instance
	}

	free := seg.pool().Masked().Addr() // all below it are taken
	for _, l := range asked {
		_, done := out[l.Instance]
		if l.Fixed.IsValid() || done {
			continue
		}

		a := nextFree(seg, free, used)
		if !a.IsValid() {
			blocked = append(blocked, Blocked{
				On: ID{KindInstance, l.Instance}, At: l.At, Service: l.Service,
				Reason: fmt.Sprintf("no free address is left in %s of network %s: give it a larger ipam subnet", seg.pool(), l.Network),
			})

			continue
		}

		out[l.Instance] = a
		used[a] = "instance " + l.Instance
		free = a.Next()
	}

	return out, blocked
}

func refuseFixed(seg Segment, l Lease, used map[netip.Addr]string) string {
	word := "ipv4_address"
	if l.Fixed.Is6() {
		word = "ipv6_address"
	}

	switch {
	case !seg.Subnet.Contains(l.Fixed):
		return fmt.Sprintf(word+" %s is outside the subnet %s of network %s", l.Fixed, seg.Subnet, l.Network)
	case used[l.Fixed] != "":
		return fmt.Sprintf(word+" %s of network %s is taken by %s", l.Fixed, l.Network, used[l.Fixed])
	case l.Fixed == seg.Subnet.Masked().Addr() || l.Fixed == lastAddr(seg.Subnet):
		return fmt.Sprintf(word+" %s is the network or broadcast address of %s", l.Fixed, seg.Subnet)
	}

	return ""
}

func (s Segment) pool() netip.Prefix {
	if s.Range.IsValid() {
		return s.Range
	}

	return s.Subnet
}

// nextFree is the first free address from a on, the zero Addr when there is none.
func nextFree(seg Segment, a netip.Addr, used map[netip.Addr]string) netip.Addr {
	pool := seg.pool()
	last := lastAddr(seg.Subnet)
	for ; pool.Contains(a) && a != last; a = a.Next() {
		if a != seg.Subnet.Masked().Addr() && used[a] == "" {
			return a
		}
	}

	return netip.Addr{}
}

// lastAddr is the broadcast address of an IPv4 subnet; IPv6 has none.
func lastAddr(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() {
		return netip.Addr{}
	}

	a := p.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v |= 1<<(32-p.Bits()) - 1

	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// hardwareAddr derives a locally administered MAC from the network and instance names, so that an instance
// keeps it through recreation.
func hardwareAddr(network, instance string) string {
	sum := sha256.Sum256([]byte(network + "\x00" + instance))

	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}
