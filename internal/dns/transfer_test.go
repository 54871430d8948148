package dns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"
)

// axfr transfers a zone as a secondary does.
func axfr(t *testing.T, from string, at netip.AddrPort, zone string) ([]string, error) {
	t.Helper()
	q := new(miekg.Msg)
	q.SetAxfr(zone)
	tr := &miekg.Transfer{Conn: &miekg.Conn{Conn: dial(t, "tcp", from, at)}}
	envelopes, err := tr.In(q, at.String())
	if err != nil {
		return nil, err
	}
	var out []string
	for e := range envelopes {
		if e.Error != nil {
			return nil, e.Error
		}
		for _, r := range e.RR {
			out = append(out, strings.Join(strings.Fields(r.String()), " "))
		}
	}
	return out, nil
}

func TestD23TransfersAreRefusedUnlessAllowed(t *testing.T) {
	recs := replicas("web", 2)
	recs[0].Ports = []Port{{Number: 80}}
	s := New(Options{Upstreams: []netip.AddrPort{}, Transfer: []netip.Prefix{pfx("127.53.1.64/26")}})
	s.Publish(Build("incus", 9, loNets, recs))
	r := run(t, s)
	const soa = "shop.incus. 5 IN SOA ns.incus. hostmaster.incus. 9 7200 1800 86400 2"
	want := []string{
		soa,
		"shop.incus. 5 IN NS ns.incus.",
		"web-1.shop.incus. 5 IN A 127.53.1.100",
		"_80._tcp.web-1.shop.incus. 5 IN SRV 0 0 80 web-1.shop.incus.",
		"_http._tcp.web-1.shop.incus. 5 IN SRV 0 0 80 web-1.shop.incus.",
		"web-2.shop.incus. 5 IN A 127.53.1.101",
		"web.shop.incus. 5 IN A 127.53.1.100",
		"web.shop.incus. 5 IN A 127.53.1.101",
		"_80._tcp.web.shop.incus. 5 IN SRV 0 0 80 web-1.shop.incus.",
		"_http._tcp.web.shop.incus. 5 IN SRV 0 0 80 web-1.shop.incus.",
		soa,
	}
	got, err := axfr(t, visitor, r.front, "shop.incus.")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	s.Publish(Build("incus", 9, []Network{{Name: "front", Project: "shop", Prefix: pfx("127.53.0.0/16"), Gateway: ip("127.53.1.1")}}, replicas("web", 1000)))
	got, err = axfr(t, visitor, r.front, "incus.")
	if err != nil || len(got) != 2+1+2000+1 {
		t.Errorf("%d records of a large zone, %v", len(got), err)
	}
	for _, tc := range []struct{ from, zone string }{{"127.53.1.9", "shop.incus."}, {visitor, "web.shop.incus."}, {visitor, "example.com."}} {
		got, err := axfr(t, tc.from, r.front, tc.zone)
		if err == nil {
			t.Errorf("%s was given %s: %q", tc.from, tc.zone, got)
		}
	}
	m := resolve(t, "udp", visitor, r.front, ask4("shop.incus.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAXFR }))
	if m.Rcode != miekg.RcodeRefused {
		t.Errorf("over UDP: %s", digest(m))
	}
}
