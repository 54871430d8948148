package dns

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// relaying is an upstream that asks another server everything, as a home router does.
func relaying(t *testing.T, to func() netip.AddrPort) func(*miekg.Msg) *miekg.Msg {
	return func(q *miekg.Msg) *miekg.Msg {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		c := miekg.Client{Timeout: 300 * time.Millisecond}
		m, _, err := c.ExchangeContext(ctx, q, to().String())
		if err != nil {
			return nil
		}
		return m
	}
}

func TestD34LoopIsFoundAndLeft(t *testing.T) {
	var mu sync.Mutex
	var at netip.AddrPort
	looping := true
	relay := relaying(t, func() netip.AddrPort {
		mu.Lock()
		defer mu.Unlock()
		return at
	})
	router, err := newRelay(t, func(q *miekg.Msg) *miekg.Msg {
		mu.Lock()
		on := looping
		mu.Unlock()
		if on {
			return relay(q)
		}
		return answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1")
	})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Upstreams: []netip.AddrPort{router}, CacheBytes: -1})
	s.forward.times = quick
	s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
	s.Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW)})
	mu.Lock()
	at = s.Status().Listeners[0].Addr
	mu.Unlock()
	r := run(t, s)
	eventually(t, "the loop is found", func() bool { return s.Status().Upstreams[0].Loops })
	if p := s.Status().Problems(); len(p) != 1 || !strings.Contains(p[0], "asks this server back") {
		t.Errorf("problems: %q", p)
	}
	got := digest(resolve(t, "udp", visitor, r.front, ask4("example.com.", withEDNS(1232, false))))
	if got != "SERVFAIL | ra | opt v0 1232 | ede 22" {
		t.Errorf("in a loop: %s", got)
	}
	got = digest(resolve(t, "udp", visitor, r.front, ask4("web.")))
	if got != "NOERROR | aa | ra | web. 5 IN A 127.53.1.100" {
		t.Errorf("own name in a loop: %s", got)
	}
	mu.Lock()
	looping = false
	mu.Unlock()
	for _, u := range s.forward.all() {
		_, cleared := u.loopDue(time.Now().Add(loopClears))
		if !cleared {
			t.Error("the loop is never over")
		}
	}
	got = digest(resolve(t, "udp", visitor, r.front, ask4("example.com.")))
	if got != "NOERROR | ra | example.com. 300 IN A 192.0.2.1" {
		t.Errorf("after the loop: %s", got)
	}
}

// newRelay is a resolver that answers with what f returns.
func newRelay(t *testing.T, f func(*miekg.Msg) *miekg.Msg) (netip.AddrPort, error) {
	conns, _, err := bind(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		return netip.AddrPort{}, err
	}
	server := &miekg.Server{PacketConn: conns[0], Handler: miekg.HandlerFunc(func(w miekg.ResponseWriter, q *miekg.Msg) {
		m := f(q)
		if m != nil {
			_ = w.WriteMsg(m) // a client that is gone is the test's business
		}
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return netip.MustParseAddrPort(conns[0].LocalAddr().String()), nil
}

func TestD34WhenServersAreAskedTheirName(t *testing.T) {
	u := &upstream{token: newToken()}
	now := time.Unix(1e9, 0)
	due := func(after time.Duration) bool {
		d, _ := u.loopDue(now.Add(after))
		return d
	}
	if !due(0) {
		t.Error("a new server is not asked at once")
	}
	if due(time.Hour) {
		t.Error("a server that nobody uses is asked")
	}
	u.asked.Add(1)
	if !due(2 * time.Hour) {
		t.Error("a server in use is not asked")
	}
	u.asked.Add(1)
	if due(2*time.Hour + loopEvery - 1) {
		t.Error("it is asked too often")
	}
	if !due(2*time.Hour + loopEvery) {
		t.Error("it is not asked any more")
	}
	if loopEvery > 5*time.Second {
		t.Errorf("a loop takes %s to find", loopEvery)
	}
}

func TestServersNobodyAsksAreForgotten(t *testing.T) {
	s := New(Options{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}})
	s.forward.known([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:53")})
	now := time.Now()
	for _, u := range s.forward.all() {
		u.loopDue(now)
	}
	s.forward.forget(now.Add(forgetAfter))
	if n := len(s.forward.all()); n != 2 {
		t.Errorf("%d servers are known, want 2", n)
	}
	s.forward.forget(now.Add(forgetAfter + 1))
	left := s.forward.all()
	if len(left) != 1 || left[0].addr.Addr() != ip("192.0.2.1") {
		t.Errorf("%d servers are left", len(left))
	}
}

func TestD35Rebinding(t *testing.T) {
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		addr, _, _ := strings.Cut(strings.ToLower(q.Question[0].Name), ".")
		if strings.HasPrefix(addr, "hint-") {
			return wire(answered(q, miekg.RcodeSuccess, "x. 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,"+strings.ReplaceAll(addr[5:], "-", ".")))
		}
		if strings.HasPrefix(addr, "v6-") {
			return wire(answered(q, miekg.RcodeSuccess, "x. 300 AAAA "+strings.ReplaceAll(addr[3:], "-", ":")))
		}
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A "+strings.ReplaceAll(addr, "-", ".")))
	})
	block := Rebinding{Block: true, Allow: []string{"lan", "Home.example.org."}}
	for _, tc := range []struct {
		name    string
		rule    Rebinding
		blocked bool
	}{
		{"10-1-2-3.example.com.", block, true},
		{"192-168-1-1.example.com.", block, true},
		{"127-0-0-1.example.com.", block, true},
		{"169-254-1-1.example.com.", block, true},
		{"v6-fd00--1.example.com.", block, true},
		{"v6-fe80--1.example.com.", block, true},
		{"v6---1.example.com.", block, true},
		{"v6---ffff-10.1.1.1.example.com.", block, false}, // the first label ends there: "::ffff:10", public
		{"hint-192-168-1-1.example.com.", block, true},
		{"hint-192-0-2-2.example.com.", block, false},
		{"192-0-2-1.example.com.", block, false},
		{"v6-2001-db8--1.example.com.", block, false},
		{"10-1-2-3.nas.LAN.", block, false},
		{"10-1-2-3.home.example.org.", block, false},
		{"10-1-2-3.xhome.example.org.", block, true},
		{"10-1-2-3.example.com.", Rebinding{}, false},
	} {
		s := caching(t, quick, Options{Rebinding: tc.rule}, loNets, up.addr)
		for range 2 { // the second one from the cache
			m := resolve(t, "udp", visitor, s.front, ask4(tc.name, withEDNS(1232, false)))
			if blocked := len(m.Answer) == 0; blocked != tc.blocked {
				t.Errorf("%s under %+v: %s", tc.name, tc.rule, digest(m))
			}
		}
		if n := s.Status().Counts.Blocked; (n == 2) != tc.blocked {
			t.Errorf("%s: %d counted as blocked", tc.name, n)
		}
	}
	s := caching(t, quick, Options{Rebinding: block}, loNets, up.addr)
	if got := digest(resolve(t, "udp", visitor, s.front, ask4("web."))); got != "NOERROR | aa | ra | web. 5 IN A 127.53.1.100" {
		t.Errorf("own names are exempt: %s", got)
	}
}

func TestD38Buckets(t *testing.T) {
	b := newBuckets(Rate{PerSecond: 10, Burst: 5})
	now := time.Unix(1e9, 0)
	taken := func(who string, n int, after time.Duration) int {
		got := 0
		for range n {
			if b.take(View{}.client(ip(who)), now.Add(after)) {
				got++
			}
		}
		return got
	}
	for _, tc := range []struct {
		who   string
		n     int
		after time.Duration
		want  int
	}{
		{"10.0.0.1", 9, 0, 5},
		{"10.0.0.2", 9, 0, 5},
		{"10.0.0.1", 9, 300 * time.Millisecond, 3},
		{"10.0.0.1", 9, time.Hour, 5},
		{"2001:db8::1", 4, time.Hour, 4},
		{"2001:db8::2", 4, time.Hour, 1}, // the same /64
		{"2001:db8:0:1::1", 4, time.Hour, 4},
	} {
		if got := taken(tc.who, tc.n, tc.after); got != tc.want {
			t.Errorf("%s after %s: %d of %d, want %d", tc.who, tc.after, got, tc.n, tc.want)
		}
	}
	addr := ip("10.1.0.0")
	for range 3 * maxBuckets {
		b.take(addr, now.Add(2*time.Hour))
		addr = addr.Next()
	}
	if len(b.by) > maxBuckets {
		t.Errorf("%d buckets", len(b.by))
	}
}

// On a network with IPv6 alone all instances have addresses of one /64: each has its own share. An address that nobody
// has shares it with all others of the /64, or a container would have as many shares as it takes addresses.
func TestD38EachInstanceHasItsShare(t *testing.T) {
	z := Build("incus", 1, []Network{{Name: "six", Project: "shop", Prefix6: pfx("fd00:6::/64"), Gateway6: ip("fd00:6::1")}}, []Record{
		{Project: "shop", Instance: "a-1", Service: "a", On: []Interface{{Network: "six", Addr: ip("fd00:6::a")}}},
	})
	for src, want := range map[string]string{"fd00:6::a": "fd00:6::a", "fd00:6::b": "fd00:6::", "fd00:6::c": "fd00:6::"} {
		if got := z.View(ip("fd00:6::1"), ip(src)).client(ip(src)); got != ip(want) {
			t.Errorf("%s counts as %s, want %s", src, got, want)
		}
	}
}

func TestD38ClientsAreLimited(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := caching(t, quick, Options{Forwards: Rate{PerSecond: 0.001, Burst: 2}}, loNets, up.addr)
	var got []string
	for i := range 4 {
		m := resolve(t, "udp", visitor, s.front, ask4(fmt.Sprintf("n%d.example.com.", i)))
		got = append(got, miekg.RcodeToString[m.Rcode])
	}
	if want := []string{"NOERROR", "NOERROR", "REFUSED", "REFUSED"}; !slices.Equal(got, want) {
		t.Errorf("forwards: %v", got)
	}
	if got := digest(resolve(t, "udp", visitor, s.front, ask4("n0.example.com."))); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("what is at hand costs nothing: %s", got)
	}
	resolve(t, "udp", "127.53.1.98", s.front, ask4("n9.example.com."))
	s = caching(t, quick, Options{Answers: Rate{PerSecond: 0.001, Burst: 3}}, loNets, up.addr)
	got = nil
	for range 5 {
		got = append(got, digest(resolve(t, "udp", visitor, s.front, ask4("web.", withEDNS(1232, false)))))
	}
	if got[2] != "NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232" || got[3] != "REFUSED | ra | opt v0 1232 | ede 0" {
		t.Errorf("answers: %q", got)
	}
}

func TestD47Metrics(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := caching(t, quick, Options{}, loNets, up.addr)
	for range 3 {
		resolve(t, "udp", visitor, s.front, ask4("web."))
	}
	resolve(t, "tcp", visitor, s.front, ask4("nosuch."))
	resolve(t, "udp", visitor, s.front, ask4("example.com."))
	resolve(t, "udp", visitor, s.front, ask4("example.com."))
	resolve(t, "udp", inside, s.data, ask4("example.com."))
	resolve(t, "udp", "127.0.0.1", s.front, ask4("ns.incus."))
	resolve(t, "udp", "127.53.2.7", s.front, ask4("web."))
	resolve(t, "udp", visitor, s.front, ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) { m.IsEdns0().SetVersion(1) }))
	reg := prometheus.NewPedanticRegistry()
	err := reg.Register(s)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			key := strings.TrimPrefix(f.GetName(), "ic_agent_dns_")
			for _, l := range m.Label {
				if l.GetValue() != up.addr.String() {
					key += " " + l.GetValue()
				}
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for key, want := range map[string]float64{
		"replies_total NOERROR front": 5, "replies_total NXDOMAIN front": 1, "replies_total REFUSED data": 1,
		"replies_total NOERROR host": 1, "replies_total REFUSED stranger": 1, "replies_total BADVERS front": 1,
		"events_total stranger": 1, "events_total forwarded": 1, "cache hits": 1, "cache entries": 1,
		"upstream_queries_total asked": 1, "upstream_queries_total failed": 0, "upstream_up": 1, "forwards_in_flight": 0,
		"latency_seconds upstream": 1, "zone_names": 5,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if n := s.Status().Counts.Queries; n != 10 {
		t.Errorf("%d queries", n)
	}
}

func TestD47QueryLogIsOffAndSampled(t *testing.T) {
	for every, want := range map[int]int{0: 0, 3: 4, 1: 12} {
		var mu sync.Mutex
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(b)
		}), nil))
		s := caching(t, quick, Options{Log: log, LogEvery: every}, loNets)
		for range 12 {
			resolve(t, "udp", visitor, s.front, ask4("web."))
		}
		mu.Lock()
		text := out.String()
		mu.Unlock()
		if n := strings.Count(text, "dns query"); n != want {
			t.Errorf("one of %d: %d lines, want %d", every, n, want)
		}
		if want > 0 && !strings.Contains(text, "name=web. type=A from=127.53.1.99 view=front rcode=NOERROR") {
			t.Errorf("log is %s", text)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestD37LANListener(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := New(Options{Upstreams: []netip.AddrPort{up.addr}, LAN: LAN{
		Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.53.9.1:0")}, Allow: []netip.Prefix{pfx("127.53.9.0/28")},
	}})
	s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
	r := run(t, s)
	at := r.Status().Listeners[2].Addr
	for _, tc := range []struct{ from, name, want string }{
		{"127.53.9.2", "web.shop.incus.", "NOERROR | aa | web.shop.incus. 5 IN A 127.53.1.100 | opt v0 1232"},
		{"127.53.9.1", "web.shop.incus.", "NOERROR | aa | web.shop.incus. 5 IN A 127.53.1.100 | opt v0 1232"},
		{"127.53.9.2", "example.com.", "REFUSED | opt v0 1232 | ede 18"},
		{"127.53.9.99", "web.shop.incus.", "REFUSED | opt v0 1232 | ede 18"},
		{visitor, "web.shop.incus.", "REFUSED | opt v0 1232 | ede 18"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got := digest(resolve(t, network, tc.from, at, ask4(tc.name, withEDNS(1232, false))))
			if got != tc.want {
				t.Errorf("%s asks %s over %s: %s, want %s", tc.from, tc.name, network, got, tc.want)
			}
		}
	}
	if up.count() != 0 {
		t.Error("the LAN was served a foreign name")
	}
	if got := fmt.Sprint(r.Status().Replies["lan"]); got != "map[NOERROR:4 REFUSED:2]" {
		t.Errorf("counted %s", got)
	}
}

func TestB5Cookies(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := caching(t, quick, Options{}, loNets, up.addr)
	ask := func(name, cookie string) *miekg.Msg {
		return resolve(t, "udp", visitor, s.front, ask4(name, withEDNS(1232, false), func(m *miekg.Msg) {
			m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: cookie}}
		}))
	}
	returned := func(m *miekg.Msg) string {
		for _, o := range m.IsEdns0().Option {
			c, ok := o.(*miekg.EDNS0_COOKIE)
			if ok {
				return c.Cookie
			}
		}
		return ""
	}
	const mine = "0123456789abcdef"
	for _, name := range []string{"web.", "nosuch.", "example.com.", "example.com."} {
		c := returned(ask(name, mine))
		if len(c) != 48 || !strings.HasPrefix(c, mine+"01000000") {
			t.Errorf("%s: cookie %q", name, c)
		}
		if again := returned(ask(name, c)); len(again) != 48 {
			t.Errorf("%s with both parts: cookie %q", name, again)
		}
	}
	wire := pack(t, ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) {
		m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0123"}}
	}))
	m := unpack(t, exchange(t, dial(t, "udp", visitor, s.front), wire))
	if m.Rcode != miekg.RcodeFormatError {
		t.Errorf("a cookie of two bytes: %v", m.MsgHdr)
	}
}
