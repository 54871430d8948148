package dns

import (
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// Overview is what a zone has, in numbers.
type Overview struct {
	// Origin is its name without the last dot: "incus".
	Origin string
	Serial uint32
	TTL    uint32
	// Views are the networks whose clients are answered, in their order; Projects the zones below the origin, by name.
	Views    []ViewOverview
	Projects []ProjectOverview
}

// ViewOverview is a network whose clients are answered.
type ViewOverview struct {
	// Name is Incus's name of it, Key its short name, Project whose it is.
	Name, Key, Project string
	Subnets            []netip.Prefix
	// Gateways are where its clients ask; none when another server has the gateway.
	Gateways []netip.Addr
	// Clients is how many instances are known there.
	Clients int
	// Inside says why foreign names are not asked for elsewhere; Upstreams are who is asked for them, none means the
	// host's.
	Inside    string
	Upstreams []netip.AddrPort
}

// ProjectOverview is the zone of one project.
type ProjectOverview struct {
	// Name is the project's, Zone its zone without the last dot.
	Name, Zone string
	// Names is how many names it has, Instances how many are known, Answered how many of those run and are not about
	// to stop.
	Names, Instances, Answered int
}

// Overview counts; the nil Zone has nothing.
func (z *Zone) Overview() Overview {
	if z == nil {
		return Overview{}
	}
	o := Overview{Origin: relative(z.origin), Serial: z.serial, TTL: z.ttl, Projects: z.projects()}
	clients := map[string]int{}
	for e := range z.everybody() {
		for _, net := range e.shape.nets {
			if e.Instance != "" {
				clients[net]++
			}
		}
	}
	for _, n := range z.nets {
		v := ViewOverview{
			Name: n.Name, Key: n.Key, Project: n.Project, Clients: clients[n.Name], Inside: n.inside, Upstreams: n.upstreams,
		}
		for _, p := range []netip.Prefix{n.Prefix, n.Prefix6} {
			if p.IsValid() {
				v.Subnets = append(v.Subnets, p)
			}
		}
		for _, gw := range []netip.Addr{n.Gateway, n.Gateway6} {
			if gw.IsValid() {
				v.Gateways = append(v.Gateways, gw)
			}
		}
		o.Views = append(o.Views, v)
	}
	return o
}

// projects counts what each has.
func (z *Zone) projects() []ProjectOverview {
	by := map[string]*ProjectOverview{}
	for e := range z.everybody() {
		p := by[e.Project]
		if p == nil {
			p = &ProjectOverview{Name: e.Project, Zone: relative(miekg.CanonicalName(e.Project + "." + z.origin))}
			by[e.Project] = p
		}
		if e.Instance != "" {
			p.Instances++
		}
		if e.Instance != "" && e.serving() {
			p.Answered++
		}
	}
	for _, shard := range z.nodes.shard {
		for _, n := range shard {
			p := by[n.project]
			if p != nil && !n.apex {
				p.Names++
			}
		}
	}
	var out []ProjectOverview
	for _, p := range by {
		out = append(out, *p)
	}
	slices.SortFunc(out, func(a, b ProjectOverview) int { return strings.Compare(a.Name, b.Name) })
	return out
}
