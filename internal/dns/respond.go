package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	miekg "github.com/miekg/dns"
)

// arrival is how a message came in.
type arrival struct {
	local, src netip.Addr
	tcp        bool
	lan        bool // at an address of Options.LAN
	logged     bool // it is one of those the query log has
}

// request is a question while it is answered.
type request struct {
	arrival
	q     *query
	v     View
	at    time.Time
	limit int
	tally *tally
}

// ask is a question on its way to an upstream.
type ask struct {
	request
	route route
	from  netip.Addr
}

// fast answers a question whose answer lies packed, and returns its length in out; 0 leaves it to answer.
func (s *Server) fast(out, msg []byte, from *arrival, q *hotQuery) int {
	p := s.published.Load()
	if p == nil || from.logged || from.lan || !q.read(msg) {
		return 0
	}
	v := p.zone.View(from.local, from.src)
	if !v.known {
		return 0
	}
	answer := s.hot.find(p.edition, &v, q)
	if answer == nil || !s.answers.take(v.client(plain(from.src)), now(s.answers)) {
		return 0
	}
	n := answer.write(out, msg, q)
	if n > 0 {
		p.tally(&v).count(miekg.RcodeSuccess)
	}
	return n
}

// now reads the clock when the buckets need it.
func now(b *buckets) time.Time {
	if b.rate.PerSecond <= 0 {
		return time.Time{}
	}
	return time.Now()
}

// answer decides about one message. The reply is nil when none is due; when the answer is not ours to give, it
// is what the returned ask comes back with. The message may be overwritten afterwards.
func (s *Server) answer(msg []byte, from arrival) ([]byte, *ask) {
	q := readQuery(msg)
	if q == nil {
		s.counts.dropped.Add(1)
		return nil, nil
	}
	r := request{arrival: from, q: q, at: time.Now(), limit: q.limit(from.tcp)}
	r.src = plain(r.src)
	q.question.At = r.at
	q.bake(s.secret, r.src, r.at)
	p := s.published.Load()
	r.v = s.view(p, &r)
	r.tally = p.tally(&r.v)
	reply, forward := s.decide(p, &r)
	if forward == nil {
		s.done(&r, reply, "zone")
	}
	return reply, forward
}

// view finds out who asks. The client a relay asks for takes its place, in limits and the log, too.
func (s *Server) view(p *published, r *request) View {
	if s.onBehalf(r) {
		relay, of := r.src, r.q.subnet.of
		r.src = plain(of.Addr())
		return p.zone.relayedView(of, func(client netip.Addr) View {
			if r.lan {
				return s.options.LAN.view(r.local, client)
			}
			v := p.zone.View(r.local, client)
			if v.host && !p.zone.View(r.local, relay).host {
				return View{refused: fmt.Sprintf("%s does not speak for the host", relay)}
			}
			return v
		})
	}
	if r.lan {
		return s.options.LAN.view(r.local, r.src)
	}
	return p.zone.View(r.local, r.src)
}

// decide answers what can be answered at once.
func (s *Server) decide(p *published, r *request) ([]byte, *ask) {
	q := r.q
	if q.rcode != miekg.RcodeSuccess {
		return q.encode(Answer{Rcode: q.rcode}, false, 0, r.limit), nil
	}
	if s.forward.returned(q.question.Name, r.at) {
		s.wake() // to see when that ends
		return q.encode(refuse("this question went round in a circle"), false, 0, r.limit), nil
	}
	if p.zone != nil && !r.v.known {
		s.counts.strangers.Add(1)
	}
	if !s.answers.take(r.v.client(r.src), r.at) {
		s.counts.overload.Add(1)
		return q.encode(tooFast, r.v.Forwards(), 0, r.limit), nil
	}
	a := p.zone.Answer(r.v, q.question)
	if !a.Forward {
		if !r.tcp && !r.lan && r.v.known {
			s.hot.keep(p.edition, &r.v, q, &a)
		}
		return q.encode(a, r.v.Forwards(), rand.Uint64(), r.limit), nil
	}
	return s.foreign(r)
}

var (
	tooMany = Answer{
		Rcode: miekg.RcodeRefused, Code: miekg.ExtendedErrorCodeOther, Text: "too many questions are waiting for an answer",
	}
	tooFast = Answer{
		Rcode: miekg.RcodeRefused, Code: miekg.ExtendedErrorCodeOther, Text: "this client asks too much",
	}
)

// foreign answers a name that is not ours from what is at hand, or lets it go upstream when there is room.
func (s *Server) foreign(r *request) ([]byte, *ask) {
	rt, w, who := r.v.route(), r.q.wanted(r.tcp), r.v.client(r.src)
	known, ok, err := s.forward.fresh(rt.key(w), r.at)
	switch {
	case ok:
		return s.relayed(r, known, err), nil
	case !s.forwards.take(who, r.at):
		s.counts.overload.Add(1)
		return r.q.encode(tooFast, true, 0, r.limit), nil
	case !s.forward.gate.enter(who):
		s.counts.overload.Add(1)
		return r.q.encode(tooMany, true, 0, r.limit), nil
	}
	r.q.asked = bytes.Clone(r.q.asked)
	return nil, &ask{request: *r, route: rt, from: who}
}

// finish gets the answer to an ask from upstream.
func (s *Server) finish(ctx context.Context, a *ask) []byte {
	defer s.forward.gate.leave(a.from)
	s.counts.forwarded.Add(1)
	r, err := s.forward.lookup(ctx, a.route, a.q.wanted(a.tcp))
	msg := s.relayed(&a.request, r, err)
	s.done(&a.request, msg, "upstream")
	return msg
}

// relayed makes the reply of what an upstream said.
func (s *Server) relayed(r *request, got reply, err error) []byte {
	q := r.q
	if err != nil {
		s.counts.unanswered.Add(1)
		failed := Answer{Rcode: miekg.RcodeServerFailure, Code: miekg.ExtendedErrorCodeNoReachableAuthority, Text: err.Error()}
		return q.encode(failed, true, 0, r.limit)
	}
	if s.options.Rebinding.blocks(miekg.CanonicalName(q.question.Name), got.whole) {
		s.counts.blocked.Add(1)
		return q.encode(rebound, true, 0, r.limit)
	}
	note := got.note()
	msg := q.relay(got.whole, r.limit, note)
	if msg != nil {
		return msg
	}
	if len(got.whole) > r.limit {
		msg = q.relay(got.short, r.limit, note)
		if msg == nil {
			msg = q.truncated()
		}
		return msg
	}
	s.counts.unanswered.Add(1)
	bad := Answer{Rcode: miekg.RcodeServerFailure, Code: miekg.ExtendedErrorCodeInvalidData, Text: "the upstream's answer is malformed"}
	return q.encode(bad, true, 0, r.limit)
}

// note says how we came by the answer, when that matters (RFC 8914 4.4, 4.20).
func (r reply) note() Answer {
	switch {
	case !r.stale:
		return Answer{}
	case r.rcode() == miekg.RcodeNameError:
		return Answer{Code: miekg.ExtendedErrorCodeStaleNXDOMAINAnswer, Text: "an old answer, because nobody gives a newer one"}
	}
	return Answer{Code: miekg.ExtendedErrorCodeStaleAnswer, Text: "an old answer, because nobody gives a newer one"}
}

// done counts a reply, and logs it when it is one of those.
func (s *Server) done(r *request, reply []byte, path string) {
	rcode := int(binary.BigEndian.Uint16(reply[2:]) & rcodeMask)
	if r.q.rcode == miekg.RcodeBadVers {
		rcode = miekg.RcodeBadVers
	}
	r.tally.count(rcode)
	took := time.Since(r.at)
	s.latency.WithLabelValues(path).Observe(took.Seconds())
	if r.logged && !probing(r.q.question) {
		s.log.Info("dns query", "name", r.q.question.Name, "type", miekg.Type(r.q.question.Type).String(),
			"from", r.src, "view", r.v.String(), "rcode", miekg.RcodeToString[rcode], "path", path, "took", took)
	}
}
