package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"
)

// offering is a shop whose web answers HTTP on two ready replicas, beside one that is sick and one that leaves.
func offering() []Record {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	replica := func(n int) Record {
		return Record{
			Project: "shop", Service: "web", Instance: fmt.Sprint("web-", n), Up: true, Since: now.Add(-time.Minute),
			On:    []Interface{{Network: "shop-front", Addr: ip(fmt.Sprint("10.1.0.", 10+n))}},
			Ports: []Port{{Number: 80}, {Number: 9000, Name: "Metrics"}, {Number: 53, Protocol: "udp"}},
		}
	}
	recs := []Record{replica(1), replica(2), replica(3), replica(4), replica(5)}
	recs[1].On = append(recs[1].On, Interface{Network: "shop-front", Addr: ip("fd00:1::12")})
	recs[2].Unready, recs[2].State, recs[2].Reason = true, "unhealthy", "exit status 1"
	recs[3].Draining, recs[3].Plan = true, "stop: image changed"
	recs[4].Up = false
	return append(recs, Record{Project: "shop", Service: "job", On: []Interface{{Network: "shop-front"}}, Plan: "create"})
}

func TestPortsReasonsAndPlans(t *testing.T) {
	z := Build("incus", 7, testNets, offering())
	const none = "NOERROR aa soa shop.incus."
	const no = "NXDOMAIN aa soa shop.incus."
	for _, tc := range []struct{ name, from, question, want string }{
		{
			"D14 by usual name", guest, "_http._tcp.web.shop.incus. SRV",
			"NOERROR aa SRV 0 0 80 web-1.shop.incus. SRV 0 0 80 web-2.shop.incus. extra A 10.1.0.11 A 10.1.0.12 AAAA fd00:1::12",
		},
		{
			"D14 by given name, bare, any case", guest, "_metrics._TCP.web. SRV",
			"NOERROR aa SRV 0 0 9000 web-1.shop.incus. SRV 0 0 9000 web-2.shop.incus. extra A 10.1.0.11 A 10.1.0.12 AAAA fd00:1::12",
		},
		{
			"D14 by number, of an instance", guest, "_80._tcp.web-1.shop.incus. SRV",
			"NOERROR aa SRV 0 0 80 web-1.shop.incus. extra A 10.1.0.11",
		},
		{"D14 other protocol", guest, "_http._udp.web.shop.incus. SRV", no},
		{"D14 udp", guest, "_domain._udp.web-1.shop.incus. SRV", "NOERROR aa SRV 0 0 53 web-1.shop.incus. extra A 10.1.0.11"},
		{"D14 other type", guest, "_http._tcp.web.shop.incus. A", none},
		{"D14 unknown port", guest, "_nosuch._tcp.web.shop.incus. SRV", no},
		{"D14 no protocol", guest, "_http.web.shop.incus. SRV", no},
		{"D14 other protocol label", guest, "_http._sctp.web.shop.incus. SRV", no},
		{"D14 below a project", guest, "_http._tcp.shop.incus. SRV", no},
		{"D14 out of sight", db, "_http._tcp.web.shop.incus. SRV", "NXDOMAIN aa soa shop.incus."},
		{"D09 way to a port", guest, "_tcp.web.shop.incus. A", none},
		{"D09 way to no port", guest, "_tcp.job.shop.incus. A", no},
		{"B1 sick one is left out, B2 leaving one too", guest, "web.shop.incus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12"},
		{"B2 by its own name", guest, "web-4.shop.incus. A", none},
		{"tasks has all that run", guest, "tasks.web.shop.incus. A", "NOERROR aa A 10.1.0.11 A 10.1.0.12 A 10.1.0.13 A 10.1.0.14"},
		{"tasks, bare", guest, "tasks.web. AAAA", "NOERROR aa AAAA fd00:1::12"},
		{"tasks, other type", guest, "tasks.web. MX", "NOERROR aa soa ."},
		{"tasks of nothing", guest, "tasks.nosuch.shop.incus. A", no},
		{
			"B9 why", guest, "_why.web.shop.incus. TXT", `NOERROR aa TXT "web-1 ready for 1m0s: answered with 10.1.0.11"` +
				` TXT "web-2 ready for 1m0s: answered with 10.1.0.12 fd00:1::12"` +
				` TXT "web-3 unhealthy for 1m0s (exit status 1): not answered, because others are ready"` +
				` TXT "web-4 draining for 1m0s: not answered, because it is about to stop"` +
				` TXT "web-5 stopped for 1m0s: not answered, because it does not run"`,
		},
		{"B9 why, nothing there yet", guest, "_why.job. TXT", `NOERROR aa TXT "declared, no instance yet"`},
		{"B9 why of another network", db, "_why.web.shop.incus. TXT", no},
		{"B9 why, other type", guest, "_why.web.shop.incus. A", none},
		{
			"plan of a project", guest, "_plan.shop.incus. TXT",
			`NOERROR aa TXT "job: create" TXT "web-4: stop: image changed"`,
		},
		{"plan of a service", guest, "_plan.web. TXT", `NOERROR aa TXT "web-4: stop: image changed"`},
		{"no plan", guest, "_plan.web-1. TXT", `NOERROR aa TXT "nothing to do"`},
		{"D23 ANY of why", guest, "_why.web. ANY", `NOERROR aa HINFO "RFC8482" ""`},
	} {
		q := question(t, tc.question)
		q.At = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		got := text(z.Answer(z.View(parties(t, tc.from)), q))
		if got != tc.want {
			t.Errorf("%s: %s from %s\n got %s\nwant %s", tc.name, tc.question, tc.from, got, tc.want)
		}
	}
}

func TestB2LastOneLeaves(t *testing.T) {
	recs := offering()[3:4]
	z := Build("incus", 1, testNets, recs)
	got := text(z.Answer(z.View(parties(t, guest)), question(t, "web.shop.incus. A")))
	if want := "NOERROR aa soa shop.incus."; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestB8NearestFirst(t *testing.T) {
	z := Build("incus", 1, testNets, testRecs)
	for _, tc := range []struct{ from, want string }{
		{"10.1.0.11@10.1.0.1", "NOERROR aa A 10.1.0.11 A 10.1.0.12 A 10.2.0.11 A 10.2.0.12"},
		{"10.2.0.11@10.2.0.1", "NOERROR aa A 10.2.0.11 A 10.2.0.12 A 10.1.0.11 A 10.1.0.12"},
	} {
		v := z.View(parties(t, tc.from))
		a := z.Answer(v, question(t, "web. A"))
		if got := text(a); got != tc.want || a.Near != 2 {
			t.Errorf("from %s: got %s, %d near; want %s", tc.from, got, a.Near, tc.want)
		}
		firsts := map[string]bool{}
		q := readQuery(pack(t, ask4("web.")))
		for turn := range uint64(4) {
			m := unpack(t, q.encode(a, false, turn, maxPayload))
			firsts[m.Answer[0].(*miekg.A).A.String()] = true
			far := m.Answer[2].(*miekg.A).A.String()
			if v.net.holds(ip(far)) {
				t.Errorf("turn %d: a near address stands behind a far one", turn)
			}
		}
		if len(firsts) != 2 {
			t.Errorf("%d addresses come first in turn, want 2", len(firsts))
		}
	}
}

func TestD12Lifetimes(t *testing.T) {
	z := Build("incus", 1, testNets, testRecs)
	for _, tc := range []struct{ ask, ttl, missing uint32 }{{30, 30, 2}, {1, 1, 1}, {0, 0, 0}, {3600, 60, 2}} {
		l := z.Lasting(tc.ask)
		a := l.Answer(l.View(parties(t, guest)), question(t, "web. A"))
		n := l.Answer(l.View(parties(t, guest)), question(t, "nosuch. A"))
		if a.RRs[0].Header().Ttl != tc.ttl || n.SOA.Hdr.Ttl != tc.missing || n.SOA.Minttl != tc.missing {
			t.Errorf("lasting %d: %v, %v", tc.ask, a.RRs[0], n.SOA)
		}
	}
}

// everything is all the zone answers to some views, to compare zones by.
func everything(t testing.TB, z *Zone) string {
	t.Helper()
	names := map[string]bool{}
	for _, m := range z.nodes.shard {
		for name := range m {
			names[name] = true
		}
	}
	for _, m := range z.bare.shard {
		for name := range m {
			names[name+"."] = true
		}
	}
	for _, m := range z.addrs.shard {
		for a := range m {
			r, err := miekg.ReverseAddr(a.String())
			if err != nil {
				t.Fatal(err)
			}
			names[r] = true
		}
	}
	var lines []string
	for name := range names {
		for _, from := range []string{web, proxy, db, app, store, guest, host} {
			for _, typ := range []string{"A", "PTR"} {
				lines = append(lines, from+" "+name+" "+text(z.Answer(z.View(parties(t, from)), question(t, name+" "+typ))))
			}
		}
	}
	return fmt.Sprint(len(names), z.Names(), z.serial) + "\n" + strings.Join(sortedText(lines), "\n")
}

func TestNextIsWhatBuildMakes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	recs := append([]Record{}, testRecs...)
	z := Build("incus", 1, testNets, recs)
	var groups []*Group
	for step := range 300 {
		recs = mutate(rng, append([]Record{}, recs...))
		before := everything(t, z)
		groups = byProject(groups, recs)
		next := z.Next(uint32(step+2), testNets, groups...)
		if diff := cmp.Diff(everything(t, Build("incus", uint32(step+2), testNets, recs)), everything(t, next)); diff != "" {
			t.Fatalf("step %d: %s", step, diff)
		}
		if diff := cmp.Diff(before, everything(t, z)); diff != "" {
			t.Fatalf("step %d changed the zone it was made from: %s", step, diff)
		}
		z = next
	}
	other := append([]Network{}, testNets...)
	other[0].Gateway = ip("10.1.0.2")
	if diff := cmp.Diff(everything(t, Build("incus", 9, other, recs)), everything(t, z.Next(9, other, groups...))); diff != "" {
		t.Fatalf("another network: %s", diff)
	}
}

// byProject makes a group of each project's records, and takes the group before where it has the same.
func byProject(before []*Group, recs []Record) []*Group {
	var out []*Group
	for _, r := range recs {
		i := slices.IndexFunc(out, func(g *Group) bool { return g.Name == r.Project })
		if i < 0 {
			i = len(out)
			out = append(out, &Group{Name: r.Project})
		}
		out[i].Records = append(out[i].Records, r)
	}
	for i, g := range out {
		for _, old := range before {
			if reflect.DeepEqual(old, g) {
				out[i] = old
			}
		}
	}
	return out
}

// mutate changes, adds, removes or swaps a record.
func mutate(rng *rand.Rand, recs []Record) []Record {
	if len(recs) == 0 {
		return append(recs, testRecs...)
	}
	i := rng.IntN(len(recs))
	r := recs[i]
	r.On = append([]Interface{}, r.On...)
	switch rng.IntN(7) {
	case 0:
		r.Up = !r.Up
	case 1:
		r.Unready = !r.Unready
	case 2:
		r.On = r.On[:rng.IntN(len(r.On)+1)]
	case 3:
		r.Names = []string{[]string{"web", "db", "x.y", "web-1", "a.x.y"}[rng.IntN(5)]}
	case 4:
		return append(recs[:i], recs[i+1:]...)
	case 5:
		r.Instance = fmt.Sprint("web-", rng.IntN(5))
		if len(r.On) > 0 {
			r.On[0].Addr = netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + rng.IntN(5))})
		}
		return append(recs[:i], append([]Record{r}, recs[i:]...)...)
	case 6:
		j := rng.IntN(len(recs))
		recs[i], recs[j] = recs[j], recs[i]
		return recs
	}
	recs[i] = r
	return recs
}
