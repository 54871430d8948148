package dns

import (
	"net/netip"
	"slices"
	"time"
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
	// Beside is where the host itself asks when the gateway, an address of the host's too, is another server's; the zero
	// AddrPort means nowhere.
	Beside netip.AddrPort
	// Internal networks have no way out, and so no question that arrives on them leaves the host.
	Internal bool
	// Upstreams are asked for foreign names in place of the host's resolvers; none means those. On an
	// internal network only the ones with an address on it are asked: they cannot lead out.
	Upstreams []netip.AddrPort
}

// holds tells whether an address is one of the network's.
func (n *Network) holds(a netip.Addr) bool { return n.Prefix.Contains(a) || n.Prefix6.Contains(a) }

func (n *Network) equal(o *Network) bool {
	return n.Name == o.Name && n.Key == o.Key && n.Project == o.Project && n.Prefix == o.Prefix &&
		n.Prefix6 == o.Prefix6 && n.Gateway == o.Gateway && n.Gateway6 == o.Gateway6 && n.Beside == o.Beside && n.Internal == o.Internal &&
		slices.Equal(n.Upstreams, o.Upstreams)
}

// Record is an instance and the names it is known by. Once it is in a zone, its slices must not change.
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
	// Ports are what it offers, published or exposed, as SRV records below each of its names.
	Ports []Port
	// Up is whether it runs. One that does not keeps its names and answers no address.
	Up bool
	// Unready is whether its health check has not passed. Such an instance is left out of a name's
	// addresses as long as a ready one shares the name.
	Unready bool
	// Draining is whether it is about to be stopped. It is left out of all names but "tasks.<name>", also
	// when it is the last.
	Draining bool
	// State and Reason are the words of the "_why" record for how it is and for what cause; an empty State
	// is made from Up, Unready and Draining. Since is when that began; the zero Time leaves the age out.
	State, Reason string
	Since         time.Time
	// Plan is what the agent will do with it next, the words of the "_plan" record; empty when nothing is due.
	Plan string
	// Upstreams are asked for foreign names by this instance, before its network's; none means those.
	Upstreams []netip.AddrPort
	// Hosts are names that this instance alone is told, before all others; none are.
	Hosts []Host
}

// Host is a name with an address that only one instance knows.
type Host struct {
	// Name is absolute or not, in any case.
	Name string
	Addr netip.Addr
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

// Port is a port that an instance offers.
type Port struct {
	// Number is the port inside the instance; that is where an SRV record sends clients.
	Number uint16
	// Protocol is "tcp" or "udp"; empty means "tcp".
	Protocol string
	// Name is the service of RFC 6335, "http" in _http._tcp.web.shop.incus; the number ("_80._tcp") always
	// works, and so does the usual name of a well-known port.
	Name string
}

// shared tells whether two slices are one in memory.
func shared[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

func (r *Record) equal(o *Record) bool {
	sameOn := func(a, b Interface) bool {
		return a.Network == b.Network && a.Addr == b.Addr && slices.Equal(a.Aliases, b.Aliases)
	}
	return r.Project == o.Project && r.Service == o.Service && r.Instance == o.Instance && r.Up == o.Up &&
		r.Unready == o.Unready && r.Draining == o.Draining && r.State == o.State && r.Reason == o.Reason &&
		r.Plan == o.Plan && r.Since.Equal(o.Since) && slices.Equal(r.Names, o.Names) &&
		(shared(r.On, o.On) || slices.EqualFunc(r.On, o.On, sameOn)) && slices.Equal(r.Ports, o.Ports) &&
		slices.Equal(r.Upstreams, o.Upstreams) && slices.Equal(r.Hosts, o.Hosts)
}

// serving tells whether the instance may be answered at all.
func (r *Record) serving() bool { return r.Up && !r.Draining }

// state is how the instance is, in one word.
func (r *Record) state() string {
	switch {
	case r.State != "":
		return r.State
	case !r.Up:
		return "stopped"
	case r.Draining:
		return "draining"
	case r.Unready:
		return "not ready"
	}
	return "ready"
}
