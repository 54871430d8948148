package dns

import (
	"net"
	"net/netip"
	"testing"

	miekg "github.com/miekg/dns"
)

// withSubnet says for whom a question is asked.
func withSubnet(family uint16, bits uint8, addr string) func(*miekg.Msg) {
	return func(m *miekg.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []miekg.EDNS0{
			&miekg.EDNS0_SUBNET{Code: miekg.EDNS0SUBNET, Family: family, SourceNetmask: bits, Address: net.ParseIP(addr)},
		}
	}
}

// A name server that asks for others is told what those would be told, when it is named as one; from all others the
// option changes nothing.
func TestD06Relays(t *testing.T) {
	const relay = "127.53.1.7"
	up := startUpstream(t, serving("192.0.2.1"))
	s := New(Options{Upstreams: []netip.AddrPort{up.addr}, Relays: []netip.Prefix{pfx(relay + "/32"), pfx("127.53.9.2/32"), pfx("127.53.1.1/32")}, LAN: LAN{
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.53.9.1:0")}, Allow: []netip.Prefix{pfx("127.53.9.0/28")},
	}})
	recs := append(replicas("web", 1), Record{
		Project: "shop", Service: "db", Instance: "db-1", Up: true, On: []Interface{{Network: "data", Addr: ip("127.53.2.100")}},
	})
	s.Publish(Build("incus", 1, loNets, recs))
	r := run(t, s)
	lan := r.Status().Listeners[2].Addr
	const (
		db      = "NOERROR | aa | db. 5 IN A 127.53.2.100 | opt v0 1232 | option 8"
		web     = "NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232"
		refused = "REFUSED | opt v0 1232 | option 8 | ede 18"
		missing = "NXDOMAIN | aa | ra | auth . SOA | opt v0 1232"
	)
	for _, tc := range []struct {
		what, from string
		at         netip.AddrPort
		q          *miekg.Msg
		want       string
	}{
		{"an instance of another network", relay, r.front, ask4("db.", withSubnet(1, 32, "127.53.2.100")), db},
		{"somebody there", relay, r.front, ask4("db.", withSubnet(1, 24, "127.53.2.0")), db},
		{"an internal network does not ask outside", relay, r.front, ask4("example.com.", withSubnet(1, 32, "127.53.2.100")), "REFUSED | opt v0 1232 | option 8 | ede 18"},
		{"a foreign name", relay, r.front, ask4("example.com.", withSubnet(1, 32, "127.53.1.100")), "NOERROR | ra | example.com. 300 IN A 192.0.2.1 | opt v0 1232 | option 8"},
		{"more than a network", relay, r.front, ask4("db.", withSubnet(1, 16, "127.53.0.0")), refused},
		{"nobody of ours", relay, r.front, ask4("db.", withSubnet(1, 32, "192.0.2.7")), refused},
		{"not for the host", relay, r.front, ask4("db.shop.incus.", withSubnet(1, 32, "127.0.0.1")), refused},
		{"the host's own relay", "127.53.1.1", r.front, ask4("db.shop.incus.", withSubnet(1, 32, "127.0.0.1")), "NOERROR | aa | ra | db.shop.incus. 5 IN A 127.53.2.100 | opt v0 1232 | option 8"},
		{"IPv6 of nobody", relay, r.front, ask4("db.", withSubnet(2, 56, "2001:db8::")), refused},
		{"not told: for itself", relay, r.front, ask4("web.", withSubnet(1, 0, "0.0.0.0")), web + " | option 8"},
		{"not told: not for others", relay, r.front, ask4("db.", withSubnet(1, 0, "0.0.0.0")), missing + " | option 8"},
		{"no option: for itself", relay, r.front, ask4("db.", withEDNS(1232, false)), missing},
		{"bits behind the length", relay, r.front, withLoose(ask4("db.", withSubnet(1, 24, "127.53.2.0"))), "FORMERR | opt v0 1232"},
		{"not a relay", visitor, r.front, ask4("db.", withSubnet(1, 32, "127.53.2.100")), missing},
		{"not a relay, malformed", visitor, r.front, withLoose(ask4("db.", withSubnet(1, 24, "127.53.2.0"))), missing},
		{"the LAN's relay for one who may ask", "127.53.9.2", lan, ask4("web.shop.incus.", withSubnet(1, 32, "127.53.9.3")), "NOERROR | aa | web.shop.incus. 5 IN A 127.53.1.100 | opt v0 1232 | option 8"},
		{"the LAN's relay for one who may not", "127.53.9.2", lan, ask4("web.shop.incus.", withSubnet(1, 32, "127.53.9.99")), refused},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got := digest(resolve(t, network, tc.from, tc.at, tc.q))
			if got != tc.want {
				t.Errorf("%s over %s:\n got %s\nwant %s", tc.what, network, got, tc.want)
			}
		}
	}
	if got := resolve(t, "udp", relay, r.front, ask4("db.", withSubnet(1, 24, "127.53.2.0"))).IsEdns0().Option[0].String(); got != "127.53.2.0/24/24" {
		t.Errorf("the answer is said to be for %s", got)
	}
}

// withLoose asks for an address that has more bits than its length says.
func withLoose(m *miekg.Msg) *miekg.Msg {
	m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_LOCAL{Code: miekg.EDNS0SUBNET, Data: []byte{0, 1, 20, 0, 127, 53, 2}}}
	return m
}

func TestD06MalformedSubnets(t *testing.T) {
	for _, data := range [][]byte{
		nil, {0, 1, 0}, {0, 3, 0, 0}, {0, 1, 33, 0, 1, 2, 3, 4, 5}, {0, 1, 24, 0, 1, 2}, {0, 1, 24, 0, 1, 2, 3, 4}, {0, 1, 24, 1, 1, 2, 3}, {0, 2, 129, 0},
	} {
		if s := readSubnet(data); !s.malformed {
			t.Errorf("% x is read as %v", data, s.of)
		}
	}
	if s := readSubnet([]byte{0, 2, 16, 0, 0xfd, 0}); s.malformed || s.of.String() != "fd00::/16" {
		t.Errorf("fd00::/16 is read as %v", s)
	}
}
