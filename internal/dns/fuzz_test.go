package dns

import (
	"bytes"
	"encoding/binary"
	"flag"
	mrand "math/rand/v2"
	"testing"

	miekg "github.com/miekg/dns"
)

// FuzzPacket sends any bytes as a question: no panic, at most one reply, and that one well formed, within its
// limit, and with the identity and the question of what was asked.
func FuzzPacket(f *testing.F) {
	s := hotServer()
	for _, msg := range seeds(f) {
		f.Add(msg, false)
		f.Add(msg, true)
	}
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) { throw(t, s, msg, tcp) })
}

// seeds are questions of every kind that is answered differently.
func seeds(t testing.TB) [][]byte {
	t.Helper()
	out := [][]byte{
		{0, 1, 0x78, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1},
	}
	cookie := func(m *miekg.Msg) {
		m.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_COOKIE{Code: miekg.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
	}
	for _, q := range []*miekg.Msg{
		ask4("web.shop.incus."), ask4("WEB.", withEDNS(4096, true)), ask4("many.", withEDNS(512, false)),
		ask4("example.com."), ask4("incus."), ask4("."), ask4("12.0.1.10.in-addr.arpa."), ask4(`a\.b\000.shop.incus.`),
		ask4("_why.web.shop.incus."), ask4("_http._tcp.web."), ask4("tasks.web."), ask4("web.", withEDNS(1232, false), cookie),
		ask4("0123456789abcdef." + loopZone), ask4("web.", withSubnet(1, 32, "10.1.0.11")), ask4("db.", withSubnet(1, 24, "10.2.0.0")),
		ask4("web.", withSubnet(2, 64, "fd00:1::")), ask4("example.com.", withSubnet(1, 0, "0.0.0.0")),
	} {
		for _, typ := range []uint16{
			miekg.TypeA, miekg.TypeAAAA, miekg.TypeSOA, miekg.TypeNS, miekg.TypePTR, miekg.TypeSRV, miekg.TypeTXT, miekg.TypeANY, miekg.TypeAXFR,
		} {
			q.Question[0].Qtype = typ
			out = append(out, pack(t, q))
		}
	}
	return out
}

// throw gives the server a message by both paths and checks what it makes of it.
func throw(t *testing.T, s *Server, msg []byte, tcp bool) {
	sent := bytes.Clone(msg)
	from := fromGuest
	from.tcp = tcp
	reply, ask := s.answer(msg, from)
	if !bytes.Equal(msg, sent) {
		t.Fatal("the message was changed")
	}
	if ask != nil {
		s.forward.gate.leave(ask.from)
		_, err := ask.q.wanted(tcp).message(true)
		if reply != nil || err != nil {
			t.Fatalf("forwarded with a reply (% x) or not at all (%v)", reply, err)
		}
		return
	}
	checkReply(t, msg, reply, tcp)
	var out [maxPayload]byte
	var q hotQuery
	n := 0
	if !tcp {
		n = s.fast(out[:], msg, &from, &q)
	}
	if n > 0 && (n != len(reply) || !bytes.Equal(reply[:headerLen], out[:headerLen])) {
		t.Fatalf("fast % x\nslow % x", out[:n], reply)
	}
}

var inputs = flag.Int("dns.inputs", 100_000, "how many mutated questions TestD22MutatedQuestions sends")

// TestD22MutatedQuestions throws questions changed at random places: without a look at what the code does with
// them, and so many more of them in the same time than FuzzPacket.
func TestD22MutatedQuestions(t *testing.T) {
	s, all := hotServer(), seeds(t)
	rng := mrand.New(mrand.NewPCG(uint64(*inputs), 22))
	for range *inputs {
		msg := bytes.Clone(all[rng.IntN(len(all))])
		for range rng.IntN(6) {
			i := rng.IntN(len(msg))
			switch rng.IntN(6) {
			case 0:
				msg = msg[:i+1]
			case 1:
				msg = append(msg, msg[i:]...)
			case 2:
				msg[i] ^= 1 << rng.IntN(8)
			case 3:
				msg[i] = byte(rng.Uint32())
			case 4:
				msg[i] = 0xc0
			case 5:
				msg = append(msg[:i], append([]byte{byte(rng.Uint32())}, msg[i:]...)...)
			}
		}
		throw(t, s, msg, rng.IntN(4) == 0)
	}
}

func manyReplicas() []Record {
	var recs []Record
	addr := ip("10.3.1.0")
	for range 300 {
		addr = addr.Next()
		recs = append(recs, Record{
			Project: "shop", Service: "many", Instance: "m", Up: true,
			On: []Interface{{Network: "shop-front", Addr: addr}},
		})
	}
	return recs
}

func checkReply(t *testing.T, msg, reply []byte, tcp bool) {
	if reply == nil {
		if len(msg) >= headerLen && msg[2]&0x80 == 0 {
			t.Fatal("a question got no reply")
		}
		return
	}
	limit := maxPayload
	if tcp {
		limit = maxMessage
	}
	if len(reply) < headerLen || len(reply) > limit || !bytes.Equal(reply[:2], msg[:2]) || reply[2]&0x80 == 0 {
		t.Fatalf("bad reply: % x", reply)
	}
	m := unpack(t, reply)
	if len(m.Question) > 0 {
		end, _ := nameEnd(msg, headerLen)
		if !bytes.HasPrefix(reply[headerLen:], msg[headerLen:end+4]) {
			t.Fatalf("question bytes differ: % x", reply)
		}
	}
	if m.Truncated && len(m.Answer) == 0 {
		t.Fatal("truncated to nothing")
	}
	l, ok := readAnswer(reply)
	if len(m.Question) > 0 && (!ok || l.end != len(reply)) {
		t.Fatalf("the counts do not fit the records: % x", reply)
	}
}

// FuzzUpstreamAnswer gives any bytes as an upstream's answer: no panic, and what is passed on keeps the
// client's identity, question and limit.
func FuzzUpstreamAnswer(f *testing.F) {
	q := ask4("www.Example.com.")
	for _, m := range []*miekg.Msg{
		answered(q, miekg.RcodeSuccess, "x. 300 A 192.0.2.1"),
		answered(ask4("www.example.com.", withEDNS(1232, true)), miekg.RcodeNameError, "x. 300 TXT hello", "x. 1 MX 1 www.example.com."),
	} {
		f.Add(wire(m), true)
		f.Add(wire(m), false)
	}
	f.Fuzz(func(t *testing.T, answer []byte, edns bool) {
		if edns {
			q = ask4("www.Example.com.", withEDNS(700, false))
		} else {
			q = ask4("www.Example.com.")
		}
		asked := readQuery(pack(t, q))
		limit := asked.limit(false)
		if len(answer) >= headerLen {
			kept := withTTL(answer, func(ttl uint32) uint32 { return ttl + 1 })
			if len(kept) != len(answer) || lifetime(answer) < 0 || lifetime(answer) > longestPositive || pointsInside(kept) != pointsInside(answer) {
				t.Fatalf("kept as % x", kept)
			}
		}
		reply := asked.relay(answer, limit, Answer{})
		if reply == nil {
			return
		}
		if len(reply) > limit || binary.BigEndian.Uint16(reply) != q.Id || !bytes.HasPrefix(reply[headerLen:], asked.asked) {
			t.Fatalf("bad reply: % x", reply)
		}
		l, ok := readAnswer(reply)
		if !ok || l.end != len(reply) || edns != (l.opt.end > 0) {
			t.Fatalf("the counts do not fit the records: % x", reply)
		}
	})
}
