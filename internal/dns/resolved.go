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

	"github.com/godbus/dbus/v5"
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

// bus is what is used of D-Bus.
type bus interface {
	// Call calls a method of resolved, or of the bus itself, and stores what it returns.
	Call(ctx context.Context, path, method string, result []any, args ...any) error
	Close() error
}

// The names of org.freedesktop.resolve1(5).
const (
	resolvedName    = "org.freedesktop.resolve1"
	resolvedPath    = "/org/freedesktop/resolve1"
	resolvedManager = "org.freedesktop.resolve1.Manager"
	resolvedCall    = resolvedManager + "."
	getProperty     = "org.freedesktop.DBus.Properties.Get"
	hasOwner        = "org.freedesktop.DBus.NameHasOwner"
)

// resolvedEvery is how often what systemd-resolved knows is compared with what it should: a link that was down,
// or a resolved that was restarted, has forgotten it.
const resolvedEvery = 5 * time.Second

// Resolved tells systemd-resolved where our names are answered, link by link, and keeps it so. On a host without
// it nothing is done. What was told stays when Run ends: the next agent answers at the same addresses.
type Resolved struct {
	log   *slog.Logger
	dial  func(context.Context) (bus, error)
	index func(name string) (int, error)
	woken chan struct{}

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
	return &Resolved{log: log, dial: dialBus, index: linkIndex, woken: make(chan struct{}, 1), done: map[string]int{}}
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
	tick := time.NewTicker(resolvedEvery)
	defer tick.Stop()
	for {
		r.once(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.woken:
		case <-tick.C:
		}
	}
}

// Withdraw makes resolved forget what it was told. It is for after Run.
func (r *Resolved) Withdraw(ctx context.Context) {
	r.Use(nil)
	r.once(ctx)
}

// once compares and mends, and logs when that begins or stops to fail.
func (r *Resolved) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resolvedEvery)
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

// The wire forms of org.freedesktop.resolve1(5): what a link is told, and what is known of all links.
type (
	knownServer struct {
		Index, Family int32
		Address       []byte
		Port          uint16
		Name          string
	}
	knownDomain struct {
		Index   int32
		Domain  string
		Routing bool
	}
	linkServer struct {
		Family  int32
		Address []byte
		Port    uint16
		Name    string
	}
	linkDomain struct {
		Domain  string
		Routing bool
	}
)

// wire is what resolved is told.
func (l Link) wire() (servers []linkServer, domains []linkDomain) {
	for _, a := range l.Servers {
		family := int32(unix.AF_INET)
		if a.Is6() {
			family = unix.AF_INET6
		}
		servers = append(servers, linkServer{family, a.AsSlice(), l.Port, ""})
	}
	for _, d := range l.Domains {
		domains = append(domains, linkDomain{d, true})
	}
	return servers, domains
}

// linkState is what resolved knows of a link.
type linkState struct {
	servers []linkServer
	domains []linkDomain
}

// read returns what resolved knows of all links, by index. To ask about each by itself would take three calls for each.
func read(ctx context.Context, b bus) (map[int32]linkState, error) {
	var servers, domains dbus.Variant
	err := errors.Join(
		b.Call(ctx, resolvedPath, getProperty, []any{&servers}, resolvedManager, "DNSEx"),
		b.Call(ctx, resolvedPath, getProperty, []any{&domains}, resolvedManager, "Domains"),
	)
	if err != nil {
		return nil, err
	}
	var allServers []knownServer
	var allDomains []knownDomain
	err = errors.Join(servers.Store(&allServers), domains.Store(&allDomains))
	all := map[int32]linkState{}
	for _, s := range allServers {
		l := all[s.Index]
		l.servers = append(l.servers, linkServer{s.Family, s.Address, s.Port, s.Name})
		all[s.Index] = l
	}
	for _, d := range allDomains {
		l := all[d.Index]
		l.domains = append(l.domains, linkDomain{d.Domain, d.Routing})
		all[d.Index] = l
	}
	return all, err
}

// match compares what resolved knows of a link with what it should: the same, nothing or something of ours (bare), or
// what others told it (other).
func (l Link) match(got linkState) match {
	wantServers, wantDomains := l.wire()
	equal := func(a, b linkServer) bool {
		return a.Family == b.Family && slices.Equal(a.Address, b.Address) && a.Port == b.Port
	}
	ours := slices.EqualFunc(got.servers, wantServers, equal)
	switch {
	case ours && slices.Equal(got.domains, wantDomains):
		return same
	case ours, len(got.servers) == 0 && len(got.domains) == 0:
		return bare
	}
	return other
}

// tell sets everything about one link. We do not sign and do not speak TLS, and are no way to other names.
func tell(ctx context.Context, b bus, index int, l Link) error {
	servers, domains := l.wire()
	for _, c := range []struct {
		method string
		arg    any
	}{
		{"SetLinkDNSEx", servers},
		{"SetLinkDomains", domains},
		{"SetLinkDefaultRoute", false},
		{"SetLinkDNSSEC", "no"},
		{"SetLinkDNSOverTLS", "no"},
	} {
		err := b.Call(ctx, resolvedPath, resolvedCall+c.method, nil, int32(index), c.arg)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", c.method, l.Interface, err)
		}
	}
	return nil
}

// systemBus is the host's D-Bus.
type systemBus struct{ conn *dbus.Conn }

func dialBus(ctx context.Context) (bus, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return systemBus{conn}, nil
}

func (b systemBus) Call(ctx context.Context, path, method string, result []any, args ...any) error {
	name := resolvedName
	if method == hasOwner {
		name = "org.freedesktop.DBus"
	}
	call := b.conn.Object(name, dbus.ObjectPath(path)).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	return call.Store(result...)
}

func (b systemBus) Close() error { return b.conn.Close() }
