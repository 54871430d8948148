package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// times are the waiting times of a forward.
type times struct {
	// patience is how long the newest question under way may stay unanswered before the next server is asked.
	patience time.Duration
	// budget is how long a forward takes at most.
	budget time.Duration
	// recheck is how often a server that is down is asked out of turn, while there is anything to ask.
	recheck time.Duration
	// stale is how long a newer answer is waited for before an old one is given.
	stale time.Duration
}

// usualTimes fit the clients: glibc gives up after 5 s, so it has an answer before that, even if the answer is
// that nobody answered us.
var usualTimes = times{
	patience: time.Second, budget: 3800 * time.Millisecond, recheck: 2 * time.Second, stale: 1800 * time.Millisecond,
}

var (
	errNoUpstream = errors.New("the host has no name server to ask")
	errSilent     = errors.New("no name server of the host answers")
	errLoop       = errors.New("every name server of the host asks this server back")
)

// forwarder asks resolvers: the host's, or those of a network.
type forwarder struct {
	log     *slog.Logger
	hosts   atomic.Pointer[[]*upstream] // the host's, in the order of its configuration
	flights singleflight.Group
	cache   *cache
	gate    *gate
	times   times
	look    func() // is called before the host's servers are asked

	mu   sync.Mutex // guards what follows
	pool map[netip.AddrPort]*upstream
}

// route is how a question leaves: answers are shared among all who have the same one, and nobody else.
type route struct {
	scope   string
	servers []netip.AddrPort // none: those of the host
}

// route is the way out for the view's foreign names.
func (v View) route() route {
	r := route{scope: v.String(), servers: v.upstreams}
	for _, s := range v.upstreams {
		r.scope += " " + s.String()
	}
	return r
}

// use replaces the host's servers; what is known about those that stay is kept.
func (f *forwarder) use(servers []netip.AddrPort) {
	next := f.known(servers)
	f.hosts.Store(&next)
}

// known returns what is known about servers.
func (f *forwarder) known(servers []netip.AddrPort) []*upstream {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]*upstream, 0, len(servers))
	for _, s := range servers {
		u := f.pool[s]
		if u == nil {
			u = &upstream{addr: s, token: newToken()}
			f.pool[s] = u
		}
		out = append(out, u)
	}
	return out
}

// servers returns the host's servers in the order of its configuration.
func (f *forwarder) servers() []*upstream {
	p := f.hosts.Load()
	if p == nil {
		return nil
	}
	return *p
}

// all returns every server anybody asked for, in a fixed order.
func (f *forwarder) all() []*upstream {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.pool), func(a, b *upstream) int { return a.addr.Compare(b.addr) })
}

// key is what wants with one answer have in common.
func (r route) key(w want) string {
	return fmt.Sprintf("%s|%s %d %d %d %t %t", r.scope, w.question.Name, w.question.Type, w.question.Class, w.flags, w.edns, w.do)
}

// fresh returns the answer to a want that is at hand; ok is false when it has to be asked for.
func (f *forwarder) fresh(key string, now time.Time) (r reply, ok bool, err error) {
	k, ok := f.cache.get(key, now)
	switch {
	case !ok || !now.Before(k.expires) && !now.Before(k.recheck):
		return reply{}, false, nil
	case k.err != nil:
		return reply{}, true, k.err
	}
	return k.aged(now), true, nil
}

// lookup answers a want, together with all who want the same meanwhile. When that takes long or fails, an old
// answer is better than none (RFC 8767).
func (f *forwarder) lookup(ctx context.Context, rt route, w want) (reply, error) {
	key := rt.key(w)
	old, have := f.cache.get(key, time.Now())
	have = have && old.useful()
	flight := f.flights.DoChan(fmt.Sprint(key, w.full), func() (any, error) {
		r, err := f.race(ctx, rt, w)
		f.cache.put(key, r, err, time.Now())
		return r, err
	})
	var tooLong <-chan time.Time
	if have {
		timer := time.NewTimer(f.times.stale)
		defer timer.Stop()
		tooLong = timer.C
	}
	select {
	case result := <-flight:
		r, _ := result.Val.(reply)
		if have && (result.Err != nil || isPoor(r.rcode())) {
			return old.aged(time.Now()), nil
		}
		return r, result.Err
	case <-tooLong:
		return old.aged(time.Now()), nil
	}
}

// outcome is what one server came back with.
type outcome struct {
	reply
	from *upstream
	err  error
}

// race asks the servers one after the other, each as soon as the one before has failed or kept silent for
// patience; none is called back, the first good answer wins. An answer of SERVFAIL or REFUSED is kept for
// the case that nobody has a better one.
func (f *forwarder) race(ctx context.Context, rt route, w want) (reply, error) {
	servers, err := f.order(rt)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.times.budget)
	defer cancel()
	for _, u := range servers {
		if u.down.Load() {
			f.check(ctx, u)
		}
	}
	most := len(servers) + int(f.times.budget/f.times.patience)
	outcomes := make(chan outcome, most)
	asked, pending := 0, 0
	next := func() {
		u := servers[asked%len(servers)]
		asked++
		pending++
		go func() {
			r, err := u.ask(ctx, w)
			outcomes <- outcome{r, u, err}
		}()
	}
	next()
	timer := time.NewTimer(f.times.patience)
	defer timer.Stop()
	var poor *reply
	for {
		select {
		case o := <-outcomes:
			pending--
			if o.err == nil {
				f.markUp(o.from)
				poor = &o.reply
			} else {
				f.markDown(ctx, o.from)
			}
			if o.err == nil && !isPoor(o.rcode()) {
				return o.reply, nil
			}
			if asked < len(servers) {
				next()
				timer.Reset(f.times.patience)
			}
			if pending == 0 {
				return verdict(poor)
			}
		case <-timer.C:
			f.markDown(ctx, servers[(asked-1)%len(servers)])
			if asked < most {
				next()
				timer.Reset(f.times.patience)
			}
		case <-ctx.Done():
			return verdict(poor)
		}
	}
}

// verdict is what a race without a winner ends with.
func verdict(poor *reply) (reply, error) {
	if poor == nil {
		return reply{}, errSilent
	}
	return *poor, nil
}

// isPoor tells whether another server may know better.
func isPoor(rcode int) bool {
	switch rcode {
	case miekg.RcodeServerFailure, miekg.RcodeRefused, miekg.RcodeNotImplemented, miekg.RcodeFormatError:
		return true
	}
	return false
}

// order returns the servers to ask: those that answer first, else as the configuration has them. One that asks
// us back is left out.
func (f *forwarder) order(rt route) ([]*upstream, error) {
	f.look()
	servers := f.servers()
	if len(rt.servers) > 0 {
		servers = f.known(rt.servers)
	}
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	servers = slices.DeleteFunc(slices.Clone(servers), func(u *upstream) bool { return u.loops.Load() })
	if len(servers) == 0 {
		return nil, errLoop
	}
	slices.SortStableFunc(servers, func(a, b *upstream) int {
		switch x, y := a.down.Load(), b.down.Load(); {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	return servers, nil
}

// markDown puts a server behind the others until it answers again. It may only be slow with this question, so
// it is checked at once, and nothing is said before that.
func (f *forwarder) markDown(ctx context.Context, u *upstream) {
	if ctx.Err() == nil && !u.down.Swap(true) {
		f.check(ctx, u)
	}
}

func (f *forwarder) markUp(u *upstream) {
	u.down.Store(false)
	if u.told.Swap(false) {
		f.log.Info("name server answers again", "server", u.addr)
	}
}

// check asks a server something every resolver can answer, unless that was done just before. It returns at
// once. Nothing is checked but on the way of a forward: an idle host sends nothing.
func (f *forwarder) check(ctx context.Context, u *upstream) {
	last, now := u.probed.Load(), time.Now().UnixNano()
	if now-last < int64(f.times.recheck) || !u.probed.CompareAndSwap(last, now) {
		return
	}
	root := want{question: Question{Name: ".", Type: miekg.TypeNS, Class: miekg.ClassINET}, flags: flagRD}
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.times.patience)
		defer cancel()
		_, err := u.ask(ctx, root)
		switch {
		case err == nil:
			f.markUp(u)
		case !u.told.Swap(true):
			f.log.WarnContext(ctx, "name server does not answer", "server", u.addr, "err", err)
		}
	}()
}
