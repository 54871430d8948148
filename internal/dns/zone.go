package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// Zone says what is answered to whom. It never changes; the nil Zone answers nobody.
type Zone struct {
	origin       string // "incus."
	serial       uint32
	ttl, missing uint32 // lifetimes of our data and of its absence, in seconds
	gen          uint64 // how many zones it was made from: nodes of this generation are its own
	nets         []*network
	gateways     map[netip.Addr]*network
	groups       []grouped
	nodes        table[string, *node]       // by absolute name, lower case
	bare         table[string, []string]    // the absolute names of a name without project and origin
	addrs        table[netip.Addr, []claim] // who has an address
	shapes       map[string]*shape
}

// network is a Network with what follows from it.
type network struct {
	Network
	index     int    // its place in Zone.nets
	guest     *shape // of clients that no record is known for
	inside    string // why its questions stay here; empty when they do not
	upstreams []netip.AddrPort
}

// entry is a Record with what follows from it.
type entry struct {
	Record
	shape  *shape
	target string // the instance's own name, absolute
}

// shape is what all clients that are told the same have in common. Equal ones are one pointer.
type shape struct {
	project   string
	nets      []string // sorted
	upstreams []netip.AddrPort
	hosts     map[string][]netip.Addr // by absolute name, lower case
}

// node is a name.
type node struct {
	name    string // absolute
	rel     string // without project and origin
	project string
	apex    bool // it has SOA and NS: the origin, or a project
	origin  bool // it is the origin, which everybody sees
	gen     uint64
	written int // seats somebody wrote; while there is one, those made from instances' names do not count
	on      []members
}

// members are who has a name on one network, and how many names below it are there.
type members struct {
	net         string
	wrote, made []seat
	below       int
}

// seat is an instance under a name; entry is nil for our own name server.
type seat struct {
	entry *entry
	addr  netip.Addr
}

// claim is an instance at an address.
type claim struct {
	net   string
	entry *entry
}

// Build makes the zone of all names below the origin ("incus"). Serial is the SOA's and must never go back.
// Names that no question can spell (a label over 63 bytes) are left out.
func Build(origin string, serial uint32, nets []Network, recs []Record) *Zone {
	return build(origin, serial, nets, []*Group{{Records: recs}})
}

func build(origin string, serial uint32, nets []Network, groups []*Group) *Zone {
	z := &Zone{
		origin: miekg.CanonicalName(origin), serial: serial, ttl: usualTTL, missing: usualMissing,
		gateways: map[netip.Addr]*network{}, shapes: map[string]*shape{},
	}
	root := z.node("", "", z.origin)
	root.apex, root.origin = true, true
	for i := range nets {
		z.addNetwork(nets[i])
	}
	z.regroup(nil, groups)
	return z
}

// Next makes the zone that Build would make of these networks and the records of all groups, sharing with z whatever
// did not change: a changed record among thousands costs a fraction of a millisecond. The nil Zone cannot be continued.
func (z *Zone) Next(serial uint32, nets []Network, groups ...*Group) *Zone {
	same := slices.EqualFunc(z.nets, nets, func(a *network, b Network) bool { return a.equal(&b) })
	if !same {
		return build(z.origin, serial, nets, groups).Lasting(z.ttl)
	}
	next := *z
	next.serial, next.gen = serial, z.gen+1
	next.nodes, next.bare, next.addrs = z.nodes.sealed(), z.bare.sealed(), z.addrs.sealed()
	next.shapes = maps.Clone(z.shapes)
	next.regroup(z.groups, groups)
	return &next
}

// Lasting returns the zone with another lifetime of its data, in seconds: at most 60, and 0 for none. What is
// missing is missing for no longer than that, nor than two seconds. Without it, the lifetime is five.
func (z *Zone) Lasting(ttl uint32) *Zone {
	c := *z
	c.nodes, c.bare, c.addrs = z.nodes.sealed(), z.bare.sealed(), z.addrs.sealed()
	c.ttl = min(ttl, longestTTL)
	c.missing = min(c.ttl, usualMissing)
	return &c
}

// Serial is the SOA's.
func (z *Zone) Serial() uint32 { return z.serial }

// TTL is the lifetime of its data, in seconds.
func (z *Zone) TTL() uint32 { return z.ttl }

// Names is how many names the zone has, the origin and the projects included.
func (z *Zone) Names() int {
	if z == nil {
		return 0
	}
	return z.nodes.len()
}

func (z *Zone) addNetwork(n Network) {
	own := &network{Network: n, index: len(z.nets), upstreams: n.Upstreams}
	own.guest = z.shape(n.Project, []string{n.Name}, nil, nil)
	if n.Internal {
		own.upstreams = onNetwork(n.Upstreams, &n)
		if len(own.upstreams) == 0 {
			own.inside = "network " + n.Key + " of " + n.Project + " is internal"
		}
	}
	z.nets = append(z.nets, own)
	z.apex(n.Project).at(n.Name).below++
	server := z.node("", "", "ns."+z.origin)
	for _, gw := range []netip.Addr{n.Gateway, n.Gateway6} {
		if gw.IsValid() {
			z.gateways[gw] = own
			m := server.at(n.Name)
			m.wrote = append(m.wrote, seat{addr: gw})
			server.written++
		}
	}
}

// onNetwork keeps the servers that have an address on the network.
func onNetwork(servers []netip.AddrPort, n *Network) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(servers), func(s netip.AddrPort) bool { return !n.holds(s.Addr()) })
}

func (z *Zone) entry(r Record) *entry {
	nets := make([]string, 0, len(r.On))
	for _, on := range r.On {
		nets = append(nets, on.Network)
	}
	slices.Sort(nets)
	return &entry{
		Record: r, shape: z.shape(r.Project, slices.Compact(nets), r.Upstreams, r.Hosts),
		target: miekg.CanonicalName(r.Instance + "." + r.Project + "." + z.origin),
	}
}

// shape returns the one shape of these contents.
func (z *Zone) shape(project string, nets []string, upstreams []netip.AddrPort, hosts []Host) *shape {
	var key strings.Builder
	key.WriteString(project)
	for _, n := range nets {
		key.WriteString("\x00" + n)
	}
	for _, u := range upstreams {
		key.WriteString("\x01" + u.String())
	}
	for _, h := range hosts {
		key.WriteString("\x02" + h.Name + " " + h.Addr.String())
	}
	s := z.shapes[key.String()]
	if s == nil {
		s = &shape{project: project, nets: nets, upstreams: upstreams}
		for _, h := range hosts {
			if s.hosts == nil {
				s.hosts = map[string][]netip.Addr{}
			}
			name := miekg.CanonicalName(h.Name)
			s.hosts[name] = append(s.hosts[name], h.Addr)
		}
		z.shapes[key.String()] = s
	}
	return s
}
