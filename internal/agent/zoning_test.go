package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// seen is a stack "shop" of one service with two replicas on one network.
func seen(instances ...string) *apply.View {
	p := plan.Project{
		Stack: "shop", Name: "shop", Incus: "shop",
		Networks: []plan.Network{{Name: "default", Incus: "shop-default"}},
		Services: []plan.Service{{Name: "web", Replicas: 2, Networks: []plan.Attachment{{Network: "default"}}}},
	}
	v := &apply.View{
		Stack: "shop", State: apply.InSync, Project: &p, Turned: time.Unix(1, 0),
		Observed: plan.Observed{Instances: map[string]plan.ObservedInstance{}},
		Ledger: plan.Ledger{
			Project: &p, Started: map[string]string{"web-1": "hash", "web-2": "hash"},
			Addresses: map[string]map[string]netip.Addr{"shop-default": {
				"web-1": netip.MustParseAddr("10.201.1.11"), "web-2": netip.MustParseAddr("10.201.1.12"),
			}},
		},
	}
	for _, name := range instances {
		v.Observed.Instances[name] = plan.ObservedInstance{Status: plan.Running}
	}

	return v
}

var oneSubnet = map[string]netip.Prefix{"shop-default": netip.MustParsePrefix("10.201.1.0/24")}

// answers are the addresses the host is told for web.shop.incus.
func answers(t *testing.T, z *zoning, s sight, now time.Time) string {
	t.Helper()
	s.subnets = oneSubnet
	_, zone := z.next(s, now)
	e, err := zone.Explain("web.shop.incus", "", now)
	if err != nil {
		t.Fatal(err)
	}

	return e.Verdict + " " + fmt.Sprint(e.Answers, " for ", zone.TTL())
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

const (
	bothUp = "NOERROR [A 10.201.1.11 A 10.201.1.12] for 5"
	oneUp  = "NOERROR [A 10.201.1.11] for 5"
	noneUp = "no data [] for 5"
)

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// TestB10EmptyListKeepsTheZone: a list of nothing is not believed where there were instances, and said.
func TestB10EmptyListKeepsTheZone(t *testing.T) {
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	now := time.Unix(1000, 0)
	see := func(v *apply.View) sight { return sight{views: []*apply.View{v}, begun: true} }
	expect(t, "both run", answers(t, z, see(seen("web-1", "web-2")), now), bothUp)
	expect(t, "nothing is listed", answers(t, z, see(seen()), now), bothUp)
	if said := z.problems(); len(said) != 1 || !strings.Contains(said[0], "the stack shop since") {
		t.Errorf("said %q", said)
	}

	expect(t, "still nothing", answers(t, z, see(seen()), now.Add(believed)), bothUp)
	expect(t, "for too long", answers(t, z, see(seen()), now.Add(believed+1)), noneUp)
	expect(t, "one is back", answers(t, z, see(seen("web-1")), now), oneUp)
	if said := z.problems(); len(said) != 0 {
		t.Errorf("still said %q", said)
	}
}

// TestB10WhatIsMeantIsBelieved: the loop's own deletions, a removed stack, a service of no replicas.
func TestB10WhatIsMeantIsBelieved(t *testing.T) {
	for what, change := range map[string]func(*apply.View){
		"the loop deletes": func(v *apply.View) { v.Plan.Steps = []plan.Step{{Op: plan.DeleteInstance{Name: "web-1"}}} },
		"scaled to none":   func(v *apply.View) { v.Project.Services[0].Replicas = 0 },
	} {
		z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
		now := time.Unix(1000, 0)
		expect(t, what+", before", answers(t, z, sight{views: []*apply.View{seen("web-1", "web-2")}, begun: true}, now), bothUp)
		v := seen()
		change(v)
		expect(t, what, answers(t, z, sight{views: []*apply.View{v}, begun: true}, now), noneUp)
	}
}

// TestD40LedgerAnswersBeforeIncus: from the first moment names are answered as they were, also of stacks whose loops
// have not begun; while Incus is away answers are kept for five seconds at most.
func TestD40LedgerAnswersBeforeIncus(t *testing.T) {
	ledgers := map[string]plan.Ledger{"shop": seen().Ledger}
	now := time.Unix(1000, 0)
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 60}, ledgers)
	last := strings.ReplaceAll(bothUp, "for 5", "for 60")
	expect(t, "nothing is known yet", answers(t, z, sight{}, now), last)
	expect(t, "the loop has not begun", answers(t, z, sight{views: []*apply.View{{Stack: "shop", State: apply.Waiting}}, begun: true}, now), last)
	expect(t, "Incus is away", answers(t, z, sight{views: []*apply.View{{Stack: "shop", State: apply.Waiting}}, begun: true, away: true}, now), bothUp)
	expect(t, "Incus has answered", answers(t, z, sight{views: []*apply.View{seen("web-1")}, begun: true}, now), strings.ReplaceAll(oneUp, "for 5", "for 60"))
}

// TestWhatIsInTheWayIsNotAnswered: an instance or a network of others under a name of the stack is not its own.
func TestWhatIsInTheWayIsNotAnswered(t *testing.T) {
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	v := seen("web-1", "web-2")
	v.Owner = "me"
	v.Observed.Instances["web-1"] = plan.ObservedInstance{Status: plan.Running, Config: map[string]string{plan.KeyOwner: "me"}}
	v.Observed.Instances["web-2"] = plan.ObservedInstance{Status: plan.Running, Config: map[string]string{"volatile.uuid": "1"}}
	expect(t, "web-2 is not ours", answers(t, z, sight{views: []*apply.View{v}, begun: true}, time.Unix(1000, 0)), oneUp)
	v.Observed.Networks = map[string]plan.ObservedNetwork{"shop-default": {Config: map[string]string{"ipv4.address": "10.9.9.1/24"}}}
	if nets := servedNetworks([]*apply.View{v}, oneSubnet, nil); len(nets) != 0 {
		t.Errorf("the network is not ours, and served: %v", nets)
	}
}

// TestSkippedStackKeepsItsNames: what runs keeps running, and is found.
// A stack whose project is somebody else's does not make the DNS server listen at an address that nothing will have;
// what is ours of it keeps its names.
func TestConflictListensNowhere(t *testing.T) {
	v := seen("web-1")
	v.Owner = "me"
	v.Ledger.Conditions = []plan.Condition{{Type: "Conflict", Object: "project/shop"}}
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	nets, _ := z.next(sight{views: []*apply.View{v}, begun: true, subnets: oneSubnet}, time.Unix(1, 0))
	if len(nets) > 0 {
		t.Errorf("it serves %v", nets)
	}

	known := seen("web-1")
	known.Owner, known.Ledger.Conditions = v.Owner, v.Ledger.Conditions
	known.Observed.Networks = map[string]plan.ObservedNetwork{"shop-default": {Config: map[string]string{plan.KeyOwner: "me"}}}
	nets, _ = z.next(sight{views: []*apply.View{known}, begun: true, subnets: oneSubnet}, time.Unix(2, 0))
	if len(nets) != 1 {
		t.Errorf("what runs lost its names: %v", nets)
	}
}

func TestSkippedStackKeepsItsNames(t *testing.T) {
	z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
	now := time.Unix(1000, 0)
	expect(t, "before", answers(t, z, sight{views: []*apply.View{seen("web-1", "web-2")}, begun: true}, now), bothUp)
	expect(t, "skipped", answers(t, z, sight{skipped: []string{"shop"}, begun: true}, now), bothUp)
	expect(t, "gone on under another name", answers(t, z, sight{begun: true}, now), "NXDOMAIN [] for 5")
}

func TestDNSSettings(t *testing.T) {
	for text, want := range map[string]string{
		"ttl = 61":                              "dns.ttl: 61",
		"log_every = -1":                        "dns.log_every",
		"forwards_per_second = -1":              "dns.forwards_per_second",
		"answers_per_second = -2":               "dns.answers_per_second",
		"allow_private = [\"lan\"]":             "dns.allow_private",
		"relays = [\"there\"]":                  "dns.relays: \"there\"",
		"transfer = [\"here\"]":                 "dns.transfer: \"here\"",
		"networks = { blog-back = [\"nine\"] }": "dns.networks.blog-back: \"nine\"",
		"[dns.lan]\nlisten = [\"192.168.1.1\"]": "dns.lan.allow: empty",
		"[dns.lan]\nallow = [\"192.168.1.1\"]":  "dns.lan.listen: empty",

		"[dns.lan]\nlisten = [\"0.0.0.0\"]\nallow = [\"192.168.1.1\"]": "dns.lan.listen: 0.0.0.0 stands for every address",
		"[dns.lan]\nlisten = [\"lan\"]":                                "dns.lan.listen: \"lan\"",
	} {
		_, err := ReadSettings(settingsFile(t, "[dns]\n"+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want something with %q", text, err, want)
		}
	}

	s, err := ReadSettings(settingsFile(t, `[dns]
ttl = 0
block_private = true
allow_private = ["lan"]
forwards_per_second = 0
answers_per_second = 50
log_every = 100
relays = ["127.0.0.1"]
transfer = ["192.168.1.7"]
networks = { blog-back = ["192.0.2.9", "192.0.2.10:5353"] }
host = false
[dns.lan]
listen = ["192.168.1.10"]
allow = ["192.168.1.0/24"]
`))
	if err != nil {
		t.Fatal(err)
	}

	c, err := s.DNS.read()
	if err != nil {
		t.Fatal(err)
	}

	o := c.options
	got := fmt.Sprint(c.ttl, o.Rebinding, o.Forwards, o.Answers, o.LogEvery, o.Relays, o.Transfer, c.networks, c.host, o.LAN)
	want := "0 {true [lan]} {-1 0} {50 150} 100 [127.0.0.1/32] [192.168.1.7/32] map[blog-back:[192.0.2.9:53 192.0.2.10:5353]] false {[192.168.1.10:53] [192.168.1.0/24]}"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestNetworksHaveTheirOwnUpstreams as agent.toml names them.
func TestNetworksHaveTheirOwnUpstreams(t *testing.T) {
	mine := map[string][]netip.AddrPort{"shop-default": {netip.MustParseAddrPort("192.0.2.9:53")}}
	nets := servedNetworks([]*apply.View{seen("web-1")}, oneSubnet, mine)
	if len(nets) != 1 || !slices.Equal(nets[0].Upstreams, mine["shop-default"]) {
		t.Errorf("the networks are %+v", nets)
	}
}

// TestServiceHasItsOwnUpstreamsAndHosts (compose "dns", "extra_hosts").
func TestServiceHasItsOwnUpstreamsAndHosts(t *testing.T) {
	v := seen("web-1")
	v.Segments = map[string]plan.Segment{"shop-default": {Gateway: netip.MustParseAddr("10.201.1.1")}}
	s := &v.Project.Services[0]
	s.Resolver.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:53")}
	s.ExtraHosts = []plan.ExtraHost{{Name: "host.docker.internal"}, {Name: "legacy", Addr: netip.MustParseAddr("192.0.2.7")}}
	recs := declared(v, addressBook{})
	expect(t, "what web-1 has", fmt.Sprint(recs[1].Upstreams, recs[1].Hosts), "[192.0.2.9:53] [{host.docker.internal 10.201.1.1} {legacy 192.0.2.7}]")
}

// TestOnlyAVerdictOnThePresentRunCounts: a replica that has just been started is not answered beside one that is well,
// whatever was said of it before; one that nobody checks is.
func TestOnlyAVerdictOnThePresentRunCounts(t *testing.T) {
	start := time.Unix(2000, 0)
	said := func(status string, since time.Time) map[string]string {
		return map[string]string{
			"user.healthcheck.enabled": "true", plan.KeyHealthStatus: status, plan.KeyHealthDetail: fmt.Sprintf(`{"since":%q}`, since.UTC().Format(time.RFC3339)),
		}
	}
	well := said("healthy", start.Add(time.Second))
	for _, c := range []struct {
		name   string
		config map[string]string
		want   string
	}{
		{"well", well, bothUp},
		{"unhealthy", said("unhealthy", start.Add(time.Second)), oneUp},
		{"starting", said("starting", start.Add(time.Second)), oneUp},
		{"well before it was started anew", said("healthy", start.Add(-time.Second)), oneUp},
		{"stopped, and started anew", said("stopped", start.Add(-time.Second)), oneUp},
		{"not judged yet", map[string]string{"user.healthcheck.enabled": "true"}, oneUp},
		{"not checked", map[string]string{"user.x": "y"}, bothUp},
		{"unhealthy by another daemon's word", map[string]string{plan.KeyHealthStatus: "unhealthy"}, oneUp},
	} {
		v := seen()
		v.Observed.Instances["web-1"] = plan.ObservedInstance{Status: plan.Running, LastUsed: start, Config: well}
		v.Observed.Instances["web-2"] = plan.ObservedInstance{Status: plan.Running, LastUsed: start, Config: c.config}
		z := newZoning(quiet(), "incus", dnsConfig{ttl: 5}, nil)
		expect(t, c.name, answers(t, z, sight{views: []*apply.View{v}, begun: true}, start), c.want)
	}
}
