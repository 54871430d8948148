package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Link is a bridge through which the host itself finds our names.
type Link struct {
	// Interface is the bridge's name on the host, Servers are our addresses on it.
	Interface string
	Servers   []netip.Addr
	// Port is that of the servers; 0 means 53.
	Port uint16
	// Theirs is whether the link is somebody else's: what others told resolved about it stays.
	Theirs bool
	// Domains are what is asked there and nowhere else, without the last dot: "incus", "1.0.10.in-addr.arpa".
	Domains []string
}

// Links returns what the host should be told about the networks: the names of a project and those of its addresses
// are asked at its bridges, and all other names of ours at the first. Each name is asked at few: resolved asks all
// links that say they know it. A network of others is told where the host asks beside their server; one with neither
// has no link.
func Links(origin string, nets []Network) []Link {
	var out []Link
	for _, n := range nets {
		l := Link{Interface: n.Name, Domains: []string{relative(miekg.CanonicalName(n.Project + "." + origin))}}
		for _, gw := range []netip.Addr{n.Gateway, n.Gateway6} {
			if gw.IsValid() {
				l.Servers = append(l.Servers, gw)
			}
		}
		if len(l.Servers) == 0 && n.Beside.IsValid() {
			l.Servers, l.Port, l.Theirs = []netip.Addr{n.Beside.Addr()}, n.Beside.Port(), true
		}
		for _, p := range []netip.Prefix{n.Prefix, n.Prefix6} {
			if p.IsValid() {
				l.Domains = append(l.Domains, reverseZones(p)...)
			}
		}
		if len(l.Servers) > 0 {
			out = append(out, l)
		}
	}
	if len(out) > 0 {
		out[0].Domains = append(out[0].Domains, relative(miekg.CanonicalName(origin)))
	}
	return out
}

// reverseZones returns the zones that hold the reverse names of a prefix: one, or as many as its last label has
// values when it ends inside one.
func reverseZones(p netip.Prefix) []string {
	step, last := 8, 24
	if p.Addr().Is6() {
		step, last = 4, 124
	}
	bits := min((p.Bits()+step-1)/step*step, last)
	addr := p.Masked().Addr()
	var out []string
	for i := range 1 << max(0, bits-p.Bits()) {
		b := addr.AsSlice()
		b[(bits-1)/8] |= byte(i << (7 - (bits-1)%8))
		a, _ := netip.AddrFromSlice(b)
		name, _ := miekg.ReverseAddr(a.String()) // an address always has one
		labels := strings.Split(relative(name), ".")
		out = append(out, strings.Join(labels[len(labels)-2-bits/step:], "."))
	}
	return out
}

// When what systemd-resolved knows is compared with what it should: a link that was down, or a resolved that was
// restarted, has forgotten it.
const (
	// resolvedEvery is how often without any news: somebody may have told it something else.
	resolvedEvery = time.Minute
	// resolvedRetry is how long after it could not be told.
	resolvedRetry = 5 * time.Second
	// resolvedSettle is how long after news: resolved hears them when we do.
	resolvedSettle = 500 * time.Millisecond
	// resolvedPatience is how long it may take to answer.
	resolvedPatience = 5 * time.Second
)

// Resolved tells systemd-resolved where our names are answered, link by link, and keeps it so. On a host without
// it nothing is done. What was told stays when Run ends: the next agent answers at the same addresses.
type Resolved struct {
	log   *slog.Logger
	dial  func(context.Context) (bus, error)
	index func(name string) (int, error)
	news  func(ctx context.Context, told func(link string)) // see hostNews; nil when there are none
	woken chan struct{}                                     // holds one token when the links are others
	heard chan struct{}                                     // holds one when there are news

	mu      sync.Mutex // guards what follows
	want    []Link
	present bool
	err     error

	done map[string]int // the links told, with their index; only Run touches it
}

// NewResolved returns a Resolved that knows no link yet; a nil log is discarded.
func NewResolved(log *slog.Logger) *Resolved {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Resolved{log: log, dial: dialBus, index: linkIndex, news: hostNews, woken: make(chan struct{}, 1), heard: make(chan struct{}, 1), done: map[string]int{}}
}

// linkIndex finds a link by its name alone, where package net would list all links.
func linkIndex(name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request)
	return int(request.Uint32()), err
}

// Use makes these the links resolved knows from us; those gone are reverted.
func (r *Resolved) Use(links []Link) {
	r.mu.Lock()
	r.want = slices.Clone(links)
	r.mu.Unlock()
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Status tells whether the host has systemd-resolved, and why it could not be told; nil when it was, or when
// there is none.
func (r *Resolved) Status() (present bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.present, r.err
}

// Run keeps resolved told until ctx ends. The error is always nil.
func (r *Resolved) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if r.news != nil {
		wg.Go(func() { r.news(ctx, r.hear) })
	}
	for {
		r.once(ctx)
		next := resolvedEvery
		_, err := r.Status()
		if err != nil {
			next = resolvedRetry
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.woken:
		case <-r.heard:
			pause(ctx, resolvedSettle)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// hear has Run look when news are about one of the links, or about all.
func (r *Resolved) hear(link string) {
	r.mu.Lock()
	ours := link == "" || slices.ContainsFunc(r.want, func(l Link) bool { return l.Interface == link })
	r.mu.Unlock()
	if !ours {
		return
	}
	select {
	case r.heard <- struct{}{}:
	default:
	}
}

// Withdraw makes resolved forget what it was told. It is for after Run.
func (r *Resolved) Withdraw(ctx context.Context) {
	r.Use(nil)
	r.once(ctx)
}

// once compares and mends, and logs when that begins or stops to fail.
func (r *Resolved) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolvedPatience)
	defer cancel()
	r.mu.Lock()
	want := r.want
	r.mu.Unlock()
	present, err := r.apply(ctx, want)
	r.mu.Lock()
	before := r.err
	r.present, r.err = present, err
	r.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		r.log.WarnContext(ctx, "systemd-resolved was not told about our names", "err", err)
	}
}

// apply makes resolved know the links.
func (r *Resolved) apply(ctx context.Context, want []Link) (present bool, err error) {
	b, err := r.dial(ctx)
	if err != nil {
		return false, nil // no bus, no resolved
	}
	defer b.Close()
	err = b.Call(ctx, "/org/freedesktop/DBus", hasOwner, []any{&present}, resolvedName)
	if err != nil {
		return false, fmt.Errorf("look for systemd-resolved: %w", err)
	}
	if !present {
		clear(r.done)
		return false, nil
	}
	knows, err := read(ctx, b)
	if err != nil {
		return true, fmt.Errorf("ask what systemd-resolved knows: %w", err)
	}
	var errs []error
	for _, l := range want {
		index, err := r.index(l.Interface)
		if err != nil {
			continue // the bridge is not there yet
		}
		is := l.match(knows[int32(index)])
		if l.Theirs && is == other {
			delete(r.done, l.Interface)
			continue
		}
		if is == same && r.done[l.Interface] == index {
			continue
		}
		err = tell(ctx, b, index, l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.done[l.Interface] = index
		r.log.InfoContext(ctx, "systemd-resolved asks us", "link", l.Interface, "domains", strings.Join(l.Domains, " "))
	}
	for name, index := range r.done {
		if slices.ContainsFunc(want, func(l Link) bool { return l.Interface == name }) {
			continue
		}
		delete(r.done, name)
		now, err := r.index(name)
		if err != nil || now != index {
			continue // the link took it along
		}
		errs = append(errs, b.Call(ctx, resolvedPath, resolvedCall+"RevertLink", nil, int32(index)))
	}
	return true, errors.Join(errs...)
}
