package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
}

// usualTimes fit the clients: glibc gives up after 5 s, so it has an answer before that, even if the answer is
// that nobody answered us.
var usualTimes = times{patience: time.Second, budget: 3800 * time.Millisecond, recheck: 2 * time.Second}

var (
	errNoUpstream = errors.New("the host has no name server to ask")
	errSilent     = errors.New("no name server of the host answers")
)

// forwarder asks the host's resolvers.
type forwarder struct {
	log       *slog.Logger
	upstreams atomic.Pointer[[]*upstream]
	flights   singleflight.Group
	gate      *gate
	times     times
}

// use replaces the servers; what is known about those that stay is kept.
func (f *forwarder) use(servers []netip.AddrPort) {
	old := f.servers()
	next := make([]*upstream, 0, len(servers))
	for _, s := range servers {
		i := slices.IndexFunc(old, func(u *upstream) bool { return u.addr == s })
		if i >= 0 {
			next = append(next, old[i])
		} else {
			next = append(next, &upstream{addr: s})
		}
	}
	f.upstreams.Store(&next)
}

// servers returns the servers in the order of the host's configuration.
func (f *forwarder) servers() []*upstream {
	p := f.upstreams.Load()
	if p == nil {
		return nil
	}
	return *p
}

// lookup answers a want, together with all who want the same meanwhile.
func (f *forwarder) lookup(ctx context.Context, w want) (reply, error) {
	key := fmt.Sprintf("%s %d %d %d %t %t %t", w.question.Name, w.question.Type, w.question.Class, w.flags, w.edns, w.do, w.full)
	v, err, _ := f.flights.Do(key, func() (any, error) { return f.race(ctx, w) })
	if err != nil {
		return reply{}, err
	}
	return v.(reply), nil
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
func (f *forwarder) race(ctx context.Context, w want) (reply, error) {
	servers := f.order()
	if len(servers) == 0 {
		return reply{}, errNoUpstream
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

// order returns the servers to ask: those that answer first, else as the host has them.
func (f *forwarder) order() []*upstream {
	servers := slices.Clone(f.servers())
	slices.SortStableFunc(servers, func(a, b *upstream) int {
		switch x, y := a.down.Load(), b.down.Load(); {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	return servers
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
		f.log.Info("name server of the host answers again", "server", u.addr)
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
			f.log.WarnContext(ctx, "name server of the host does not answer", "server", u.addr, "err", err)
		}
	}()
}
