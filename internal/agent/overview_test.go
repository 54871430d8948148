package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/dns"
)

// What the server has is told with who asks where, and what becomes of foreign names for each.
func TestNamesOfTheServer(t *testing.T) {
	at := netip.MustParseAddrPort
	o := dns.Overview{Origin: "incus", Views: []dns.ViewOverview{
		{Name: "shop-front", Key: "front", Project: "shop", Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, Clients: 2},
		{Name: "shop-in", Key: "in", Project: "shop", Inside: "network in of shop is internal"},
		{Name: "incusbr0", Key: "incusbr0", Project: "default", Upstreams: []netip.AddrPort{at("192.0.2.9:53"), at("192.0.2.9:5353")}},
	}}
	st := dns.Status{
		Listeners: []dns.ListenerStatus{
			{Want: at("10.1.0.1:53")},
			{Want: at("169.254.53.53:53")},
			{Want: at("10.158.7.1:53053")},
			{Want: at("192.168.1.2:53"), LAN: true, Err: errors.New("taken")},
		},
		Upstreams: []dns.UpstreamStatus{{Addr: at("192.0.2.1:53"), Asked: 3, Failed: 5, Down: true}, {Addr: at("192.0.2.2:53"), Loops: true}, {Addr: at("192.0.2.3:53")}},
		Replies:   map[string]map[string]uint64{"shop-front": {"NOERROR": 4}, "lan": {"REFUSED": 1}},
	}
	r := namesOf(o, st)
	var got []string
	for _, l := range r.Listeners {
		got = append(got, fmt.Sprintf("%s for %s %s", l.Addr, l.For, l.Error))
	}

	for _, v := range r.Views {
		got = append(got, fmt.Sprintf("%s: foreign names %s %v", v.Name, v.Foreign, v.Replies))
	}

	for _, u := range r.Upstreams {
		got = append(got, fmt.Sprintf("%s %s %d/%d", u.Addr, u.State, u.Failed, u.Asked))
	}

	want := []string{
		"10.1.0.1:53 for shop/front ", "169.254.53.53:53 for networks beside dnsmasq ", "10.158.7.1:53053 for this host, beside dnsmasq ",
		"192.168.1.2:53 for the LAN taken",
		"shop/front: foreign names asked for map[NOERROR:4]", "shop/in: foreign names refused: internal map[]",
		"incusbr0: foreign names asked of 192.0.2.9 192.0.2.9:5353 map[]", "host: foreign names asked for map[]",
		"the LAN: foreign names refused map[REFUSED:1]", "strangers: foreign names refused, like all map[]",
		"192.0.2.1:53 does not answer 3/3", "192.0.2.2:53 asks us back 0/0", "192.0.2.3:53 answers 0/0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
