package dns

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How much may be under way at once, in total and for one client.
const (
	maxForwards, maxForwardsEach = 1024, 256
	maxConns, maxConnsEach       = 2048, 64
)

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
	// CacheBytes bounds the answers of upstreams that are kept; 0 means 8 MiB, less than 0 none.
	CacheBytes int
	// Rebinding says what becomes of foreign names with private addresses; the zero value lets them pass.
	Rebinding Rebinding
	// Forwards limits the questions of one client that go upstream; the zero Rate means 300 a second and
	// 1,000 at once, a negative one no limit. Answers limits all its questions; the zero Rate does not.
	Forwards, Answers Rate
	// LogEvery has one question of so many logged; 0 logs none.
	LogEvery int
	// Readers is how many sockets share an address, so that more processors can answer; 0 means one for each
	// processor up to four.
	Readers int
	// LAN are listeners for machines beyond our networks; the zero value is off.
	LAN LAN
	// Relays are name servers that ask for others and say for whom (EDNS client subnet, RFC 7871): those clients' views
	// are theirs. Nil means that nobody is believed.
	Relays []netip.Prefix
	// Transfer are who may have whole zones (AXFR over TCP); nil is nobody.
	Transfer []netip.Prefix
	// Changed is called when a socket was opened or closed, or could not be; it must neither block nor call the
	// Server. Nil means that nobody wants to know.
	Changed func()
	// Files are sockets of an agent before this one (see EachSocket); those of addresses that Listen does not name
	// within a minute are closed.
	Files []*os.File
}

// Server answers the questions of the clients of our networks. Its methods may be called from any goroutine,
// before and while Run runs. It is a prometheus.Collector.
type Server struct {
	log       *slog.Logger
	options   Options
	published atomic.Pointer[published]
	hot       *hot
	forward   forwarder
	conns     *gate
	counts    counters
	forwards  *buckets
	answers   *buckets
	samples   sampler
	latency   *prometheus.HistogramVec
	secret    [32]byte      // of cookies
	woken     chan struct{} // holds one token when Run has something to look at
	serving   sync.WaitGroup
	sockets   atomic.Uint64 // see Sockets

	forwarded atomic.Int64 // when Run was last woken because a question leaves, in unix nanoseconds
	following sync.Mutex   // held while the host's resolvers are read
	followed  time.Time    // when they last were; guarded by following

	mu        sync.Mutex // guards what follows
	listeners []*listener
	host      []netip.AddrPort // the resolvers of the host, ours not yet taken out
	tallies   map[string]*tally
	editions  uint64 // how often a zone was published
	left      *leftovers
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
	if o.Readers == 0 {
		o.Readers = min(4, runtime.GOMAXPROCS(0))
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = usualCache
	}
	if o.Forwards == (Rate{}) {
		o.Forwards = usualForwards
	}
	s := &Server{
		hot: newHot(), log: o.Log, options: o, conns: newGate(maxConns, maxConnsEach),
		woken: make(chan struct{}, 1), host: o.Upstreams, tallies: map[string]*tally{},
		forwards: newBuckets(o.Forwards), answers: newBuckets(o.Answers), latency: newLatency(),
	}
	s.left = s.adopt(o.Files)
	_, _ = crand.Read(s.secret[:]) // never fails (crypto/rand)
	s.samples.every = uint64(max(0, o.LogEvery))
	s.forward.log, s.forward.times = o.Log, usualTimes
	s.forward.gate = newGate(maxForwards, maxForwardsEach)
	s.forward.cache = newCache(max(0, o.CacheBytes))
	s.forward.pool = map[netip.AddrPort]*upstream{}
	s.forward.look = s.lookForQuestion
	s.Publish(nil)
	s.useUpstreams()
	return s
}

// Publish makes the zone the one that is answered from, at once and for all listeners.
func (s *Server) Publish(z *Zone) { s.published.Store(s.publishable(z)) }

// drainFor is how long Run waits for upstreams when it is to end.
const drainFor = time.Second

// Run answers until ctx ends, then stops reading, answers what it has read, and closes all listeners. Sockets
// that Listen opened before Run, or that somebody else keeps open (see EachSocket), hold their questions until
// the next Run comes. The error is always nil.
func (s *Server) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer s.stop(cancel)
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.woken:
		case <-timer.C:
		}
		now := time.Now()
		s.followHost()
		if s.left.expire(now.Sub(begun)) {
			s.socketsChanged()
		}
		wait := soonest(
			s.forward.watchLoops(ctx, now), s.left.due(now.Sub(begun)), s.retryListeners(ctx, work, now),
			loopEvery-now.Sub(time.Unix(0, s.forwarded.Load())), // the question is then on its way
		)
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// soonest returns the least of the waiting times; those that are not above 0 are none.
func soonest(waits ...time.Duration) time.Duration {
	var least time.Duration
	for _, w := range waits {
		if w > 0 && (least == 0 || w < least) {
			least = w
		}
	}
	return least
}

// socketsChanged notes that the set of sockets, or why one is not open, is not what it was.
func (s *Server) socketsChanged() {
	s.sockets.Add(1)
	if s.options.Changed != nil {
		s.options.Changed()
	}
}

// stop ends the reading, waits for what is under way but not for ever, and closes the listeners.
func (s *Server) stop(cancel func()) {
	s.mu.Lock()
	for _, l := range s.listeners {
		l.rest()
	}
	s.mu.Unlock()
	timer := time.AfterFunc(drainFor, cancel)
	s.serving.Wait()
	timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.close()
	}
	s.listeners = nil
	s.left.expire(adoptFor)
}

// wake has Run look at the listeners now.
func (s *Server) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// lookForQuestion has a question that leaves find the host's resolvers as they are, and Run look after them. Nothing is
// looked at while nobody asks: an idle host stays idle.
func (s *Server) lookForQuestion() {
	if s.followOld() {
		s.forwarded.Store(time.Now().UnixNano())
		s.wake()
	}
}

// followOld is followHost when the last time was followEvery ago, which it reports.
func (s *Server) followOld() bool {
	s.following.Lock()
	defer s.following.Unlock()
	if time.Since(s.followed) < followEvery {
		return false
	}
	s.readHost()
	return true
}

// followHost reads the host's resolver configuration, which may have been rewritten, replaced or moved since.
func (s *Server) followHost() {
	s.following.Lock()
	defer s.following.Unlock()
	s.readHost()
}

// readHost is followHost for who holds following.
func (s *Server) readHost() {
	s.followed = time.Now()
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
	s.followOld()
	st := Status{Counts: s.counts.read()}
	z := s.published.Load().zone
	if z != nil {
		st.Serial, st.Names = z.serial, z.Names()
	}
	s.mu.Lock()
	st.Counts.Queries = st.Counts.Dropped
	st.Replies = map[string]map[string]uint64{}
	for view, t := range s.tallies {
		st.Replies[view] = t.read()
		for _, n := range st.Replies[view] {
			st.Counts.Queries += n
		}
	}
	for _, l := range s.listeners {
		st.Listeners = append(st.Listeners, ListenerStatus{Want: l.want, Addr: l.addr(), LAN: l.lan, Err: l.err, Retry: l.retry})
	}
	s.mu.Unlock()
	for _, u := range s.forward.servers() {
		st.Upstreams = append(st.Upstreams, UpstreamStatus{
			Addr: u.addr, Down: u.down.Load(), Loops: u.loops.Load(), Asked: u.asked.Load(), Failed: u.failed.Load(),
		})
	}
	st.Kept, st.KeptBytes, st.Hits = s.forward.cache.size()
	return st
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
