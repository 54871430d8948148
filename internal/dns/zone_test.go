package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// shop has a web of three replicas on two networks, one of them down, and a database on the back network
// alone; blog meets it on the shared network "edge" and has an internal network.
//
//	shop-front 10.1.0.0/24   web-1 .11  web-2 .12  web-3 (down) .13  proxy .20
//	shop-back  10.2.0.0/24   web-1 .11  web-2 .12                    db .30
//	edge       10.3.0.0/20   proxy .20                               blog's app-1 .40  web-1 .41
//	blog-data  10.4.0.0/24   (internal) app-1 .40, store .50
var (
	testNets = []Network{
		{
			Name: "shop-front", Key: "front", Project: "shop", Prefix: pfx("10.1.0.0/24"), Gateway: ip("10.1.0.1"),
			Prefix6: pfx("fd00:1::/64"), Gateway6: ip("fd00:1::1"),
		},
		{Name: "shop-back", Key: "back", Project: "shop", Prefix: pfx("10.2.0.0/24"), Gateway: ip("10.2.0.1")},
		{Name: "edge", Key: "edge", Project: "shop", Prefix: pfx("10.3.0.0/20"), Gateway: ip("10.3.0.1")},
		{Name: "blog-data", Key: "data", Project: "blog", Prefix: pfx("10.4.0.0/24"), Gateway: ip("10.4.0.1"), Internal: true},
	}
	testRecs = []Record{
		{Project: "shop", Service: "web", Instance: "web-1", Up: true, Names: []string{"site"}, On: []Interface{
			{Network: "shop-front", Addr: ip("10.1.0.11"), Aliases: []string{"www", "shop.example.com"}},
			{Network: "shop-front", Addr: ip("fd00:1::11")},
			{Network: "shop-back", Addr: ip("10.2.0.11")},
		}},
		{Project: "shop", Service: "web", Instance: "web-2", Up: true, On: []Interface{
			{Network: "shop-back", Addr: ip("10.2.0.12")},
			{Network: "shop-front", Addr: ip("10.1.0.12"), Aliases: []string{"www"}},
		}},
		{Project: "shop", Service: "web", Instance: "web-3", On: []Interface{
			{Network: "shop-front", Addr: ip("10.1.0.13"), Aliases: []string{"www"}},
		}},
		{Project: "shop", Service: "db", Instance: "db-1", Up: true, On: []Interface{
			{Network: "shop-back", Addr: ip("10.2.0.30"), Aliases: []string{"sql.data"}},
		}},
		{Project: "shop", Service: "Proxy", Instance: "gate", Up: true, Names: []string{"gate"}, On: []Interface{
			{Network: "shop-front", Addr: ip("10.1.0.20")},
			{Network: "edge", Addr: ip("10.3.0.20"), Aliases: []string{"auth.example.org"}},
		}},
		{Project: "shop", Service: "batch", On: []Interface{{Network: "shop-back"}}},
		{Project: "blog", Service: "app", Instance: "app-1", Up: true, On: []Interface{
			{Network: "edge", Addr: ip("10.3.0.40")},
			{Network: "blog-data", Addr: ip("10.4.0.40")},
		}},
		{Project: "blog", Service: "web", Instance: "web-1", Up: true, On: []Interface{
			{Network: "edge", Addr: ip("10.3.0.41")},
		}},
		{Project: "blog", Service: "store", Instance: "store-1", Up: true, On: []Interface{
			{Network: "blog-data", Addr: ip("10.4.0.50")},
		}},
	}
)

// TestHostsAreToldToTheirInstanceAlone (compose "extra_hosts").
func TestHostsAreToldToTheirInstanceAlone(t *testing.T) {
	recs := slices.Clone(testRecs)
	recs[3].Hosts = []Host{{"Legacy.example.com", ip("192.0.2.7")}, {"legacy.example.com", ip("2001:db8::7")}, {"web", ip("192.0.2.8")}}
	z := Build("incus", 7, testNets, recs)
	for _, tc := range []struct{ from, question, want string }{
		{db, "legacy.example.com. A", "NOERROR aa A 192.0.2.7"},
		{db, "LEGACY.example.com. AAAA", "NOERROR aa AAAA 2001:db8::7"},
		{db, "legacy.example.com. MX", "NOERROR aa soa ."},
		{db, "web. A", "NOERROR aa A 192.0.2.8"},
		{db, "web.shop.incus. A", "NOERROR aa A 10.2.0.11 A 10.2.0.12"},
		{web, "legacy.example.com. A", "forward"},
		{host, "legacy.example.com. A", "forward"},
	} {
		got := text(z.Answer(z.View(parties(t, tc.from)), question(t, tc.question)))
		if got != tc.want {
			t.Errorf("%s asks %s: %s, want %s", tc.from, tc.question, got, tc.want)
		}
	}
}

// Who asks: address and, after the @, where it arrives.
const (
	web   = "10.1.0.11@10.1.0.1" // on front and back
	proxy = "10.1.0.20@10.1.0.1" // on front and edge
	db    = "10.2.0.30@10.2.0.1" // on back
	app   = "10.3.0.40@10.3.0.1" // blog's, on edge and data
	store = "10.4.0.50@10.4.0.1" // blog's, on data, which is internal
	guest = "10.1.0.99@10.1.0.1" // no record of it
	host  = "10.1.0.1@10.1.0.1"
	local = "127.0.0.1@10.1.0.1"
)

func TestZone(t *testing.T) {
	z := Build("incus", 7, testNets, testRecs)
	const (
		no     = "NXDOMAIN aa soa shop.incus."
		none   = "NOERROR aa soa shop.incus."
		noBare = "NXDOMAIN aa soa ."
		forw   = "forward"
	)
	for _, tc := range []struct{ name, from, question, want string }{
		{"D01 service", guest, "web.shop.incus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D01 nothing from another network", db, "web.shop.incus. A", "NOERROR aa A 10.2.0.11 A 10.2.0.12"},
		{"D02 instance", guest, "web-2.shop.incus. A", "NOERROR aa A 10.1.0.12"},
		{"D02 alias", guest, "www.shop.incus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D02 alias of another network", db, "www.shop.incus. A", no},
		{"D02 container name", guest, "gate.shop.incus. A", "NOERROR aa A 10.1.0.20"},
		{"D02 hostname", guest, "site.shop.incus. A", "NOERROR aa A 10.1.0.11"},
		{"D02 case of the question", guest, "WeB.sHop.InCus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D02 case of the service", guest, "proxy.shop.incus. A", "NOERROR aa A 10.1.0.20"},
		{"D02 alias with a dot", db, "sql.data.shop.incus. A", "NOERROR aa A 10.2.0.30"},
		{"D03 bare service", guest, "web. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D03 bare instance", db, "WEB-1. A", "NOERROR aa A 10.2.0.11"},
		{"D03 unknown bare name", guest, "nosuch. A", noBare},
		{"D03 bare name of a foreign network", guest, "store. A", noBare},
		{"D03 bare name of another project on a shared network", proxy, "app. A", "NOERROR aa A 10.3.0.40"},
		{"D03 own project first", proxy, "web. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D03 own project first there too", app, "web. A", "NOERROR aa A 10.3.0.41"},
		{"D03 and the other way round", app, "proxy. A", "NOERROR aa A 10.3.0.20"},
		{"D03 bare names mean nothing to the host", host, "web. A", noBare},
		{"D03 validators get through", guest, "com. DS", forw},
		{"D03 alias with a dot as it stands", guest, "shop.example.com. A", "NOERROR aa A 10.1.0.11"},
		{"D03 alias with a dot across projects", app, "auth.example.org. A", "NOERROR aa A 10.3.0.20"},
		{"D03 alias with a dot, not seen here", db, "auth.example.org. A", forw},
		{"D03 name below an alias with a dot", guest, "x.shop.example.com. A", forw},
		{"D03 alias with a dot, other type", guest, "shop.example.com. AAAA", "NOERROR aa soa ."},
		{"D04 no wildcard", guest, "foo.web.shop.incus. A", no},
		{"D05 not reachable", db, "proxy.shop.incus. A", no},
		{"D05 shared networks only", web, "db. A", "NOERROR aa A 10.2.0.30"},
		{"D05 all shared networks", web, "web. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12 A 10.2.0.11 A 10.2.0.12"},
		{"D05 project out of sight", guest, "store.blog.incus. A", "NXDOMAIN aa soa incus."},
		{"D05 other project in sight", proxy, "store.blog.incus. A", "NXDOMAIN aa soa blog.incus."},
		{"D05 other project on a shared network", proxy, "app.blog.incus. A", "NOERROR aa A 10.3.0.40"},
		{"D07 next bridge", "10.2.0.30@10.1.0.1", "web.shop.incus. A", "REFUSED ede 18 10.2.0.30 is on no network served at 10.1.0.1"},
		{"D07 LAN", "192.168.1.5@10.1.0.1", "example.com. A", "REFUSED ede 18 192.168.1.5 is on no network served at 10.1.0.1"},
		{"D07 host by its own address", host, "db.shop.incus. A", "NOERROR aa A 10.2.0.30"},
		{"D07 host by another bridge", "10.2.0.1@10.1.0.1", "store.blog.incus. A", "NOERROR aa A 10.4.0.50"},
		{"D07 host by loopback", local, "app.blog.incus. A", "NOERROR aa A 10.3.0.40 A 10.4.0.40"},
		{"D07 at an address that is no gateway", "10.2.0.30@169.254.53.53", "web.shop.incus. A", "NOERROR aa A 10.2.0.11 A 10.2.0.12"},
		{"D07 stranger at an address that is no gateway", "10.9.0.1@169.254.53.53", "web.shop.incus. A", "REFUSED ede 18 10.9.0.1 is on no network served at 169.254.53.53"},
		{"D08 AAAA of a v4-only name", guest, "gate.shop.incus. AAAA", none},
		{"D08 AAAA of a dual name", guest, "web.shop.incus. AAAA", "NOERROR aa AAAA fd00:1::11"},
		{"D08 asked over v6", "fd00:1::99@fd00:1::1", "web.shop.incus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"D08 MX", guest, "web.shop.incus. MX", none},
		{"D08 HTTPS", guest, "web. HTTPS", "NOERROR aa soa ."},
		{"D08 unknown type", guest, "web.shop.incus. TYPE1000", none},
		{"D09 unknown name", guest, "nosuch.shop.incus. A", no},
		{"D09 unknown project", guest, "web.nosuch.incus. A", "NXDOMAIN aa soa incus."},
		{"D09 empty non-terminal", db, "data.shop.incus. A", none},
		{"D09 empty non-terminal out of sight", guest, "data.shop.incus. A", no},
		{"D10 SOA of the origin", guest, "incus. SOA", "NOERROR aa SOA ns.incus. hostmaster.incus. 7 7200 1800 86400 2"},
		{"D10 SOA of the project", guest, "shop.incus. SOA", "NOERROR aa SOA ns.incus. hostmaster.incus. 7 7200 1800 86400 2"},
		{"D10 NS", guest, "shop.incus. NS", "NOERROR aa NS ns.incus."},
		{"D10 address of the NS", db, "ns.incus. A", "NOERROR aa A 10.2.0.1"},
		{"D10 other type", guest, "shop.incus. A", none},
		{"D10 origin, other type", guest, "incus. TXT", "NOERROR aa soa incus."},
		{"D11 PTR", guest, "12.0.1.10.in-addr.arpa. PTR", "NOERROR aa PTR web-2.shop.incus."},
		{"D11 PTR of v6", guest, "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa. PTR", "NOERROR aa PTR web-1.shop.incus."},
		{"D11 other type", guest, "12.0.1.10.in-addr.arpa. A", "NOERROR aa soa 10.in-addr.arpa."},
		{"D11 instance that is down", guest, "13.0.1.10.in-addr.arpa. PTR", "NXDOMAIN aa soa 10.in-addr.arpa."},
		{"D11 network out of sight", guest, "30.0.2.10.in-addr.arpa. PTR", "NXDOMAIN aa soa 10.in-addr.arpa."},
		{"D11 address nobody has", guest, "77.0.1.10.in-addr.arpa. PTR", "NXDOMAIN aa soa 10.in-addr.arpa."},
		{"D11 private space", guest, "1.1.168.192.in-addr.arpa. PTR", "NXDOMAIN aa soa 168.192.in-addr.arpa."},
		{"D11 private space cut inside a label", guest, "9.0.20.172.in-addr.arpa. PTR", "NXDOMAIN aa soa 20.172.in-addr.arpa."},
		{"D11 beside that", guest, "9.0.32.172.in-addr.arpa. PTR", forw},
		{"D11 private v6", guest, "8.b.d.0.1.0.0.2.ip6.arpa. NS", "NOERROR aa NS ns.incus."},
		{"D11 way to a network", guest, "0.1.10.in-addr.arpa. A", "NOERROR aa soa 10.in-addr.arpa."},
		{"D11 no address", guest, "lb._dns-sd.10.in-addr.arpa. PTR", "NXDOMAIN aa soa 10.in-addr.arpa."},
		{"D11 public space", guest, "8.8.8.8.in-addr.arpa. PTR", forw},
		{"D11 loopback", guest, "1.0.0.127.in-addr.arpa. PTR", "NOERROR aa PTR localhost."},
		{"D16 down instance", guest, "web-3.shop.incus. A", none},
		{"B11 declared service without an instance", db, "batch. A", "NOERROR aa soa ."},
		{"B11 declared service without an instance, full name", db, "batch.shop.incus. A", none},
		{"D23 ANY", guest, "web.shop.incus. ANY", `NOERROR aa HINFO "RFC8482" ""`},
		{"D23 ANY of no name", guest, "nosuch.shop.incus. ANY", no},
		{"D23 transfer", guest, "shop.incus. AXFR", "REFUSED ede 18 AXFR is not offered"},
		{"D23 class", guest, "version.bind. TXT CH", "REFUSED ede 18 only class IN is served"},
		{"D26 foreign name", guest, "example.com. A", forw},
		{"D26 foreign name for the host", host, "example.com. A", forw},
		{"D26 root", guest, ". NS", forw},
		{"D26 foreign name that ends alike", guest, "notincus. DS", forw},
		{"D33 internal network", store, "example.com. A", "REFUSED ede 18 network data of blog is internal"},
		{"D33 own names there", store, "app. A", "NOERROR aa A 10.4.0.40"},
		{"D33 same client by its other network", app, "example.com. A", forw},
		{"D33 same client by the internal one", "10.4.0.40@10.4.0.1", "example.com. A", "REFUSED ede 18 network data of blog is internal"},
		{"D36 localhost", guest, "localhost. A", "NOERROR aa A 127.0.0.1"},
		{"D36 below localhost", guest, "app.localhost. AAAA", "NOERROR aa AAAA ::1"},
		{"D36 localhost, other type", guest, "localhost. MX", "NOERROR aa soa ."},
		{"D36 invalid", guest, "foo.invalid. A", noBare},
		{"D36 onion", guest, "foo.onion. A", noBare},
		{"D36 local", guest, "printer.local. A", noBare},
		{"D36 way round us", guest, "_dns.resolver.arpa. SVCB", noBare},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := z.View(parties(t, tc.from))
			a := z.Answer(v, question(t, tc.question))
			got := text(a)
			if a.SOA != nil && (a.SOA.Hdr.Ttl != a.SOA.Minttl || a.SOA.Minttl > usualTTL) {
				t.Errorf("D12 a negative answer lives longer than a positive one: %v", a.SOA)
			}
			for _, r := range a.RRs {
				if r.Header().Name != question(t, tc.question).Name || r.Header().Ttl != usualTTL {
					t.Errorf("D12, D24 owner or lifetime is wrong: %v", r)
				}
			}
			if got != tc.want {
				t.Errorf("%s from %s\n got %s\nwant %s", tc.question, tc.from, got, tc.want)
			}
		})
	}
}

func TestUnreadyInstancesAreLeftOut(t *testing.T) {
	nets := testNets[:1]
	replica := func(n int, unready bool) Record {
		return Record{
			Project: "shop", Service: "web", Instance: fmt.Sprint("web-", n), Up: true, Unready: unready,
			On: []Interface{{Network: "shop-front", Addr: ip(fmt.Sprint("10.1.0.", n))}},
		}
	}
	for _, tc := range []struct{ name, question, want string }{
		{"B1 ready ones", "web. A", "NOERROR aa A 10.1.0.12 A 10.1.0.13"},
		{"B1 an instance by its own name", "web-11. A", "NOERROR aa A 10.1.0.11"},
	} {
		z := Build("incus", 1, nets, []Record{replica(11, true), replica(12, false), replica(13, false)})
		got := text(z.Answer(z.View(parties(t, guest)), question(t, tc.question)))
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
	z := Build("incus", 1, nets, []Record{replica(11, true), replica(12, true)})
	got := text(z.Answer(z.View(parties(t, guest)), question(t, "web. A")))
	if want := "NOERROR aa A 10.1.0.11 A 10.1.0.12"; got != want {
		t.Errorf("none ready: got %s, want all that run: %s", got, want)
	}
}

func TestInstanceNameYieldsToAName(t *testing.T) {
	on := func(addr string) []Interface { return []Interface{{Network: "shop-front", Addr: ip(addr)}} }
	z := Build("incus", 1, testNets, []Record{
		{Project: "shop", Service: "web", Instance: "web-1", Up: true, On: on("10.1.0.11")},
		{Project: "shop", Service: "web-1", Instance: "web-1-1", Up: true, On: on("10.1.0.12")},
	})
	got := text(z.Answer(z.View(parties(t, guest)), question(t, "web-1. A")))
	if want := "NOERROR aa A 10.1.0.12"; got != want {
		t.Errorf("web-1 is a service: got %s, want %s", got, want)
	}
}

func TestDisputedAddressIsRefused(t *testing.T) {
	// Both have the address; b alone is on the back network too, and so sees the database.
	claim := func(name string, up bool) Record {
		r := Record{
			Project: "shop", Service: name, Instance: name, Up: up,
			On: []Interface{{Network: "shop-front", Addr: ip("10.1.0.11")}},
		}
		if name == "b" {
			r.On = append(r.On, Interface{Network: "shop-back"})
		}
		return r
	}
	for _, tc := range []struct {
		name string
		recs []Record
		want string
	}{
		{"D07 two that run", []Record{claim("a", true), claim("b", true)}, "REFUSED ede 18 10.1.0.11 is claimed by two instances"},
		{"the one that runs is believed", []Record{claim("a", false), claim("b", true)}, "NOERROR aa A 10.2.0.30"},
		{"in any order", []Record{claim("b", true), claim("a", false)}, "NOERROR aa A 10.2.0.30"},
	} {
		z := Build("incus", 1, testNets, append(tc.recs, testRecs[3]))
		got := text(z.Answer(z.View(parties(t, web)), question(t, "db. A")))
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestD07SameAddressOnAnotherNetworkIsNoClaim(t *testing.T) {
	elsewhere := Record{
		Project: "blog", Service: "x", Instance: "x-1", Up: true,
		On: []Interface{{Network: "not-ours", Addr: ip("10.1.0.11")}, {Network: "blog-data"}},
	}
	for _, recs := range [][]Record{slices.Concat(testRecs, []Record{elsewhere}), append([]Record{elsewhere}, testRecs...)} {
		z := Build("incus", 1, testNets, recs)
		got := text(z.Answer(z.View(parties(t, web)), question(t, "db. A")))
		if want := "NOERROR aa A 10.2.0.30"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestNoZoneAnswersNobody(t *testing.T) {
	var z *Zone
	got := text(z.Answer(z.View(parties(t, web)), question(t, "web.shop.incus. A")))
	if want := "SERVFAIL ede 14 the agent does not know its networks yet"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNamesThatCannotBeAskedAreLeftOut(t *testing.T) {
	rec := testRecs[3]
	rec.Names = []string{strings.Repeat("x", 64), "", "."}
	z := Build("incus", 1, testNets, []Record{rec})
	// incus, ns, shop, blog, db, db-1, data and sql.data.
	if z.Names() != 8 {
		t.Errorf("the zone has %d names, want 8", z.Names())
	}
}

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// parties reads "source@arrival".
func parties(t testing.TB, s string) (local, src netip.Addr) {
	t.Helper()
	from, at, ok := strings.Cut(s, "@")
	if !ok {
		t.Fatalf("%q is not source@arrival", s)
	}
	return ip(at), ip(from)
}

// question reads "name TYPE [CLASS]".
func question(t testing.TB, s string) Question {
	t.Helper()
	f := append(strings.Fields(s), "IN")
	typ, known := miekg.StringToType[f[1]]
	if !known {
		_, err := fmt.Sscanf(f[1], "TYPE%d", &typ)
		if err != nil {
			t.Fatalf("unknown type in %q", s)
		}
	}
	return Question{Name: f[0], Type: typ, Class: miekg.StringToClass[f[2]]}
}

// text writes an answer on one line: code, flags, then each record without the owner, which is the question's.
func text(a Answer) string {
	if a.Forward {
		return "forward"
	}
	var b strings.Builder
	b.WriteString(miekg.RcodeToString[a.Rcode])
	if a.Authoritative {
		b.WriteString(" aa")
	}
	for _, r := range a.RRs {
		b.WriteString(" " + strings.Join(strings.Fields(r.String())[3:], " "))
	}
	for i, r := range a.Extra {
		if i == 0 {
			b.WriteString(" extra")
		}
		b.WriteString(" " + strings.Join(strings.Fields(r.String())[3:], " "))
	}
	if a.SOA != nil {
		b.WriteString(" soa " + a.SOA.Hdr.Name)
	}
	if a.Text != "" {
		fmt.Fprintf(&b, " ede %d %s", a.Code, a.Text)
	}
	return b.String()
}

func sortedText(lines []string) []string {
	slices.Sort(lines)
	return lines
}
