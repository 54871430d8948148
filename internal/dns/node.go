package dns

import (
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// apex returns the node of a project, to be changed.
func (z *Zone) apex(project string) *node {
	n := z.node("", project, miekg.CanonicalName(project+"."+z.origin))
	n.apex = true
	return n
}

// node returns the node of an absolute name, made when missing, to be changed.
func (z *Zone) node(rel, project, name string) *node {
	n := z.nodes.get(name)
	switch {
	case n == nil:
		n = &node{name: name, rel: rel, project: project, gen: z.gen}
	case n.gen != z.gen:
		c := *n
		c.gen = z.gen
		c.on = slices.Clone(n.on)
		for i := range c.on {
			c.on[i].wrote, c.on[i].made = slices.Clone(c.on[i].wrote), slices.Clone(c.on[i].made)
		}
		n = &c
	default:
		return n
	}
	z.nodes.writable(name)[name] = n
	return n
}

// at returns the name's members on a network, made when missing.
func (n *node) at(network string) *members {
	m := n.find(network)
	if m == nil {
		n.on = append(n.on, members{net: network})
		m = &n.on[len(n.on)-1]
	}
	return m
}

// find returns the name's members on a network; nil when there are none.
func (n *node) find(network string) *members {
	for i := range n.on {
		if n.on[i].net == network {
			return &n.on[i]
		}
	}
	return nil
}

// seats are who is answered under the name on a network.
func (n *node) seats(m *members) []seat {
	if n.written > 0 {
		return m.wrote
	}
	return m.made
}

// exists tells whether the name is one on a network of the view.
func (n *node) exists(v View) bool {
	for i := range n.on {
		m := &n.on[i]
		if v.seesNet(m.net) && (m.below > 0 || len(n.seats(m)) > 0) {
			return true
		}
	}
	return false
}

// each calls f for every name of a record on every of its networks: the names somebody wrote, then the
// instance's own. A name somebody wrote wins over one made from an instance's: a service "web-1" is not mixed
// with the first replica of "web".
func (z *Zone) each(e *entry, f func(name string, on *Interface, e *entry, written bool)) {
	for i := range e.On {
		on := &e.On[i]
		f(e.Service, on, e, true)
		for _, name := range e.Names {
			f(name, on, e, true)
		}
		for _, name := range on.Aliases {
			f(name, on, e, true)
		}
		if e.Instance != "" {
			f(e.Instance, on, e, false)
		}
	}
}

// full returns the absolute form of a name relative to its project; ok is false when no question can spell it.
func (z *Zone) full(e *entry, name string) (rel, abs string, ok bool) {
	rel = strings.ToLower(strings.TrimSuffix(name, "."))
	abs = rel + "." + miekg.CanonicalName(e.Project+"."+z.origin)
	_, spelled := miekg.IsDomainName(abs)
	return rel, abs, spelled && rel != ""
}

// insert puts an instance on one network under a name relative to its project.
func (z *Zone) insert(name string, on *Interface, e *entry, written bool) {
	rel, abs, ok := z.full(e, name)
	if !ok {
		return
	}
	n := z.node(rel, e.Project, abs)
	n.rel = rel
	m := n.at(on.Network)
	if written {
		m.wrote = append(m.wrote, seat{e, on.Addr})
		n.written++
	} else {
		m.made = append(m.made, seat{e, on.Addr})
	}
	if !slices.Contains(z.bare.get(rel), abs) {
		names := append(slices.Clone(z.bare.get(rel)), abs)
		slices.Sort(names)
		z.bare.writable(rel)[rel] = names
	}
	// Every name on the way up to the project exists too, with nothing but names below it (RFC 8020).
	for up := parent(abs); len(up) > len(z.origin); up = parent(up) {
		p := z.node("", e.Project, up)
		p.apex = p.apex || parent(up) == z.origin
		p.at(on.Network).below++
	}
}

// remove undoes insert.
func (z *Zone) remove(name string, on *Interface, e *entry, written bool) {
	rel, abs, ok := z.full(e, name)
	if !ok {
		return
	}
	n := z.node(rel, e.Project, abs)
	m := n.at(on.Network)
	mine := func(s seat) bool { return s.entry == e && s.addr == on.Addr }
	if written {
		i := slices.IndexFunc(m.wrote, mine)
		m.wrote = slices.Delete(m.wrote, i, i+1)
		n.written--
	} else {
		i := slices.IndexFunc(m.made, mine)
		m.made = slices.Delete(m.made, i, i+1)
	}
	z.tidy(n, on.Network)
	for up := parent(abs); len(up) > len(z.origin); up = parent(up) {
		p := z.node("", e.Project, up)
		p.at(on.Network).below--
		z.tidy(p, on.Network)
	}
}

// tidy forgets a name on a network where nobody has it any more, and altogether when that was the last.
func (z *Zone) tidy(n *node, network string) {
	m := n.find(network)
	if m.below > 0 || len(m.wrote) > 0 || len(m.made) > 0 {
		z.unbare(n)
		return
	}
	n.on = slices.DeleteFunc(n.on, func(m members) bool { return m.net == network })
	z.unbare(n)
	if len(n.on) == 0 {
		delete(z.nodes.writable(n.name), n.name)
	}
}

// unbare takes a name that nobody has any more from the bare ones.
func (z *Zone) unbare(n *node) {
	had := func(m members) bool { return len(m.wrote) > 0 || len(m.made) > 0 }
	if slices.ContainsFunc(n.on, had) || !slices.Contains(z.bare.get(n.rel), n.name) {
		return
	}
	names := slices.DeleteFunc(slices.Clone(z.bare.get(n.rel)), func(s string) bool { return s == n.name })
	if len(names) == 0 {
		delete(z.bare.writable(n.rel), n.rel)
		return
	}
	z.bare.writable(n.rel)[n.rel] = names
}

// parent cuts the first label off an absolute name that has one.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// claim notes who has which address.
func (z *Zone) claim(e *entry) {
	for _, on := range e.On {
		if on.Addr.IsValid() {
			z.addrs.writable(on.Addr)[on.Addr] = append(slices.Clip(z.addrs.get(on.Addr)), claim{on.Network, e})
		}
	}
}

func (z *Zone) unclaim(e *entry) {
	for _, on := range e.On {
		if !on.Addr.IsValid() {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(z.addrs.get(on.Addr)), func(c claim) bool { return c.entry == e })
		if len(left) == 0 {
			delete(z.addrs.writable(on.Addr), on.Addr)
		} else {
			z.addrs.writable(on.Addr)[on.Addr] = left
		}
	}
}

// client returns who has an address on a network: the instance that runs, when several claim it. Disputed says
// that two do with the same right, and so neither is believed.
func (z *Zone) client(a netip.Addr, network string) (e *entry, disputed bool) {
	for _, c := range z.addrs.get(a) {
		switch {
		case c.net != network:
		case e == nil || c.entry.Up && !e.Up:
			e, disputed = c.entry, false
		case c.entry.Up == e.Up && (c.entry.Project != e.Project || c.entry.Instance != e.Instance):
			disputed = true
		}
	}
	return e, disputed
}
