package dns

import (
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// part is what a name means of the name below it.
type part int

const (
	itself   part = iota // web.shop.incus
	everyone             // tasks.web.shop.incus: all that run
	service              // _http._tcp.web.shop.incus (RFC 2782)
	protocol             // _tcp.web.shop.incus: nothing but names below it
	reasons              // _why.web.shop.incus
	plans                // _plan.web.shop.incus
)

// matched is what a question's name stands for.
type matched struct {
	part        part
	nodes       []*node
	port, proto string // of a service, without the underscores
}

// match finds what a name in lower case means to the view. Names that somebody gave come first, then those that
// every name has below it. Base finds the former.
func (z *Zone) match(v View, name string, base func(View, string) []*node) (matched, bool) {
	nodes := base(v, name)
	if len(nodes) > 0 {
		return matched{nodes: nodes}, true
	}
	first, rest, _ := strings.Cut(name, ".")
	if rest == "" {
		return matched{}, false
	}
	m := matched{}
	switch {
	case first == "tasks":
		m.part = everyone
	case first == "_why":
		m.part = reasons
	case first == "_plan":
		m.part = plans
	case first == "_tcp" || first == "_udp":
		m.part, m.proto = protocol, first[1:]
	case len(first) > 1 && first[0] == '_':
		proto, under, _ := strings.Cut(rest, ".")
		if proto != "_tcp" && proto != "_udp" {
			return matched{}, false
		}
		m.part, m.port, m.proto, rest = service, first[1:], proto[1:], under
	default:
		return matched{}, false
	}
	m.nodes = base(v, rest)
	apex := len(m.nodes) > 0 && m.nodes[0].apex
	switch {
	case len(m.nodes) == 0, apex && m.part != reasons && m.part != plans:
		return matched{}, false
	case m.part == service || m.part == protocol:
		offers := slices.ContainsFunc(v.all(m.nodes), func(f found) bool { return f.offers(m.port, m.proto) != nil })
		return m, offers
	}
	return m, true
}

// ownNodes returns the name below the origin, when the view sees it.
func (z *Zone) ownNodes(v View, name string) []*node {
	n := z.nodes.get(name)
	if n == nil || !v.sees(n) {
		return nil
	}
	return []*node{n}
}

// bareNodes returns what a name outside our zones means to the view: the name of its own project, else that
// of any project it shares a network with, as compose files that meet on an external network expect.
func (z *Zone) bareNodes(v View, name string) []*node {
	if v.shape == nil {
		return nil
	}
	var others []*node
	for _, abs := range z.bare.get(relative(name)) {
		n := z.nodes.get(abs)
		if !n.exists(v) {
			continue
		}
		if n.project == v.shape.project {
			return []*node{n}
		}
		others = append(others, n)
	}
	return others
}

// usualNames are what RFC 6335 registers for the ports that compose files publish most.
var usualNames = map[uint16]string{
	22: "ssh", 25: "smtp", 53: "domain", 80: "http", 110: "pop3", 143: "imap", 389: "ldap", 443: "https",
	465: "submissions", 587: "submission", 636: "ldaps", 993: "imaps", 995: "pop3s", 1883: "mqtt", 3306: "mysql",
	5432: "postgresql", 5672: "amqp", 6379: "redis", 8080: "http-alt", 8883: "secure-mqtt", 27017: "mongodb",
}

// offers returns the ports of the instance that go by a name or a number; an empty name takes all of the
// protocol.
func (s seat) offers(name, proto string) []Port {
	if s.entry == nil {
		return nil
	}
	var out []Port
	for _, p := range s.entry.Ports {
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		if !strings.EqualFold(p.Protocol, proto) {
			continue
		}
		known := strings.EqualFold(p.Name, name) || usualNames[p.Number] == name || itoa(p.Number) == name
		if name == "" || known {
			out = append(out, p)
		}
	}
	return out
}

// services answers with the ports of the instances that are answered for the name itself, and their addresses.
func (z *Zone) services(v View, q Question, m matched, zone string) Answer {
	if q.Type != miekg.TypeSRV {
		return z.negative(miekg.RcodeSuccess, zone)
	}
	var a Answer
	glue := map[string][]found{}
	for _, f := range pick(v.all(m.nodes), family(q.Type)) {
		target := z.nodes.get(f.entry.target)
		if target == nil || !slices.ContainsFunc(v.all([]*node{target}), func(o found) bool { return o.entry == f.entry }) {
			continue // the instance's name means another one
		}
		_, seen := glue[f.entry.target]
		glue[f.entry.target] = append(glue[f.entry.target], f)
		if seen {
			continue
		}
		for _, p := range f.offers(m.port, m.proto) {
			a.RRs = append(a.RRs, &miekg.SRV{Hdr: z.header(q.Name, miekg.TypeSRV), Port: p.Number, Target: f.entry.target})
		}
	}
	slices.SortFunc(a.RRs, func(x, y miekg.RR) int { return strings.Compare(x.String(), y.String()) })
	for _, r := range a.RRs {
		target := r.(*miekg.SRV).Target
		a.Extra = append(a.Extra, z.addressRRs(target, v.nearestFirst(glue[target]))...)
		delete(glue, target)
	}
	if len(a.RRs) == 0 {
		return z.negative(miekg.RcodeSuccess, zone)
	}
	a.Authoritative = true
	return a
}
