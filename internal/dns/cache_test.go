package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// caching is a server with a cache and these upstreams.
func caching(t *testing.T, times times, o Options, nets []Network, upstreams ...netip.AddrPort) running {
	t.Helper()
	o.Upstreams = append([]netip.AddrPort{}, upstreams...)
	s := New(o)
	s.forward.times = times
	s.Publish(Build("incus", 1, nets, replicas("web", 1)))
	return run(t, s)
}

func TestD30Cache(t *testing.T) {
	soa := func(ttl, minimum int) string {
		return fmt.Sprintf("example.com. %d SOA a. b. 1 2 3 4 %d", ttl, minimum)
	}
	with := func(rcode int, auth string, records ...string) func(*upstreamTest, *miekg.Msg) []byte {
		return func(_ *upstreamTest, q *miekg.Msg) []byte {
			m := answered(q, rcode, records...)
			if auth != "" {
				r, err := miekg.NewRR(auth)
				if err != nil {
					panic(err)
				}
				m.Ns = append(m.Ns, r)
			}
			return wire(m)
		}
	}
	for _, tc := range []struct {
		name   string
		script func(*upstreamTest, *miekg.Msg) []byte
		asked  int // how often for three equal questions
	}{
		{"positive", with(miekg.RcodeSuccess, "", "x. 300 A 192.0.2.1"), 1},
		{"lifetime 0", with(miekg.RcodeSuccess, "", "x. 0 A 192.0.2.1"), 3},
		{"one record of lifetime 0", with(miekg.RcodeSuccess, "", "x. 300 A 192.0.2.1", "x. 0 A 192.0.2.2"), 3},
		{"no such name", with(miekg.RcodeNameError, soa(300, 300)), 1},
		{"no such name, without SOA", with(miekg.RcodeNameError, ""), 3},
		{"no data", with(miekg.RcodeSuccess, soa(300, 60)), 1},
		{"no data, kept for 0", with(miekg.RcodeSuccess, soa(300, 0)), 3},
		{"SERVFAIL", with(miekg.RcodeServerFailure, ""), 1},
		{"REFUSED", with(miekg.RcodeRefused, ""), 3},
		{"cut off", func(_ *upstreamTest, q *miekg.Msg) []byte {
			m := answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1")
			m.Truncated = true
			return wire(m)
		}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			up := startUpstream(t, tc.script)
			s := caching(t, quick, Options{}, loNets, up.addr)
			first := digest(resolve(t, "udp", visitor, s.front, ask4("example.com.")))
			for _, name := range []string{"Example.COM.", "example.com."} {
				got := digest(resolve(t, "udp", visitor, s.front, ask4(name)))
				if !strings.EqualFold(got, first) {
					t.Errorf("got %s, first %s", got, first)
				}
			}
			if n := up.count(); n != tc.asked {
				t.Errorf("asked %d times, want %d", n, tc.asked)
			}
		})
	}
}

func TestD30CacheKeepsApart(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	nets := append([]Network{}, loNets...)
	nets[1].Internal = false
	s := caching(t, quick, Options{}, nets, up.addr)
	asks := []*miekg.Msg{
		ask4("example.com."),
		ask4("example.com.", withEDNS(1232, false)),
		ask4("example.com.", withEDNS(1232, true)),
		ask4("example.com.", func(m *miekg.Msg) { m.CheckingDisabled = true }),
		ask4("example.com.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeTXT }),
	}
	for range 2 {
		for _, q := range asks {
			resolve(t, "udp", visitor, s.front, q)
		}
	}
	if n := up.count(); n != len(asks) {
		t.Errorf("%d different questions went out as %d", len(asks), n)
	}
	resolve(t, "udp", inside, s.data, asks[0])
	if n := up.count(); n != len(asks)+1 {
		t.Errorf("another network was given what the first one asked")
	}
}

func TestD30LifetimesGetShorter(t *testing.T) {
	q := ask4("example.com.", withEDNS(1232, true))
	first := answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1", "x. 40 A 192.0.2.2")
	first.Authoritative = true
	msg := wire(first)
	c := newCache(1 << 20)
	now := time.Unix(1e9, 0)
	c.put("k", reply{whole: msg}, nil, now)
	ttls := func(after time.Duration) string {
		k, ok := c.get("k", now.Add(after))
		if !ok {
			return "gone"
		}
		r := k.aged(now.Add(after))
		m := unpack(t, r.whole)
		return fmt.Sprint(m.Answer[0].Header().Ttl, m.Answer[1].Header().Ttl, m.IsEdns0().Do(), r.stale, m.Authoritative)
	}
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{
		{0, "300 40 true false false"},
		{39 * time.Second, "261 1 true false false"},
		{40 * time.Second, "30 30 true true false"},
		{24 * time.Hour, "30 30 true true false"},
		{25 * time.Hour, "gone"},
	} {
		if got := ttls(tc.after); got != tc.want {
			t.Errorf("after %s: %s, want %s", tc.after, got, tc.want)
		}
	}
}

func TestD30Lifetime(t *testing.T) {
	for _, tc := range []struct {
		name    string
		rcode   int
		records []string
		soa     string
		want    time.Duration
	}{
		{"longest", miekg.RcodeSuccess, []string{"x. 86400 A 192.0.2.1"}, "", time.Hour},
		{"negative, longest", miekg.RcodeNameError, nil, ". 86400 SOA a. b. 1 2 3 4 86400", 5 * time.Minute},
		{"negative, the SOA's own lifetime", miekg.RcodeNameError, nil, ". 20 SOA a. b. 1 2 3 4 86400", 20 * time.Second},
		{"negative, the SOA's minimum", miekg.RcodeSuccess, nil, ". 86400 SOA a. b. 1 2 3 4 7", 7 * time.Second},
		{"alias of nothing", miekg.RcodeNameError, []string{"x. 9 CNAME y."}, ". 20 SOA a. b. 1 2 3 4 50", 9 * time.Second},
		{"alias without data", miekg.RcodeSuccess, []string{"x. 300 CNAME y."}, "", 0},
		{"over the top", miekg.RcodeSuccess, []string{"x. 2147483648 A 192.0.2.1"}, "", 0},
	} {
		m := answered(ask4("example.com."), tc.rcode, tc.records...)
		if tc.soa != "" {
			r, err := miekg.NewRR(tc.soa)
			if err != nil {
				t.Fatal(err)
			}
			m.Ns = append(m.Ns, r)
		}
		if got := lifetime(wire(m)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestD30CacheIsBounded(t *testing.T) {
	c := newCache(100 << 10)
	now := time.Unix(1e9, 0)
	msg := wire(answered(ask4("example.com."), miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	for i := range 100_000 {
		c.put(fmt.Sprint("flood", i), reply{whole: msg}, nil, now)
		c.put("wanted", reply{whole: msg}, nil, now)
	}
	entries, bytes, _ := c.size()
	if bytes > 100<<10 || entries > 400 || entries < 100 {
		t.Errorf("%d entries of %d bytes", entries, bytes)
	}
	_, ok := c.get("wanted", now)
	if !ok {
		t.Error("what is used is gone")
	}
	c.put("wanted", reply{}, errSilent, now.Add(time.Minute))
	k, _ := c.get("wanted", now.Add(time.Minute))
	if k.err != nil {
		t.Error("a failure took the place of an answer")
	}
}

func TestD31Stale(t *testing.T) {
	var mode atomic.Int32 // 0 answers, 1 is silent, 2 fails
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		switch mode.Load() {
		case 1:
			return nil
		case 2:
			return wire(answered(q, miekg.RcodeServerFailure))
		}
		m := answered(q, miekg.RcodeSuccess, "x. 1 A 192.0.2.1")
		if strings.HasPrefix(strings.ToLower(q.Question[0].Name), "no") {
			m = answered(q, miekg.RcodeNameError)
			soa, _ := miekg.NewRR("example.com. 1 SOA a. b. 1 2 3 4 1")
			m.Ns = append(m.Ns, soa)
		}
		return wire(m)
	})
	times := quick
	times.stale = 50 * time.Millisecond
	s := caching(t, times, Options{}, loNets, up.addr)
	const (
		good  = "NOERROR | ra | example.com. 1 IN A 192.0.2.1 | opt v0 1232"
		stale = "NOERROR | ra | example.com. 30 IN A 192.0.2.1 | opt v0 1232 | ede 3"
	)
	look := func(name string) string {
		return digest(resolve(t, "udp", visitor, s.front, ask4(name, withEDNS(1232, false))))
	}
	if got := look("example.com."); got != good {
		t.Fatalf("first: %s", got)
	}
	look("no.example.com.")
	mode.Store(1)
	eventually(t, "an old answer while the upstream is silent", func() bool { return look("example.com.") == stale })
	const gone = "NXDOMAIN | ra | auth example.com. SOA | opt v0 1232 | ede 19"
	eventually(t, "an old denial", func() bool { return look("no.example.com.") == gone })
	mode.Store(2)
	if got := look("example.com."); got != stale {
		t.Errorf("the upstream fails: %s", got)
	}
	eventually(t, "nobody asks again meanwhile", func() bool {
		before := up.count()
		for range 20 {
			look("example.com.")
		}
		return up.count() == before
	})
	if got := look("never.example.com."); got != "SERVFAIL | ra | opt v0 1232" {
		t.Errorf("a name without an old answer: %s", got)
	}
}

func TestD26NetworksAndServicesHaveTheirOwnUpstreams(t *testing.T) {
	hosts, nets, mine := startUpstream(t, serving("192.0.2.1")), startUpstream(t, serving("192.0.2.2")), startUpstream(t, serving("192.0.2.3"))
	s := New(Options{Upstreams: []netip.AddrPort{hosts.addr}})
	networks := append([]Network{}, loNets...)
	networks[0].Upstreams = []netip.AddrPort{nets.addr}
	recs := replicas("web", 2)
	recs[1].Upstreams = []netip.AddrPort{mine.addr}
	s.Publish(Build("incus", 1, networks, recs))
	r := run(t, s)
	for from, want := range map[string]string{
		visitor: "192.0.2.2", "127.53.1.100": "192.0.2.2", "127.53.1.101": "192.0.2.3", "127.0.0.1": "192.0.2.1",
	} {
		m := resolve(t, "udp", from, r.front, ask4("example.com."))
		if len(m.Answer) != 1 || m.Answer[0].(*miekg.A).A.String() != want {
			t.Errorf("%s got %s, want %s", from, digest(m), want)
		}
	}
}

func TestD33ServerInsideAnInternalNetwork(t *testing.T) {
	nets := []Network{loNets[1]}
	nets[0].Upstreams = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}
	z := Build("incus", 1, nets, nil)
	asked := func() Answer { return z.Answer(z.View(ip("127.53.2.1"), ip(inside)), question(t, "example.com. A")) }
	if got := text(asked()); got != "REFUSED ede 18 network data of shop is internal" {
		t.Errorf("a server outside: %s", got)
	}
	nets[0].Upstreams = append(nets[0].Upstreams, netip.MustParseAddrPort("127.53.2.7:53"))
	z = Build("incus", 1, nets, nil)
	if !asked().Forward {
		t.Errorf("a server inside: %s", text(asked()))
	}
	if rt := z.View(ip("127.53.2.1"), ip(inside)).route(); len(rt.servers) != 1 || rt.servers[0].Addr() != ip("127.53.2.7") {
		t.Errorf("asked are %v", rt.servers)
	}
}

func TestFailuresAreKeptShortly(t *testing.T) {
	c := newCache(1 << 20)
	now := time.Unix(1e9, 0)
	c.put("k", reply{}, errSilent, now)
	k, ok := c.get("k", now.Add(failureFor-1))
	if !ok || !errors.Is(k.err, errSilent) {
		t.Errorf("got %v, %t", k.err, ok)
	}
	_, ok = c.get("k", now.Add(failureFor))
	if ok {
		t.Error("a failure is kept too long")
	}
}
