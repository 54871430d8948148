package dns

import (
	"fmt"
	"net/netip"
	"slices"
)

// View is who asks, as far as it matters for the answer. The zero View is refused everything.
type View struct {
	// known is false for strangers; refused then says why.
	known   bool
	refused string
	// host sees every name of every network.
	host bool
	// lan is whether it is a machine beyond our networks that is told what the host is, but for foreign names.
	lan bool
	// shape says where a bare name is looked up first and which networks are seen; nil for the host.
	shape *shape
	// member is whether the address is an instance's that we know.
	member bool
	// net is the network the question comes from; nil for the host.
	net *network
	// inside is the reason why foreign names are not asked for elsewhere; empty when they are.
	inside string
	// upstreams are who is asked for foreign names; none means the host's resolvers.
	upstreams []netip.AddrPort
}

// Forwards tells whether foreign names are looked up elsewhere for this view: the RA flag (RFC 1035 4.1.1).
func (v View) Forwards() bool { return v.known && v.inside == "" }

// client is whom limits count for an address: an instance, an IPv4 address, or an IPv6 /64, inside which anybody may
// choose addresses.
func (v View) client(src netip.Addr) netip.Addr {
	if v.member || !src.Is6() {
		return src
	}
	p, _ := src.Prefix(64) // cannot fail: it fits the family
	return p.Addr()
}

// String names the view as counters and logs do: the network, "host", "lan", or "stranger".
func (v View) String() string {
	switch {
	case v.lan:
		return "lan"
	case v.net != nil:
		return v.net.Name
	case v.host:
		return "host"
	}
	return "stranger"
}

// View finds out who asks from the address the question comes from and the one it arrives at. An instance
// sees all its networks, another address of a served network that network alone, the host everything, and
// anybody else nothing: an address routed here from the next bridge or the LAN is not a client.
func (z *Zone) View(local, src netip.Addr) View {
	local, src = plain(local), plain(src)
	if z == nil {
		return View{refused: "the agent does not know its networks yet"}
	}
	at := z.gateways[local]
	if at != nil && at.holds(src) && src != at.Gateway && src != at.Gateway6 {
		return z.clientView(at, src)
	}
	of := z.networkOf(src)
	switch {
	case src == local, z.gateways[src] != nil, of == nil && src.IsLoopback():
		return View{known: true, host: true}
	case of != nil && at == nil:
		return z.clientView(of, src)
	}
	return View{refused: fmt.Sprintf("%s is on no network served at %s", src, local)}
}

// clientView is the view of an address inside a network.
func (z *Zone) clientView(n *network, src netip.Addr) View {
	v := View{known: true, shape: n.guest, net: n, inside: n.inside, upstreams: n.upstreams}
	e, disputed := z.client(src, n.Name)
	switch {
	case e == nil:
	case disputed:
		return View{refused: fmt.Sprintf("%s is claimed by two instances", src)}
	default:
		v.shape, v.member = e.shape, true
		if len(e.Upstreams) > 0 && !n.Internal {
			v.upstreams = e.Upstreams
		}
	}
	return v
}

// networkOf returns the served network an address belongs to, or nil.
func (z *Zone) networkOf(a netip.Addr) *network {
	for _, n := range z.nets {
		if n.holds(a) {
			return n
		}
	}
	return nil
}

// sees tells whether a name exists for the view.
func (v View) sees(n *node) bool {
	if n.origin || v.host && n.apex {
		return true
	}
	return n.exists(v)
}

// seesNet tells whether the view shares a network.
func (v View) seesNet(name string) bool {
	return v.host || v.shape != nil && slices.Contains(v.shape.nets, name)
}

// found is a seat together with the network it is on.
type found struct {
	seat
	net string
}

// all returns everybody under the names on the view's networks.
func (v View) all(nodes []*node) []found {
	var out []found
	for _, n := range nodes {
		for i := range n.on {
			m := &n.on[i]
			if !v.seesNet(m.net) {
				continue
			}
			for _, s := range n.seats(m) {
				out = append(out, found{s, m.net})
			}
		}
	}
	return out
}

// pick returns who of them is answered: those that are ready, or all that run when none is; never one that is
// about to stop. Whose address is not known is left out.
func pick(all []found, family func(netip.Addr) bool) []found {
	var up, ready []found
	for _, f := range all {
		if !f.addr.IsValid() || !family(f.addr) || f.entry != nil && !f.entry.serving() {
			continue
		}
		up = append(up, f)
		if f.entry == nil || !f.entry.Unready {
			ready = append(ready, f)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return up
}

// alive returns all that run, whatever their health: who "tasks.<name>" lists.
func alive(all []found, family func(netip.Addr) bool) []found {
	return slices.DeleteFunc(all, func(f found) bool {
		return !f.addr.IsValid() || !family(f.addr) || f.entry == nil || !f.entry.Up
	})
}

// nearestFirst sorts addresses: those on the network the question came from before the others, each by value.
func (v View) nearestFirst(all []found) []netip.Addr {
	near := func(a netip.Addr) int {
		if v.net != nil && v.net.holds(a) {
			return 0
		}
		return 1
	}
	out := make([]netip.Addr, 0, len(all))
	for _, f := range all {
		out = append(out, f.addr)
	}
	slices.SortFunc(out, func(a, b netip.Addr) int {
		if d := near(a) - near(b); d != 0 {
			return d
		}
		return a.Compare(b)
	})
	return slices.Compact(out)
}

// near tells how many of the sorted addresses are on the network the question came from.
func (v View) near(addrs []netip.Addr) int {
	if v.net == nil {
		return 0
	}
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return !v.net.holds(a) })
	if i < 0 {
		return len(addrs)
	}
	return i
}

// plain strips what makes equal addresses differ: the IPv4-in-IPv6 form and the zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
