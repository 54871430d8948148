package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"
)

// The networks of the tests with real sockets lie in 127/8, so that every client has an address of its own.
var loNets = []Network{
	{Name: "front", Key: "front", Project: "shop", Prefix: pfx("127.53.1.0/24"), Gateway: ip("127.53.1.1")},
	{Name: "data", Key: "data", Project: "shop", Prefix: pfx("127.53.2.0/24"), Gateway: ip("127.53.2.1"), Internal: true},
}

const (
	visitor = "127.53.1.99"
	inside  = "127.53.2.99"
	frontGW = "127.53.1.1:0"
	dataGW  = "127.53.2.1:0"
)

// replicas returns a service of n instances on the front network.
func replicas(service string, n int) []Record {
	var recs []Record
	for i := range n {
		addr := netip.AddrFrom4([4]byte{127, 53, 1, 100})
		for range i {
			addr = addr.Next()
		}
		recs = append(recs, Record{
			Project: "shop", Service: service, Instance: fmt.Sprint(service, "-", i+1), Up: true,
			On: []Interface{{Network: "front", Addr: addr}},
		})
	}
	return recs
}

// running is a Server that runs until the test ends.
type running struct {
	*Server
	front, data netip.AddrPort
}

// quick lets a test wait for upstreams that will not answer.
var quick = times{patience: 200 * time.Millisecond, budget: 900 * time.Millisecond, recheck: 10 * time.Millisecond}

func start(t *testing.T, recs []Record, upstreams ...netip.AddrPort) running {
	t.Helper()
	return startWith(t, quick, recs, upstreams...)
}

func startWith(t *testing.T, times times, recs []Record, upstreams ...netip.AddrPort) running {
	t.Helper()
	s := New(Options{Upstreams: append([]netip.AddrPort{}, upstreams...), CacheBytes: -1})
	s.forward.times = times
	s.Publish(Build("incus", 1, loNets, recs))
	return run(t, s)
}

func run(t *testing.T, s *Server) running {
	t.Helper()
	s.Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW), netip.MustParseAddrPort(dataGW)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		err := <-done
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	st := s.Status()
	for _, l := range st.Listeners {
		if l.Err != nil {
			t.Fatal(l.Err)
		}
	}
	return running{s, st.Listeners[0].Addr, st.Listeners[1].Addr}
}

// dial opens a socket of the client's to the server; reads end after a while.
func dial(t testing.TB, network, from string, to netip.AddrPort) net.Conn {
	t.Helper()
	var local net.Addr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip(from), 0))
	if network == "tcp" {
		local = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip(from), 0))
	}
	d := net.Dialer{LocalAddr: local}
	conn, err := d.DialContext(t.Context(), network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	err = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends bytes and returns the next message that comes back.
func exchange(t testing.TB, conn net.Conn, msg []byte) []byte {
	t.Helper()
	c := &miekg.Conn{Conn: conn, UDPSize: 65535}
	_, err := c.Write(msg)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65535)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// resolve asks one question and returns the reply, after checking what every reply must have.
func resolve(t testing.TB, network, from string, to netip.AddrPort, q *miekg.Msg) *miekg.Msg {
	t.Helper()
	wire := pack(t, q)
	raw := exchange(t, dial(t, network, from, to), wire)
	m := unpack(t, raw)
	if m.Id != q.Id || !m.Response || m.RecursionDesired != q.RecursionDesired || m.CheckingDisabled != q.CheckingDisabled {
		t.Errorf("header does not fit the question: %v", m.MsgHdr)
	}
	end, _ := nameEnd(wire, headerLen)
	if !bytes.HasPrefix(raw[headerLen:], wire[headerLen:end+4]) {
		t.Errorf("question bytes are not echoed: % x", raw[:min(len(raw), end+4)])
	}
	opts := 0
	for _, r := range m.Extra {
		if r.Header().Rrtype == miekg.TypeOPT {
			opts++
		}
	}
	if want := len(q.Extra); opts != want {
		t.Errorf("%d OPT records in the reply, want %d", opts, want)
	}
	return m
}

func ask4(name string, edits ...func(*miekg.Msg)) *miekg.Msg {
	q := new(miekg.Msg)
	q.SetQuestion(name, miekg.TypeA)
	for _, edit := range edits {
		edit(q)
	}
	return q
}

func withEDNS(size uint16, do bool) func(*miekg.Msg) {
	return func(m *miekg.Msg) { m.SetEdns0(size, do) }
}

func pack(t testing.TB, m *miekg.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t testing.TB, b []byte) *miekg.Msg {
	t.Helper()
	m := new(miekg.Msg)
	err := m.Unpack(b)
	if err != nil {
		t.Fatalf("reply cannot be read: %v\n% x", err, b)
	}
	return m
}

// digest writes a reply on one line: code, flags, records.
func digest(m *miekg.Msg) string {
	out := []string{miekg.RcodeToString[m.Rcode]}
	if m.Rcode == miekg.RcodeBadVers {
		out[0] = "BADVERS" // the number is BADSIG's too
	}
	for _, f := range []struct {
		on   bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.Zero, "z"}} {
		if f.on {
			out = append(out, f.name)
		}
	}
	for _, r := range m.Answer {
		out = append(out, strings.Join(strings.Fields(r.String()), " "))
	}
	for _, r := range m.Ns {
		out = append(out, "auth "+r.Header().Name+" "+miekg.Type(r.Header().Rrtype).String())
	}
	opt := m.IsEdns0()
	if opt != nil {
		out = append(out, fmt.Sprintf("opt v%d %d", opt.Version(), opt.UDPSize()))
		if opt.Do() {
			out = append(out, "do")
		}
		for _, o := range opt.Option {
			ede, ok := o.(*miekg.EDNS0_EDE)
			if ok {
				out = append(out, fmt.Sprintf("ede %d", ede.InfoCode))
			} else {
				out = append(out, fmt.Sprintf("option %d", o.Option()))
			}
		}
	}
	return strings.Join(out, " | ")
}

// eventually waits until a condition holds that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestReplies(t *testing.T) {
	s := start(t, replicas("web", 1))
	const soa = "auth shop.incus. SOA"
	for _, network := range []string{"udp", "tcp"} {
		for _, tc := range []struct {
			name string
			q    *miekg.Msg
			want string
		}{
			{"D01 service", ask4("web.shop.incus."), "NOERROR | aa | ra | web.shop.incus. 5 IN A 127.53.1.100"},
			{
				"D08 other family", ask4("web.shop.incus.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }),
				"NOERROR | aa | ra | " + soa,
			},
			{"D09 unknown", ask4("nosuch.shop.incus."), "NXDOMAIN | aa | ra | " + soa},
			{
				"D17 EDNS", ask4("web.shop.incus.", withEDNS(4096, false)),
				"NOERROR | aa | ra | web.shop.incus. 5 IN A 127.53.1.100 | opt v0 1232",
			},
			{"D17 DO", ask4("web.", withEDNS(1232, true)), "NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232 | do"},
			{"D17 unknown option", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) {
				m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_LOCAL{Code: 100}}
			}), "NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232"},
			{
				"D17 unknown flag", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) { m.IsEdns0().SetZ(0x40) }),
				"NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232",
			},
			{"D06 client subnet changes nothing", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) {
				m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_SUBNET{Code: 8, Family: 1, SourceNetmask: 32, Address: net.IP{127, 53, 2, 9}}}
			}), "NOERROR | aa | ra | web. 5 IN A 127.53.1.100 | opt v0 1232"},
			{
				"D18 EDNS version 1", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) { m.IsEdns0().SetVersion(1) }),
				"BADVERS | opt v0 1232",
			},
			{"D18 with an option", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) {
				m.IsEdns0().SetVersion(1)
				m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_LOCAL{Code: 100}}
			}), "BADVERS | opt v0 1232"},
			{
				"D23 class", ask4("web.", withEDNS(1232, false), func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }),
				"REFUSED | ra | opt v0 1232 | ede 18",
			},
			{"D23 class without EDNS", ask4("web.", func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassANY }), "REFUSED | ra"},
			{"D24 case", ask4("WeB.shOP.inCus."), "NOERROR | aa | ra | WeB.shOP.inCus. 5 IN A 127.53.1.100"},
			{"D25 flags", ask4("web.", func(m *miekg.Msg) {
				m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData, m.Zero = false, true, true, true
			}), "NOERROR | aa | ra | web. 5 IN A 127.53.1.100"},
		} {
			t.Run(tc.name+" "+network, func(t *testing.T) {
				got := digest(resolve(t, network, visitor, s.front, tc.q))
				if got != tc.want {
					t.Errorf("\n got %s\nwant %s", got, tc.want)
				}
			})
		}
	}
}

func TestD37Strangers(t *testing.T) {
	up := startUpstream(t, func(*upstreamTest, *miekg.Msg) []byte { return nil })
	s := start(t, replicas("web", 1), up.addr)
	for _, name := range []string{"web.shop.incus.", "example.com."} {
		got := digest(resolve(t, "udp", "127.53.2.7", s.front, ask4(name, withEDNS(1232, false))))
		if want := "REFUSED | opt v0 1232 | ede 18"; got != want {
			t.Errorf("%s from the next network: got %s, want %s", name, got, want)
		}
	}
	if n := s.Status().Counts.Strangers; n != 2 {
		t.Errorf("%d strangers counted, want 2", n)
	}
	if n := up.count(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

func TestD13Rotation(t *testing.T) {
	s := start(t, replicas("web", 3))
	conn := dial(t, "udp", visitor, s.front)
	const queries = 9000
	first := map[string]int{}
	wire := pack(t, ask4("web."))
	for range queries {
		m := unpack(t, exchange(t, conn, wire))
		if len(m.Answer) != 3 {
			t.Fatalf("%d answers, want 3", len(m.Answer))
		}
		first[m.Answer[0].(*miekg.A).A.String()]++
	}
	for addr, n := range first {
		if share := float64(n) / queries; share < 0.30 || share > 0.36 {
			t.Errorf("%s is first in %.1f %% of the replies, want a third", addr, 100*share)
		}
	}
}

func TestD19Sizes(t *testing.T) {
	s := start(t, replicas("web", 100))
	for _, tc := range []struct {
		name    string
		q       *miekg.Msg
		network string
		limit   int
		answers int
	}{
		{"no EDNS", ask4("web.shop.incus."), "udp", 512, 30},
		{"EDNS 100 counts as 512", ask4("web.shop.incus.", withEDNS(100, false)), "udp", 512, 29},
		{"EDNS 900", ask4("web.shop.incus.", withEDNS(900, false)), "udp", 900, 53},
		{"EDNS 4096 is cut at ours", ask4("web.shop.incus.", withEDNS(4096, false)), "udp", 1232, 74},
		{"TCP", ask4("web.shop.incus."), "tcp", 65535, 100},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := resolve(t, tc.network, visitor, s.front, tc.q)
			m.Compress = true
			if m.Len() > tc.limit {
				t.Errorf("%d bytes, the limit is %d", m.Len(), tc.limit)
			}
			if len(m.Answer) != tc.answers || m.Truncated != (tc.answers < 100) {
				t.Errorf("%d answers, truncated %t; want %d", len(m.Answer), m.Truncated, tc.answers)
			}
		})
	}
}

func TestD20ThousandReplicasOverTCP(t *testing.T) {
	nets := []Network{{Name: "front", Project: "shop", Prefix: pfx("127.53.0.0/16"), Gateway: ip("127.53.1.1")}}
	s := start(t, nil)
	s.Publish(Build("incus", 1, nets, replicas("web", 1000)))
	m := resolve(t, "tcp", visitor, s.front, ask4("web."))
	if len(m.Answer) != 1000 || m.Truncated {
		t.Errorf("%d answers, truncated %t", len(m.Answer), m.Truncated)
	}
}

func TestD20ConnectionsAreLimited(t *testing.T) {
	s := start(t, replicas("web", 1))
	var idle []net.Conn
	for range maxConnsEach {
		idle = append(idle, dial(t, "tcp", visitor, s.front))
	}
	eventually(t, "all connections are taken", func() bool { return s.conns.count() == maxConnsEach })
	over := dial(t, "tcp", visitor, s.front)
	_, err := over.Read(make([]byte, 1))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("connection %d stays open: %v", maxConnsEach+1, err)
	}
	resolve(t, "tcp", "127.53.1.98", s.front, ask4("web.")) // another client is not hurt
	resolve(t, "udp", visitor, s.front, ask4("web."))       // nor the same one over UDP
	exchange(t, idle[0], pack(t, ask4("web.")))             // nor an idle connection that wakes up
	idle[1].Close()
	eventually(t, "the place is given back", func() bool { return s.conns.count() == maxConnsEach })
	resolve(t, "tcp", visitor, s.front, ask4("web."))
}

func TestD20IdleConnectionsOfManyClients(t *testing.T) {
	s := start(t, replicas("web", 1))
	const clients, each = 22, 50
	for i := range clients {
		for range each {
			dial(t, "tcp", fmt.Sprint("127.53.1.", 120+i), s.front)
		}
	}
	eventually(t, "all are in", func() bool { return s.conns.count() == clients*each })
	for _, network := range []string{"tcp", "udp"} {
		got := digest(resolve(t, network, visitor, s.front, ask4("web.")))
		if want := "NOERROR | aa | ra | web. 5 IN A 127.53.1.100"; got != want {
			t.Errorf("%s: got %s, want %s", network, got, want)
		}
	}
}

func TestD20Garbage(t *testing.T) {
	s := start(t, replicas("web", 1))
	for name, bytes := range map[string][]byte{
		"empty frame":   {0, 0},
		"short frame":   {0, 5, 1, 2, 3, 4, 5},
		"an answer":     {0, 12, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"too long":      {0xff, 0xff, 0, 1, 0, 0},
		"end in middle": {0, 50, 0, 1, 0, 0},
	} {
		conn := dial(t, "tcp", visitor, s.front)
		_, err := conn.Write(bytes)
		if err != nil {
			t.Fatal(err)
		}
		err = conn.(*net.TCPConn).CloseWrite()
		if err != nil {
			t.Logf("%s: closed already: %v", name, err)
		}
		rest, err := io.ReadAll(conn)
		if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: got % x, %v; want the connection closed", name, rest, err)
		}
	}
}

func TestD22Malformed(t *testing.T) {
	s := start(t, replicas("web", 1))
	good := pack(t, ask4("web."))
	edited := func(edit func(b []byte) []byte) []byte { return edit(bytes.Clone(good)) }
	short := func(b []byte, qd int) []byte { binary.BigEndian.PutUint16(b[4:], uint16(qd)); return b }
	opt := []byte{0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0}
	additional := func(n int, rrs ...[]byte) []byte {
		return edited(func(b []byte) []byte { b[11] = byte(n); return append(b, slices.Concat(rrs...)...) })
	}
	for _, tc := range []struct {
		name string
		msg  []byte
		want string // empty: silence
	}{
		{"answer", edited(func(b []byte) []byte { b[2] |= 0x80; return b }), ""},
		{"short", good[:11], ""},
		{"empty", nil, ""},
		{"no question", short(bytes.Clone(good[:12]), 0), "FORMERR"},
		{"two questions", edited(func(b []byte) []byte { return short(append(b, b[12:]...), 2) }), "FORMERR"},
		{"question is cut", good[:len(good)-1], "FORMERR"},
		{"name points at itself", append(short(bytes.Clone(good[:12]), 1), 0xc0, 12, 0, 1, 0, 1), "FORMERR"},
		{"name points backwards", append(short(bytes.Clone(good[:12]), 1), 0xc0, 4, 0, 1, 0, 1), "FORMERR"},
		{"label of reserved type", append(short(bytes.Clone(good[:12]), 1), 0x41, 0, 0, 0, 1, 0, 1), "FORMERR"},
		{"with answers", edited(func(b []byte) []byte { b[7] = 1; return b }), "FORMERR"},
		{"missing OPT", additional(1), "FORMERR"},
		{"two OPT", additional(2, opt, opt), "FORMERR"},
		{"OPT not at the root", additional(1, []byte{0xc0, 12}, opt[1:]), "FORMERR"},
		{"OPT with half an option", additional(1, opt[:9], []byte{0, 3, 0, 1, 0}), "FORMERR"},
		{"OPT with a lying option", additional(1, opt[:9], []byte{0, 5, 0, 1, 0, 9, 0}), "FORMERR"},
		{"opcode 15, header only", short([]byte{0, 1, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0), "NOTIMP"},
		{"NOTIFY", edited(func(b []byte) []byte { b[2] = 4 << 3; return b }), "NOTIMP"},
		{"UPDATE", edited(func(b []byte) []byte { b[2] = 5 << 3; return b }), "NOTIMP"},
		{"junk behind it", append(bytes.Clone(good), 1, 2, 3), "NOERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := dial(t, "udp", visitor, s.front)
			_, err := conn.Write(tc.msg)
			if err != nil {
				t.Fatal(err)
			}
			// A good question right behind it shows whether the first one was answered: its reply comes
			// first, or nothing does.
			mark := pack(t, ask4("web."))
			reply := exchange(t, conn, mark)
			silent := bytes.Equal(reply[:2], mark[:2])
			if tc.want == "" {
				if !silent {
					t.Errorf("got a reply: % x", reply)
				}
				return
			}
			m := unpack(t, reply)
			if silent || miekg.RcodeToString[m.Rcode] != tc.want || m.Id != binary.BigEndian.Uint16(tc.msg) || m.Opcode != int(tc.msg[2]>>3&15) {
				t.Errorf("got %v, want %s", m.MsgHdr, tc.want)
			}
		})
	}
}

func TestListenersComeAndGo(t *testing.T) {
	s := start(t, replicas("web", 1))
	conn := dial(t, "udp", visitor, s.front)
	want := func(addrs ...string) []netip.AddrPort {
		var out []netip.AddrPort
		for _, a := range addrs {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	s.Listen(t.Context(), want("127.53.3.1:0", frontGW))
	st := s.Status()
	if len(st.Listeners) != 2 || st.Listeners[1].Addr != s.front {
		t.Fatalf("the untouched listener moved: %+v", st.Listeners)
	}
	exchange(t, conn, pack(t, ask4("web."))) // same sockets, still answering
	_, err := net.Dial("tcp", s.data.String())
	if err == nil {
		t.Error("the removed listener still accepts")
	}
	s.Publish(Build("incus", 2, append(loNets, Network{
		Name: "new", Project: "shop", Prefix: pfx("127.53.3.0/24"), Gateway: ip("127.53.3.1"),
	}), replicas("web", 1)))
	got := digest(resolve(t, "tcp", "127.53.3.9", st.Listeners[0].Addr, ask4("ns.incus.")))
	if want := "NOERROR | aa | ra | ns.incus. 5 IN A 127.53.3.1"; got != want {
		t.Errorf("new listener: got %s, want %s", got, want)
	}
}

func TestAddressBeforeItsBridge(t *testing.T) {
	s := New(Options{})
	at := netip.MustParseAddrPort("192.0.2.53:0")
	s.Listen(t.Context(), []netip.AddrPort{at})
	st := s.Status()
	if st.Listeners[0].Err != nil || st.Listeners[0].Addr.Addr() != at.Addr() {
		t.Fatalf("not bound: %+v", st.Listeners[0])
	}
	err := s.Probe(t.Context())
	if err != nil {
		t.Errorf("an address that is not there yet is no failure: %v", err)
	}
	s.Listen(t.Context(), nil)
}

func TestTakenPortIsNamedAndTriedAgain(t *testing.T) {
	squatter, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IP{127, 53, 4, 1}})
	if err != nil {
		t.Fatal(err)
	}
	at := squatter.LocalAddr().(*net.UDPAddr).AddrPort()
	s := start(t, nil)
	s.Listen(t.Context(), []netip.AddrPort{at})
	st := s.Status()
	want := []string{fmt.Sprintf("dns: %s is taken by another program ('ss -lnp sport = :%d' names it): "+
		"make it leave this address alone: listen udp %s: bind: address already in use", at, at.Port(), at)}
	if diff := cmp.Diff(want, st.Problems()); diff != "" {
		t.Error(diff)
	}
	if st.String() != "0 of 1 listeners, 3 names" {
		t.Errorf("status is %q", st)
	}
	if st.Listeners[0].Retry.IsZero() {
		t.Error("no retry is planned")
	}
	squatter.Close()
	eventually(t, "the port is taken back", func() bool { return s.Status().Listeners[0].Err == nil })
	if p := s.Status().Problems(); p != nil {
		t.Errorf("problems remain: %q", p)
	}
}

func TestRetriesGetRarer(t *testing.T) {
	var l listener
	now := time.Unix(0, 0)
	var waits []time.Duration
	for range 7 {
		l.fail(io.EOF, now)
		waits = append(waits, l.retry.Sub(now))
	}
	want := []time.Duration{5e8, 1e9, 2e9, 4e9, 8e9, 15e9, 15e9}
	if diff := cmp.Diff(want, waits); diff != "" {
		t.Error(diff)
	}
}

func TestProbe(t *testing.T) {
	s := start(t, nil)
	err := s.Probe(t.Context())
	if err != nil {
		t.Errorf("a server that runs: %v", err)
	}
	deaf := New(Options{}) // bound, and nobody reads
	deaf.Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW)})
	defer deaf.Listen(t.Context(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err = deaf.Probe(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that does not read: %v", err)
	}
}

func TestQuestionsWaitForRun(t *testing.T) {
	s := New(Options{Upstreams: []netip.AddrPort{}})
	s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
	s.Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW), netip.MustParseAddrPort(dataGW)})
	conn := dial(t, "udp", visitor, s.Status().Listeners[0].Addr)
	mark := pack(t, ask4("web."))
	_, err := conn.Write(mark)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil || !bytes.Equal(buf[:2], mark[:2]) {
		t.Errorf("the early question got % x, %v", buf[:n], err)
	}
}

func TestServfailBeforeTheFirstZone(t *testing.T) {
	s := run(t, New(Options{Upstreams: []netip.AddrPort{}}))
	got := digest(resolve(t, "udp", visitor, s.front, ask4("web.", withEDNS(1232, false))))
	if want := "SERVFAIL | opt v0 1232 | ede 14"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHostResolversAreFollowed(t *testing.T) {
	dir := t.TempDir()
	conf, stub := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "direct.conf")
	write := func(path, text string) {
		t.Helper()
		err := os.WriteFile(path+".new", []byte(text), 0o600)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(conf, "nameserver 192.0.2.1\n")
	write(stub, "nameserver 192.0.2.7\nnameserver 127.53.1.1\n")
	s := run(t, New(Options{ResolvConf: conf, StubConf: stub}))
	for _, step := range []struct{ name, text, want string }{
		{"as it was at the start", "nameserver 192.0.2.1\n", "192.0.2.1:53"},
		{"rewritten", "nameserver 192.0.2.2\nnameserver fe80::1%lo\n", "192.0.2.2:53 [fe80::1%lo]:53"},
		{"systemd-resolved's stub", "nameserver 127.0.0.53\n", "192.0.2.7:53 127.53.1.1:53"},
		{"nobody", "search lan\n", "127.0.0.1:53"},
	} {
		write(conf, step.text)
		s.wake()
		eventually(t, step.name, func() bool { return servers(s.Status()) == step.want })
	}
}

func TestD34OwnAddressesAreNoUpstreams(t *testing.T) {
	s := start(t, nil)
	s.mu.Lock()
	s.host = []netip.AddrPort{s.front, netip.MustParseAddrPort("192.0.2.1:53"), s.data}
	s.mu.Unlock()
	s.useUpstreams()
	if got := servers(s.Status()); got != "192.0.2.1:53" {
		t.Errorf("upstreams are %s", got)
	}
}

func servers(st Status) string {
	var out []string
	for _, u := range st.Upstreams {
		out = append(out, u.Addr.String())
	}
	return strings.Join(out, " ")
}

func TestParseResolvConf(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"plain", "# mine\nnameserver 192.0.2.1\nnameserver  2001:db8::1\noptions ndots:2\n", "192.0.2.1:53 [2001:db8::1]:53"},
		{"zone", "nameserver fe80::1%eth0\n", "[fe80::1%eth0]:53"},
		{"two on a line", "nameserver 192.0.2.1 192.0.2.2 # both\n", "192.0.2.1:53 192.0.2.2:53"},
		{"nonsense and doubles", "nameserver\nnameserver x\nnameserver 192.0.2.1\nnameserver 192.0.2.1\nnameservers 192.0.2.9", "192.0.2.1:53"},
		{"none", "", "127.0.0.1:53"},
		{"mapped", "nameserver ::ffff:192.0.2.1\n", "192.0.2.1:53"},
		{
			"many", strings.Repeat("nameserver 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8 192.0.2.9\n", 2),
			"192.0.2.1:53 192.0.2.2:53 192.0.2.3:53 192.0.2.4:53 192.0.2.5:53 192.0.2.6:53 192.0.2.7:53 192.0.2.8:53",
		},
	} {
		var st Status
		for _, a := range parseResolvConf(tc.text) {
			st.Upstreams = append(st.Upstreams, UpstreamStatus{Addr: a})
		}
		if got := servers(st); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}
