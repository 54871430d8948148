package dns

import (
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// Network is a managed network whose clients we serve.
type Network struct {
	// Name is the Incus network's name; Interface.Network refers to it.
	Name string
	// Key is the network's name in its compose file, used in texts.
	Key string
	// Project is the Incus project of the stack that owns it: the zone label, and the project of clients
	// that no record is known for.
	Project string
	// Prefix and Prefix6 hold the clients' addresses; the zero Prefix means that there are none.
	Prefix, Prefix6 netip.Prefix
	// Gateway and Gateway6 are the host's own addresses on the network, where we listen; may be zero.
	Gateway, Gateway6 netip.Addr
	// Internal networks have no way out, and so no question that arrives on them leaves the host.
	Internal bool
}

// holds tells whether an address is one of the network's.
func (n *Network) holds(a netip.Addr) bool { return n.Prefix.Contains(a) || n.Prefix6.Contains(a) }

// Record is an instance and the names it is known by.
type Record struct {
	// Project is the Incus project, which is the label below the origin: "shop" in web.shop.incus.
	Project string
	// Service is the compose service's key.
	Service string
	// Instance is the Incus instance's name. Empty, the record only declares its names: a service that
	// has no instance yet answers "no data" instead of "no such name".
	Instance string
	// Names are further names on all its networks: container_name, hostname.
	Names []string
	// On are its NICs, in any order.
	On []Interface
	// Up is whether it runs. One that does not keeps its names and answers no address.
	Up bool
	// Unready is whether its health check has not passed. Such an instance is left out of a name's
	// addresses as long as a ready one shares the name.
	Unready bool
}

// Interface is an instance on a network.
type Interface struct {
	// Network is the Incus network's name, which need not be one that we serve.
	Network string
	// Addr is the address there; the zero Addr while it is not known. A dual-stack NIC is two Interfaces.
	Addr netip.Addr
	// Aliases are further names on this network alone. One with a dot in it ("auth.example.com") is also
	// answered as it stands, in place of the public name.
	Aliases []string
}

// Zone says what is answered to whom. It never changes; the nil Zone answers nobody.
type Zone struct {
	origin   string // "incus."
	serial   uint32
	nets     []*Network
	gateways map[netip.Addr]*Network
	nodes    map[string]*node   // by absolute name, lower case
	bare     map[string][]*node // by the name without project and origin
	pointers map[netip.Addr][]pointer
	clients  map[netip.Addr]*client
}

// node is a name.
type node struct {
	project  string
	apex     bool // it has SOA and NS: the origin, or a project
	origin   bool // it is the origin, which everybody sees
	explicit bool // somebody wrote this name, it was not made from an instance's
	on       map[string]*members
}

// members are the addresses of a name on one network. Both are sorted; ready is a subset of up.
type members struct{ up, ready []netip.Addr }

// pointer is the name behind an address.
type pointer struct{ network, target string }

// client is what we know of an address that asks.
type client struct {
	project, instance string
	nets              []string
	up                bool
	disputed          bool // two instances claim the address: neither is believed
}

// Build makes the zone of all names below the origin ("incus"). Serial is the SOA's and must never go back.
// Names that no question can spell (a label over 63 bytes) are left out.
func Build(origin string, serial uint32, nets []Network, recs []Record) *Zone {
	z := &Zone{
		origin: miekg.CanonicalName(origin), serial: serial,
		gateways: map[netip.Addr]*Network{}, nodes: map[string]*node{}, bare: map[string][]*node{},
		pointers: map[netip.Addr][]pointer{}, clients: map[netip.Addr]*client{},
	}
	z.nodes[z.origin] = &node{apex: true, origin: true, on: map[string]*members{}}
	for i := range nets {
		z.addNetwork(nets[i])
	}
	for i := range recs {
		z.addNames(&recs[i])
		z.addClient(&recs[i])
	}
	// Last, because a name somebody wrote wins over one made from an instance's: a service "web-1" is not
	// mixed with the first replica of "web".
	for i := range recs {
		z.addInstance(&recs[i])
	}
	for _, n := range z.nodes {
		for _, m := range n.on {
			m.up, m.ready = sorted(m.up), sorted(m.ready)
		}
	}
	return z
}

// Names is how many names the zone has, the origin and the projects included.
func (z *Zone) Names() int {
	if z == nil {
		return 0
	}
	return len(z.nodes)
}

func sorted(addrs []netip.Addr) []netip.Addr {
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func (z *Zone) addNetwork(n Network) {
	z.nets = append(z.nets, &n)
	z.apex(n.Project).at(n.Name)
	server := z.node("", "ns."+z.origin)
	server.explicit = true
	for _, gw := range []netip.Addr{n.Gateway, n.Gateway6} {
		if gw.IsValid() {
			z.gateways[gw] = &n
			server.at(n.Name).add(gw, true)
		}
	}
}

// apex returns the node of a project.
func (z *Zone) apex(project string) *node {
	n := z.node("", miekg.CanonicalName(project+"."+z.origin))
	n.apex = true
	return n
}

// node returns the node of an absolute name, made when missing.
func (z *Zone) node(project, name string) *node {
	n := z.nodes[name]
	if n == nil {
		n = &node{project: project, on: map[string]*members{}}
		z.nodes[name] = n
	}
	return n
}

// at returns the name's addresses on a network, and so declares the name there.
func (n *node) at(network string) *members {
	m := n.on[network]
	if m == nil {
		m = &members{}
		n.on[network] = m
	}
	return m
}

func (m *members) add(a netip.Addr, ready bool) {
	m.up = append(m.up, a)
	if ready {
		m.ready = append(m.ready, a)
	}
}

// addNames adds the names somebody wrote.
func (z *Zone) addNames(r *Record) {
	z.apex(r.Project)
	for _, on := range r.On {
		for _, name := range slices.Concat([]string{r.Service}, r.Names, on.Aliases) {
			z.add(r, on, name, true)
		}
	}
}

// addInstance adds the name of the instance itself, and the way back from its addresses.
func (z *Zone) addInstance(r *Record) {
	if r.Instance == "" {
		return
	}
	target := miekg.CanonicalName(r.Instance + "." + r.Project + "." + z.origin)
	for _, on := range r.On {
		z.add(r, on, r.Instance, false)
		if r.Up && on.Addr.IsValid() {
			z.pointers[on.Addr] = append(z.pointers[on.Addr], pointer{on.Network, target})
		}
	}
}

// add puts an instance on one network under a name relative to its project.
func (z *Zone) add(r *Record, on Interface, name string, explicit bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	zone := miekg.CanonicalName(r.Project + "." + z.origin)
	full := name + "." + zone
	if _, ok := miekg.IsDomainName(full); !ok || name == "" {
		return
	}
	n := z.nodes[full]
	if n != nil && n.explicit && !explicit {
		return
	}
	n = z.node(r.Project, full)
	n.explicit = n.explicit || explicit
	m := n.at(on.Network)
	if r.Up && on.Addr.IsValid() {
		m.add(on.Addr, !r.Unready)
	}
	if !slices.Contains(z.bare[name], n) {
		z.bare[name] = append(z.bare[name], n)
	}
	// Every name on the way up to the project exists too, with nothing but names below it (RFC 8020).
	for full = parent(full); len(full) > len(z.origin); full = parent(full) {
		z.node(r.Project, full).at(on.Network)
	}
}

// parent cuts the first label off an absolute name that has one.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

func (z *Zone) addClient(r *Record) {
	nets := make([]string, 0, len(r.On))
	for _, on := range r.On {
		nets = append(nets, on.Network)
	}
	slices.Sort(nets)
	c := client{project: r.Project, instance: r.Instance, nets: slices.Compact(nets), up: r.Up}
	for _, on := range r.On {
		if !on.Addr.IsValid() {
			continue
		}
		old := z.clients[on.Addr]
		switch {
		case old == nil || c.up && !old.up:
			mine := c
			z.clients[on.Addr] = &mine
		case old.up == c.up && (old.project != c.project || old.instance != c.instance):
			old.disputed = true
		}
	}
}
