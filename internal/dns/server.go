package dns

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"
)

// How much may be under way at once, in total and for one client.
const (
	maxForwards, maxForwardsEach = 1024, 256
	maxConns, maxConnsEach       = 512, 64
)

// followEvery is how often the host's resolver configuration is looked at.
const followEvery = 2 * time.Second

// Options say how a Server is set up. The zero value is right for a host.
type Options struct {
	// Log gets what an operator wants to know; nil discards it.
	Log *slog.Logger
	// Upstreams are the resolvers foreign names are asked from; nil means those of the host.
	Upstreams []netip.AddrPort
	// ResolvConf is the host's resolver configuration, followed as it changes; empty means
	// /etc/resolv.conf. StubConf is read in its place when it names nothing but systemd-resolved's stub;
	// empty means /run/systemd/resolve/resolv.conf.
	ResolvConf, StubConf string
}

// Server answers the questions of the clients of our networks. Its methods may be called from any goroutine,
// before and while Run runs.
type Server struct {
	log     *slog.Logger
	options Options
	zone    atomic.Pointer[Zone]
	forward forwarder
	conns   *gate
	counts  counters
	woken   chan struct{} // holds one token when Run has something to look at
	serving sync.WaitGroup

	mu        sync.Mutex // guards what follows
	listeners []*listener
	host      []netip.AddrPort // the resolvers of the host, ours not yet taken out
}

// New returns a Server that listens nowhere and knows no name yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.StubConf == "" {
		o.StubConf = "/run/systemd/resolve/resolv.conf"
	}
	s := &Server{
		log: o.Log, options: o, conns: newGate(maxConns, maxConnsEach),
		woken: make(chan struct{}, 1), host: o.Upstreams,
	}
	s.forward.log, s.forward.times = o.Log, usualTimes
	s.forward.gate = newGate(maxForwards, maxForwardsEach)
	s.useUpstreams()
	return s
}

// Publish makes the zone the one that is answered from, at once and for all listeners.
func (s *Server) Publish(z *Zone) { s.zone.Store(z) }

// Run answers until ctx ends, then closes all listeners and waits for what is under way. Sockets that Listen
// opened before Run hold their questions until it comes. The error is always nil.
func (s *Server) Run(ctx context.Context) error {
	defer s.serving.Wait()
	defer s.closeAll()
	for {
		s.followHost()
		wait := s.retryListeners(ctx, time.Now())
		if wait <= 0 || wait > followEvery {
			wait = followEvery
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.woken:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.close()
	}
	s.listeners = nil
}

// wake has Run look at the listeners now.
func (s *Server) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// followHost reads the host's resolver configuration, which may have been rewritten, replaced or moved since.
func (s *Server) followHost() {
	if s.options.Upstreams != nil {
		return
	}
	text, err := os.ReadFile(s.options.ResolvConf)
	if err != nil && !os.IsNotExist(err) {
		return // what we have is better than what cannot be read
	}
	servers := parseResolvConf(string(text))
	if onlyStub(servers) {
		direct, err := os.ReadFile(s.options.StubConf)
		if err == nil {
			servers = parseResolvConf(string(direct))
		}
	}
	s.mu.Lock()
	s.host = servers
	s.mu.Unlock()
	s.useUpstreams()
}

// useUpstreams hands the forwarder the host's resolvers without ourselves.
func (s *Server) useUpstreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ours := make([]netip.AddrPort, 0, 2*len(s.listeners))
	for _, l := range s.listeners {
		ours = append(ours, l.want, l.addr())
	}
	s.forward.use(without(s.host, ours))
}

// Status returns how things stand.
func (s *Server) Status() Status {
	st := Status{Counts: s.counts.read()}
	z := s.zone.Load()
	if z != nil {
		st.Serial, st.Names = z.serial, z.Names()
	}
	s.mu.Lock()
	for _, l := range s.listeners {
		st.Listeners = append(st.Listeners, ListenerStatus{Want: l.want, Addr: l.addr(), Err: l.err, Retry: l.retry})
	}
	s.mu.Unlock()
	for _, u := range s.forward.servers() {
		st.Upstreams = append(st.Upstreams, UpstreamStatus{Addr: u.addr, Down: u.down.Load()})
	}
	return st
}

// ask is a question on its way to an upstream.
type ask struct {
	q     *query
	from  netip.Addr
	limit int
	tcp   bool
}

// answer decides about one message that came from src to local. The reply is nil when none is due; when the
// answer is not ours to give, it is what the returned ask comes back with. The message may be overwritten
// afterwards.
func (s *Server) answer(msg []byte, local, src netip.Addr, tcp bool) ([]byte, *ask) {
	s.counts.queries.Add(1)
	q := readQuery(msg)
	if q == nil {
		s.counts.dropped.Add(1)
		return nil, nil
	}
	limit := q.limit(tcp)
	if q.rcode != miekg.RcodeSuccess {
		return q.encode(Answer{Rcode: q.rcode}, false, 0, limit), nil
	}
	z := s.zone.Load()
	v := z.View(local, src)
	if z != nil && !v.known {
		s.counts.strangers.Add(1)
	}
	q.question.At = time.Now()
	a := z.Answer(v, q.question)
	if !a.Forward {
		return q.encode(a, v.Forwards(), rand.Uint64(), limit), nil
	}
	if !s.forward.gate.enter(plain(src)) {
		s.counts.overload.Add(1)
		return q.encode(overload, true, 0, limit), nil
	}
	q.asked = bytes.Clone(q.asked)
	return nil, &ask{q: q, from: plain(src), limit: limit, tcp: tcp}
}

var overload = Answer{
	Rcode: miekg.RcodeRefused, Code: miekg.ExtendedErrorCodeOther, Text: "too many questions are waiting for an answer",
}

// finish gets the answer to an ask from upstream.
func (s *Server) finish(ctx context.Context, a *ask) []byte {
	defer s.forward.gate.leave(a.from)
	s.counts.forwarded.Add(1)
	r, err := s.forward.lookup(ctx, a.q.wanted(a.tcp))
	if err != nil {
		s.counts.unanswered.Add(1)
		failed := Answer{Rcode: miekg.RcodeServerFailure, Code: miekg.ExtendedErrorCodeNoReachableAuthority, Text: err.Error()}
		return a.q.encode(failed, true, 0, a.limit)
	}
	msg := a.q.relay(r.whole, a.limit)
	if msg != nil {
		return msg
	}
	if len(r.whole) > a.limit {
		msg = a.q.relay(r.short, a.limit)
		if msg == nil {
			msg = a.q.truncated()
		}
		return msg
	}
	s.counts.unanswered.Add(1)
	bad := Answer{Rcode: miekg.RcodeServerFailure, Code: miekg.ExtendedErrorCodeInvalidData, Text: "the upstream's answer is malformed"}
	return a.q.encode(bad, true, 0, a.limit)
}

// Probe asks every open listener a question over its own socket and returns an error when one does not
// answer before ctx ends: the process is alive and does not read. An address that the host does not have yet
// is left out.
func (s *Server) Probe(ctx context.Context) error {
	for _, l := range s.Status().Listeners {
		if l.Err != nil {
			continue
		}
		err := probe(ctx, l.Addr)
		if err != nil {
			return fmt.Errorf("probe dns at %s: %w", l.Addr, err)
		}
	}
	return nil
}
