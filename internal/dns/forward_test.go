package dns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// upstreamTest is a resolver of the host that answers as a script says, over UDP and TCP.
type upstreamTest struct {
	addr   netip.AddrPort
	script func(*upstreamTest, *miekg.Msg) []byte

	mu   sync.Mutex
	seen []seen
}

// seen is a question as it arrived.
type seen struct {
	network string
	port    int
	msg     *miekg.Msg
}

// startUpstream starts a resolver; a nil message of the script is silence.
func startUpstream(t *testing.T, script func(*upstreamTest, *miekg.Msg) []byte) *upstreamTest {
	t.Helper()
	u := &upstreamTest{script: script}
	conns, tcp, err := bind(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	udp := conns[0]
	u.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	wg.Go(func() { u.serveUDP(udp) })
	wg.Go(func() { u.serveTCP(tcp) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		wg.Wait()
	})
	return u
}

func (u *upstreamTest) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		msg := bytes.Clone(buf[:n])
		go func() {
			answer := u.answer("udp", int(from.Port()), msg)
			if answer != nil {
				sendUDP(conn, answer, from)
			}
		}()
	}
}

func (u *upstreamTest) serveTCP(l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, maxQuery)
			n, err := readFrame(conn, buf)
			if err != nil {
				return
			}
			answer := u.answer("tcp", conn.RemoteAddr().(*net.TCPAddr).Port, buf[:n])
			if answer != nil {
				_, _ = conn.Write(framed(answer)) // a client that is gone is the test's business
			}
		}()
	}
}

func (u *upstreamTest) answer(network string, port int, msg []byte) []byte {
	m := new(miekg.Msg)
	err := m.Unpack(msg)
	if err != nil {
		return nil
	}
	if strings.HasSuffix(strings.ToLower(m.Question[0].Name), loopZone) {
		return nil // what finds loops is neither answered nor counted
	}
	u.mu.Lock()
	if m.Question[0].Name != "." { // what checks a server is not counted
		u.seen = append(u.seen, seen{network, port, m})
	}
	u.mu.Unlock()
	return u.script(u, m)
}

func (u *upstreamTest) questions() []seen {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]seen{}, u.seen...)
}

func (u *upstreamTest) count() int { return len(u.questions()) }

// answered is a script's answer: the question's own header and case, and the records.
func answered(q *miekg.Msg, rcode int, records ...string) *miekg.Msg {
	m := new(miekg.Msg)
	m.SetRcode(q, rcode)
	m.RecursionAvailable = true
	m.Compress = true
	for _, text := range records {
		r, err := miekg.NewRR(text)
		if err != nil {
			panic(err)
		}
		r.Header().Name = q.Question[0].Name
		m.Answer = append(m.Answer, r)
	}
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(4000, opt.Do())
	}
	return m
}

func wire(m *miekg.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// serving answers every question with one address.
func serving(addr string) func(*upstreamTest, *miekg.Msg) []byte {
	return func(_ *upstreamTest, q *miekg.Msg) []byte {
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A "+addr))
	}
}

func silent(*upstreamTest, *miekg.Msg) []byte { return nil }

func failing(_ *upstreamTest, q *miekg.Msg) []byte {
	return wire(answered(q, miekg.RcodeServerFailure))
}

func TestD26AnswersPassUnchanged(t *testing.T) {
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		m := answered(q, miekg.RcodeNameError, "x. 77 TYPE65280 \\# 3 010203", "x. 300 A 192.0.2.1")
		m.AuthenticatedData, m.Authoritative = true, true
		soa, _ := miekg.NewRR("example.com. 60 SOA a. b. 1 2 3 4 5")
		m.Ns = append(m.Ns, soa)
		return wire(m)
	})
	s := start(t, nil, up.addr)
	for _, tc := range []struct {
		name string
		q    *miekg.Msg
		want string
	}{
		{
			"plain", ask4("Www.Example.com."),
			"NXDOMAIN | aa | ra | ad | Www.Example.com. 77 CLASS1 TYPE65280 \\# 3 010203 | Www.Example.com. 300 IN A 192.0.2.1 | auth example.com. SOA",
		},
		{
			"DNSSEC", ask4("www.example.com.", withEDNS(4096, true)),
			"NXDOMAIN | aa | ra | ad | www.example.com. 77 CLASS1 TYPE65280 \\# 3 010203 | www.example.com. 300 IN A 192.0.2.1 | auth example.com. SOA | opt v0 1232 | do",
		},
		{"options stay here", ask4("www.example.com.", withEDNS(1232, false), func(m *miekg.Msg) {
			m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_SUBNET{Code: 8, Family: 1, SourceNetmask: 32, Address: net.IP{10, 1, 1, 1}}}
		}), "NXDOMAIN | aa | ra | ad | www.example.com. 77 CLASS1 TYPE65280 \\# 3 010203 | www.example.com. 300 IN A 192.0.2.1 | auth example.com. SOA | opt v0 1232"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got := digest(resolve(t, network, visitor, s.front, tc.q))
			if got != tc.want {
				t.Errorf("%s over %s\n got %s\nwant %s", tc.name, network, got, tc.want)
			}
		}
	}
	for _, q := range up.questions() {
		opt := q.msg.IsEdns0()
		if opt != nil && len(opt.Option) > 0 {
			t.Errorf("the client's options went upstream: %v", opt)
		}
	}
}

func TestD26FlagsGoUpstream(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := start(t, nil, up.addr)
	for i := range 16 {
		bit := func(n int) bool { return i>>n&1 == 1 }
		q := ask4("example.com.", withEDNS(4096, bit(0)))
		q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData = bit(1), bit(2), bit(3)
		resolve(t, "udp", visitor, s.front, q)
		all := up.questions()
		m := all[len(all)-1].msg
		got := fmt.Sprint(m.IsEdns0().Do(), m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData, m.IsEdns0().UDPSize())
		if want := fmt.Sprint(bit(0), bit(1), bit(2), bit(3), 1232); got != want {
			t.Errorf("upstream got DO, RD, CD, AD, size %s, want %s", got, want)
		}
	}
	resolve(t, "udp", visitor, s.front, ask4("example.com."))
	all := up.questions()
	if all[len(all)-1].msg.IsEdns0() != nil {
		t.Error("a question without EDNS went out with it")
	}
}

func TestD26QuestionsAreHardToForge(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := start(t, nil, up.addr)
	const queries = 40
	for i := range queries {
		q := ask4(fmt.Sprintf("a-rather-long-name-%d.example.com.", i))
		q.Id = 7
		resolve(t, "udp", visitor, s.front, q)
	}
	if n := s.forward.gate.count(); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
	ids, ports, names := map[uint16]bool{}, map[int]bool{}, map[string]bool{}
	for _, q := range up.questions() {
		ids[q.msg.Id], ports[q.port] = true, true
		names[strings.Map(caseOnly, q.msg.Question[0].Name)] = true
	}
	if len(ids) < queries-5 || len(ports) < queries/2 || len(names) < queries-5 {
		t.Errorf("of %d questions %d identities, %d ports and %d spellings differ", queries, len(ids), len(ports), len(names))
	}
}

// caseOnly keeps of a name which letters are capital.
func caseOnly(r rune) rune {
	switch {
	case r >= 'A' && r <= 'Z':
		return 'A'
	case r >= 'a' && r <= 'z':
		return 'a'
	}
	return -1
}

func TestD26ForgeriesAreIgnored(t *testing.T) {
	forge := func(edit func(*miekg.Msg)) func(*upstreamTest, *miekg.Msg) []byte {
		return func(_ *upstreamTest, q *miekg.Msg) []byte {
			m := answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.66")
			edit(m)
			return wire(m)
		}
	}
	for name, script := range map[string]func(*upstreamTest, *miekg.Msg) []byte{
		"other identity": forge(func(m *miekg.Msg) { m.Id++ }),
		"other name":     forge(func(m *miekg.Msg) { m.Question[0].Name = "www.example.org." }),
		"other type":     forge(func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }),
		"no answer":      forge(func(m *miekg.Msg) { m.Response = false }),
		"garbage":        func(_ *upstreamTest, q *miekg.Msg) []byte { return []byte{1, 2, 3} },
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := startUpstream(t, script), startUpstream(t, serving("192.0.2.1"))
			s := start(t, nil, bad.addr, good.addr)
			got := digest(resolve(t, "udp", visitor, s.front, ask4("www.example.com.")))
			if want := "NOERROR | ra | www.example.com. 300 IN A 192.0.2.1"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestD26ServerThatFoldsCase(t *testing.T) {
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		q.Question[0].Name = strings.ToLower(q.Question[0].Name)
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	})
	s := start(t, nil, up.addr)
	for range 3 {
		got := digest(resolve(t, "udp", visitor, s.front, ask4("Www.Example.Com.")))
		if want := "NOERROR | ra | Www.Example.Com. 300 IN A 192.0.2.1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if n := up.count(); n > 4 {
		t.Errorf("it was asked %d times for three answers and one lesson", n)
	}
}

// Somebody who guessed port and identity but not the case is not believed, and teaches nothing: what counts is what
// the server says over TCP.
func TestD26ForgedCase(t *testing.T) {
	up := startUpstream(t, func(u *upstreamTest, q *miekg.Msg) []byte {
		seen := u.questions()
		if seen[len(seen)-1].network == "tcp" {
			return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
		}
		q.Question[0].Name = strings.ToLower(q.Question[0].Name)
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 198.51.100.66"))
	})
	s := start(t, nil, up.addr)
	for range 2 {
		got := digest(resolve(t, "udp", visitor, s.front, ask4("www.a-name-with-many-letters.example.com.")))
		if want := "NOERROR | ra | www.a-name-with-many-letters.example.com. 300 IN A 192.0.2.1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestD27Failover(t *testing.T) {
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	const good = "NOERROR | ra | example.com. 300 IN A 192.0.2.1"
	for _, tc := range []struct {
		name   string
		first  func(*upstreamTest, *miekg.Msg) []byte // nil: nobody listens
		second func(*upstreamTest, *miekg.Msg) []byte
		want   string
	}{
		{"first is silent", silent, serving("192.0.2.1"), good},
		{"first is closed", nil, serving("192.0.2.1"), good},
		{"first fails", failing, serving("192.0.2.1"), good},
		{"first refuses", func(_ *upstreamTest, q *miekg.Msg) []byte { return wire(answered(q, miekg.RcodeRefused)) }, serving("192.0.2.1"), good},
		{"first cannot read us", func(_ *upstreamTest, q *miekg.Msg) []byte {
			return []byte{byte(q.Id >> 8), byte(q.Id), 0x80, miekg.RcodeFormatError, 0, 0, 0, 0, 0, 0, 0, 0}
		}, serving("192.0.2.1"), good},
		{
			"an empty answer is an answer", func(_ *upstreamTest, q *miekg.Msg) []byte { return wire(answered(q, miekg.RcodeNameError)) },
			serving("192.0.2.1"), "NXDOMAIN | ra",
		},
		{"both fail", failing, failing, "SERVFAIL | ra"},
		{"one fails, one is silent", failing, silent, "SERVFAIL | ra"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			first := closed
			if tc.first != nil {
				first = startUpstream(t, tc.first).addr
			}
			s := start(t, nil, first, startUpstream(t, tc.second).addr)
			got := digest(resolve(t, "udp", visitor, s.front, ask4("example.com.")))
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestD27DeadServerIsAskedLastUntilItAnswers(t *testing.T) {
	var mu sync.Mutex
	alive := false
	first := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		mu.Lock()
		defer mu.Unlock()
		if !alive {
			return nil
		}
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	})
	second := startUpstream(t, serving("192.0.2.2"))
	s := start(t, nil, first.addr, second.addr)
	look := func() string {
		m := resolve(t, "udp", visitor, s.front, ask4("example.com."))
		if len(m.Answer) != 1 {
			t.Fatalf("got %s", digest(m))
		}
		return m.Answer[0].(*miekg.A).A.String()
	}
	look()
	if !s.Status().Upstreams[0].Down {
		t.Fatal("the silent server is not down")
	}
	before := first.count()
	for range 5 {
		look()
	}
	if n := first.count(); n != before {
		t.Errorf("the dead server was asked first %d times", n-before)
	}
	mu.Lock()
	alive = true
	mu.Unlock()
	eventually(t, "the first server is asked again", func() bool { return look() == "192.0.2.1" })
}

func TestD27NobodyAnswers(t *testing.T) {
	s := start(t, nil, startUpstream(t, silent).addr)
	got := digest(resolve(t, "udp", visitor, s.front, ask4("example.com.", withEDNS(1232, false))))
	if want := "SERVFAIL | ra | opt v0 1232 | ede 22"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if p := s.Status().Problems(); len(p) != 1 || p[0] != "dns: none of the host's 1 name servers answers" {
		t.Errorf("problems are %q", p)
	}
	none := start(t, nil)
	got = digest(resolve(t, "udp", visitor, none.front, ask4("example.com.", withEDNS(1232, false))))
	if want := "SERVFAIL | ra | opt v0 1232 | ede 22"; got != want {
		t.Errorf("without upstreams: got %s, want %s", got, want)
	}
	if usualTimes.budget >= 4*time.Second || usualTimes.patience > 1200*time.Millisecond {
		t.Errorf("the usual times are too long for glibc: %+v", usualTimes)
	}
}

func TestD28LocalNamesWithoutUpstream(t *testing.T) {
	up := startUpstream(t, silent)
	s := start(t, replicas("web", 1), up.addr)
	waiting := dial(t, "udp", visitor, s.front)
	_, err := waiting.Write(pack(t, ask4("example.com.")))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the question goes out", func() bool { return up.count() > 0 })
	got := digest(resolve(t, "udp", visitor, s.front, ask4("web.")))
	if want := "NOERROR | aa | ra | web. 5 IN A 127.53.1.100"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestD29Truncation(t *testing.T) {
	many := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("x. 300 A 192.0.2.%d", i+1))
		}
		return out
	}
	// The upstream cuts everything over UDP after two records, and has n of them over TCP.
	upstream := func(n int, tcp bool) func(u *upstreamTest, q *miekg.Msg) []byte {
		return func(u *upstreamTest, q *miekg.Msg) []byte {
			all := u.questions()
			if all[len(all)-1].network == "udp" {
				m := answered(q, miekg.RcodeSuccess, many(2)...)
				m.Truncated = true
				return wire(m)
			}
			if !tcp {
				return nil
			}
			return wire(answered(q, miekg.RcodeSuccess, many(n)...))
		}
	}
	for _, tc := range []struct {
		name    string
		n       int
		tcp     bool
		network string
		q       *miekg.Msg
		answers int
		tc      bool
	}{
		{"fits after all", 40, true, "udp", ask4("example.com.", withEDNS(1232, false)), 40, false},
		{"does not fit", 100, true, "udp", ask4("example.com.", withEDNS(1232, false)), 2, true},
		{"client without EDNS", 40, true, "udp", ask4("example.com."), 2, true},
		{"client over TCP", 100, true, "tcp", ask4("example.com."), 100, false},
		{"upstream has no TCP", 40, false, "udp", ask4("example.com.", withEDNS(1232, false)), 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, nil, startUpstream(t, upstream(tc.n, tc.tcp)).addr)
			m := resolve(t, tc.network, visitor, s.front, tc.q)
			if len(m.Answer) != tc.answers || m.Truncated != tc.tc {
				t.Errorf("%d answers, truncated %t: want %d, %t", len(m.Answer), m.Truncated, tc.answers, tc.tc)
			}
		})
	}
}

func TestD32SameQuestionsGoOutOnce(t *testing.T) {
	const clients = 50
	release := make(chan struct{})
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		<-release
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	})
	s := startWith(t, usualTimes, nil, up.addr)
	var conns []net.Conn
	for i := range clients {
		conn := dial(t, "udp", visitor, s.front)
		conns = append(conns, conn)
		q := ask4("example.com.")
		q.Id = uint16(i)
		_, err := conn.Write(pack(t, q))
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all wait", func() bool { return s.Status().Counts.Forwarded == clients })
	close(release)
	for i, conn := range conns {
		buf := make([]byte, 512)
		n, err := conn.Read(buf)
		if err != nil || binary.BigEndian.Uint16(buf) != uint16(i) {
			t.Fatalf("client %d got % x, %v", i, buf[:n], err)
		}
	}
	// One that was counted and not yet waiting when the answer came asks again.
	if n := up.count(); n > 3 {
		t.Errorf("%d equal questions went out as %d", clients, n)
	}
}

func TestD33InternalNetworkCannotLeak(t *testing.T) {
	up := startUpstream(t, serving("192.0.2.1"))
	s := start(t, nil, up.addr)
	for _, name := range []string{"secret.example.com.", "secret.", "4.3.2.1.in-addr.arpa.", "."} {
		m := resolve(t, "udp", inside, s.data, ask4(name))
		if m.Rcode != miekg.RcodeRefused && m.Rcode != miekg.RcodeNameError || m.RecursionAvailable {
			t.Errorf("%s: got %s", name, digest(m))
		}
	}
	if n := up.count(); n != 0 {
		t.Errorf("%d questions left the host", n)
	}
}

func TestD38QuestionsUnderWayAreLimited(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		<-release
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	})
	s := New(Options{Upstreams: []netip.AddrPort{up.addr}})
	s.forward.gate = newGate(3, 2)
	s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
	r := run(t, s)
	defer close(release)
	hold := func(from string, name string) {
		t.Helper()
		_, err := dial(t, "udp", from, r.front).Write(pack(t, ask4(name)))
		if err != nil {
			t.Fatal(err)
		}
	}
	hold(visitor, "one.example.com.")
	hold(visitor, "two.example.com.")
	eventually(t, "the client has its share", func() bool { return s.forward.gate.count() == 2 })
	const refused = "REFUSED | ra | opt v0 1232 | ede 0"
	got := digest(resolve(t, "udp", visitor, r.front, ask4("three.example.com.", withEDNS(1232, false))))
	if got != refused {
		t.Errorf("third of one client: got %s, want %s", got, refused)
	}
	got = digest(resolve(t, "udp", visitor, r.front, ask4("web.")))
	if want := "NOERROR | aa | ra | web. 5 IN A 127.53.1.100"; got != want {
		t.Errorf("own name meanwhile: got %s, want %s", got, want)
	}
	hold("127.53.1.98", "four.example.com.")
	eventually(t, "another client has a place", func() bool { return s.forward.gate.count() == 3 })
	got = digest(resolve(t, "udp", "127.53.1.97", r.front, ask4("five.example.com.", withEDNS(1232, false))))
	if got != refused {
		t.Errorf("fourth in total: got %s, want %s", got, refused)
	}
	if n := s.Status().Counts.Overload; n != 2 {
		t.Errorf("%d counted as overload, want 2", n)
	}
}

func TestSlowQuestionDoesNotHoldUpAConnection(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		<-release
		return wire(answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"))
	})
	s := startWith(t, usualTimes, replicas("web", 1), up.addr)
	conn := dial(t, "tcp", visitor, s.front)
	slow, fast := ask4("example.com."), ask4("web.")
	slow.Id, fast.Id = 1, 2
	_, err := conn.Write(framed(pack(t, slow)))
	if err != nil {
		t.Fatal(err)
	}
	first := unpack(t, exchange(t, conn, pack(t, fast)))
	close(release)
	buf := make([]byte, 512)
	n, err := readFrame(conn, buf)
	if err != nil {
		t.Fatal(err)
	}
	second := unpack(t, buf[:n])
	if first.Id != 2 || second.Id != 1 || len(second.Answer) != 1 {
		t.Errorf("replies came in the order %d, %d", first.Id, second.Id)
	}
}

func TestStopDoesNotWaitForUpstreams(t *testing.T) {
	up := startUpstream(t, silent)
	s := startWith(t, times{patience: time.Hour, budget: time.Hour, recheck: time.Hour}, nil, up.addr)
	_, err := dial(t, "udp", visitor, s.front).Write(pack(t, ask4("example.com.")))
	if err != nil {
		t.Fatal(err)
	}
	dial(t, "tcp", visitor, s.front)
	eventually(t, "the question goes out", func() bool { return up.count() > 0 })
	// The test ends only when Run has returned.
}
