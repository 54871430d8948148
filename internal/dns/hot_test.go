package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	miekg "github.com/miekg/dns"
)

// hotServer has a published zone and no socket.
func hotServer() *Server {
	s := New(Options{Upstreams: []netip.AddrPort{}, Forwards: Rate{PerSecond: -1}, Relays: []netip.Prefix{pfx(fromGuest.src.String() + "/32")}})
	s.Publish(Build("incus", 1, testNets, slices.Concat(testRecs, manyReplicas(), offering()[:2])))
	return s
}

var fromGuest = arrival{local: ip("10.1.0.1"), src: ip("10.1.0.99")}

// both asks the slow path and then the fast one, which must answer when the slow one packed.
func both(t testing.TB, s *Server, msg []byte, from arrival) (slow, fast []byte) {
	t.Helper()
	out := make([]byte, maxPayload)
	var q hotQuery
	slow, _ = s.answer(msg, from)
	n := s.fast(out, msg, &from, &q)
	return slow, out[:n]
}

func TestB6FastPathSaysTheSame(t *testing.T) {
	s := hotServer()
	for _, tc := range []struct {
		name string
		from string
		q    *miekg.Msg
		fast bool
	}{
		{"one address", guest, ask4("web-2.shop.incus."), true},
		{"case", guest, ask4("WeB-2.sHOP.incus."), true},
		{"EDNS and DO", guest, ask4("gate.", withEDNS(4096, true)), true},
		{"no data", guest, ask4("gate.shop.incus.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA }), true},
		{"HTTPS", guest, ask4("web.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeHTTPS }), true},
		{"host", host, ask4("db.shop.incus."), true},
		{"internal network says so", store, ask4("app."), true},
		{"RD off, CD on", guest, ask4("web-2.", func(m *miekg.Msg) { m.RecursionDesired, m.CheckingDisabled = false, true }), true},
		{"localhost", guest, ask4("localhost."), true},
		{"name of nobody", guest, ask4("nosuch."), false},
		{"too many for a datagram", guest, ask4("many."), false},
		{"stranger", "10.9.0.9@10.1.0.1", ask4("web."), false},
		{"foreign", guest, ask4("example.com."), false},
		{"other class", guest, ask4("web.", func(m *miekg.Msg) { m.Question[0].Qclass = miekg.ClassCHAOS }), false},
		{"EDNS version", guest, ask4("web.", withEDNS(900, false), func(m *miekg.Msg) { m.IsEdns0().SetVersion(1) }), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			local, src := parties(t, tc.from)
			slow, fast := both(t, s, pack(t, tc.q), arrival{local: local, src: src})
			if tc.fast != (len(fast) > 0) {
				t.Fatalf("answered fast: %t, want %t", len(fast) > 0, tc.fast)
			}
			if tc.fast && !bytes.Equal(slow, fast) {
				t.Errorf("\nfast % x\nslow % x", fast, slow)
			}
		})
	}
}

func TestB3FastPathKeepsViewsApart(t *testing.T) {
	s := hotServer()
	msg := pack(t, ask4("web.shop.incus."))
	for _, from := range []string{guest, db, web, host, guest, web} {
		local, src := parties(t, from)
		slow, fast := both(t, s, msg, arrival{local: local, src: src})
		if len(fast) == 0 || !slices.Equal(addressesOf(t, slow), addressesOf(t, fast)) {
			t.Errorf("%s: fast %v, slow %v", from, addressesOf(t, fast), addressesOf(t, slow))
		}
	}
	s.Publish(Build("incus", 2, testNets, nil))
	local, src := parties(t, guest)
	from := arrival{local: local, src: src}
	var q hotQuery
	if n := s.fast(make([]byte, maxPayload), msg, &from, &q); n != 0 {
		t.Error("an answer of the zone before is still given")
	}
}

// addressesOf returns the sorted addresses of a reply.
func addressesOf(t testing.TB, msg []byte) []string {
	t.Helper()
	var out []string
	if len(msg) == 0 {
		return out
	}
	for _, r := range unpack(t, msg).Answer {
		out = append(out, r.(*miekg.A).A.String())
	}
	return sortedText(out)
}

func TestD13FastPathTurns(t *testing.T) {
	s := hotServer()
	msg := pack(t, ask4("web."))
	local, src := parties(t, web)
	from := arrival{local: local, src: src}
	both(t, s, msg, from)
	out := make([]byte, maxPayload)
	var q hotQuery
	firsts, thirds := map[string]int{}, map[string]int{}
	for range 1000 {
		n := s.fast(out, msg, &from, &q)
		m := unpack(t, out[:n])
		firsts[m.Answer[0].(*miekg.A).A.String()]++
		thirds[m.Answer[2].(*miekg.A).A.String()]++
	}
	if firsts["10.1.0.11"] != 500 || firsts["10.1.0.12"] != 500 || thirds["10.2.0.11"] != 500 || thirds["10.2.0.12"] != 500 {
		t.Errorf("first of the near ones %v, of the far ones %v", firsts, thirds)
	}
}

func TestD46HotPathDoesNotAllocate(t *testing.T) {
	s := hotServer()
	for name, msg := range map[string][]byte{
		"plain": pack(t, ask4("web.shop.incus.")), "EDNS": pack(t, ask4("web.", withEDNS(1232, true))),
		"no data": pack(t, ask4("web-2.", func(m *miekg.Msg) { m.Question[0].Qtype = miekg.TypeAAAA })),
	} {
		both(t, s, msg, fromGuest)
		out, from := make([]byte, maxPayload), fromGuest
		var q hotQuery
		allocs := testing.AllocsPerRun(1000, func() {
			if s.fast(out, msg, &from, &q) == 0 {
				t.Fatal("not answered")
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations for an answer", name, allocs)
		}
	}
}

func TestD46SocketLoopDoesNotAllocate(t *testing.T) {
	s := start(t, replicas("web", 3))
	conn := dial(t, "udp", visitor, s.front).(*net.UDPConn)
	msg, buf := pack(t, ask4("web.")), make([]byte, 512)
	ask := func() {
		_, err := conn.Write(msg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
	}
	ask()
	if allocs := testing.AllocsPerRun(2000, ask); allocs != 0 {
		t.Errorf("%v allocations for a question and its answer, both ends", allocs)
	}
}

func BenchmarkD44HotAnswer(b *testing.B) {
	s := hotServer()
	msg := pack(b, ask4("web.shop.incus."))
	both(b, s, msg, fromGuest)
	out, from := make([]byte, maxPayload), fromGuest
	var q hotQuery
	b.ReportAllocs()
	for b.Loop() {
		s.fast(out, msg, &from, &q)
	}
}

// BenchmarkD44Readers is BenchmarkD44HotAnswer by as many readers as there are processors (-cpu 1,2,4): what they share,
// the counters and the turn, must not hold them up.
func BenchmarkD44Readers(b *testing.B) {
	s := hotServer()
	msg := pack(b, ask4("web.shop.incus."))
	both(b, s, msg, fromGuest)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		out, from := make([]byte, maxPayload), fromGuest
		var q hotQuery
		for pb.Next() {
			s.fast(out, msg, &from, &q)
		}
	})
}

func BenchmarkColdAnswer(b *testing.B) {
	s := hotServer()
	msg := pack(b, ask4("web.shop.incus."))
	b.ReportAllocs()
	for b.Loop() {
		s.answer(msg, fromGuest)
	}
}

// BenchmarkD44Loopback compares a question and its answer over a socket with the same bytes sent back by a loop
// that does nothing else, in turn in one run.
func BenchmarkD44Loopback(b *testing.B) {
	echo, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IP{127, 53, 1, 1}})
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, maxQuery)
		for {
			n, src, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			sendUDP(echo, buf[:n], src)
		}
	}()
	s := New(Options{Upstreams: []netip.AddrPort{}})
	s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
	s.Listen(b.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW)})
	ctx, stop := context.WithCancel(b.Context())
	done := runs(ctx, s)
	defer func() { stop(); <-done }()
	msg := pack(b, ask4("web."))
	ends := []net.Conn{
		dial(b, "udp", visitor, echo.LocalAddr().(*net.UDPAddr).AddrPort()),
		dial(b, "udp", visitor, s.Status().Listeners[0].Addr),
	}
	var took [2]int64
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		for i, conn := range ends {
			begun := nanotime()
			for range 64 {
				_, err = conn.Write(msg)
				if err == nil {
					_, err = conn.Read(buf)
				}
				if err != nil || binary.BigEndian.Uint16(buf) != binary.BigEndian.Uint16(msg) {
					b.Fatal(err)
				}
			}
			took[i] += nanotime() - begun
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "x-echo")
}
