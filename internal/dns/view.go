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
	// project is where a bare name is looked up first.
	project string
	// nets are the networks whose names and addresses are seen.
	nets []string
	// inside is the reason why foreign names are not asked for elsewhere; empty when they are.
	inside string
}

// Forwards tells whether foreign names are looked up elsewhere for this view: the RA flag (RFC 1035 4.1.1).
func (v View) Forwards() bool { return v.known && v.inside == "" }

// View finds out who asks from the address the question comes from and the one it arrives at. An instance
// sees all its networks, another address of a served network that network alone, the host everything, and
// anybody else nothing: an address routed here from the next bridge or the LAN is not a client.
func (z *Zone) View(local, src netip.Addr) View {
	local, src = plain(local), plain(src)
	if z == nil {
		return View{refused: "the agent does not know its networks yet"}
	}
	at, of := z.gateways[local], z.networkOf(src)
	switch {
	case src == local, z.gateways[src] != nil, of == nil && src.IsLoopback():
		return View{known: true, host: true}
	case of != nil && (at == nil || at == of):
		return z.clientView(of, src)
	}
	return View{refused: fmt.Sprintf("%s is on no network served at %s", src, local)}
}

// clientView is the view of an address inside a network.
func (z *Zone) clientView(n *Network, src netip.Addr) View {
	v := View{known: true, project: n.Project, nets: []string{n.Name}}
	if n.Internal {
		v.inside = fmt.Sprintf("network %s of %s is internal", n.Key, n.Project)
	}
	c := z.clients[src]
	switch {
	case c == nil || !slices.Contains(c.nets, n.Name):
	case c.disputed:
		return View{refused: fmt.Sprintf("%s is claimed by two instances", src)}
	default:
		v.project, v.nets = c.project, c.nets
	}
	return v
}

// networkOf returns the served network an address belongs to, or nil.
func (z *Zone) networkOf(a netip.Addr) *Network {
	for _, n := range z.nets {
		if n.holds(a) {
			return n
		}
	}
	return nil
}

// sees tells whether a name exists for the view.
func (v View) sees(n *node) bool {
	if n.origin {
		return true
	}
	if v.host {
		return n.apex || len(n.on) > 0
	}
	return slices.ContainsFunc(v.nets, func(net string) bool { return n.on[net] != nil })
}

// seesNet tells whether the view shares a network.
func (v View) seesNet(name string) bool { return v.host || slices.Contains(v.nets, name) }

// addrs returns the addresses of one family that the names have on the view's networks, sorted: the ready
// ones, or all that run when none is ready.
func (v View) addrs(nodes []*node, want4 bool) []netip.Addr {
	var up, ready []netip.Addr
	family := func(dst, src []netip.Addr) []netip.Addr {
		for _, a := range src {
			if a.Is4() == want4 {
				dst = append(dst, a)
			}
		}
		return dst
	}
	for _, n := range nodes {
		for net, m := range n.on {
			if v.seesNet(net) {
				up, ready = family(up, m.up), family(ready, m.ready)
			}
		}
	}
	if len(ready) > 0 {
		return sorted(ready)
	}
	return sorted(up)
}

// plain strips what makes equal addresses differ: the IPv4-in-IPv6 form and the zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
