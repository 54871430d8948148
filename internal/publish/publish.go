// Package publish answers published ports on the host and shares each between the instances behind it.
//
// A port that leads to one instance is forwarded by the firewall, which is fast, survives this process and shows the
// app the client's address; but the firewall leaves connections from the host to itself alone, and it cannot share a
// port between several instances. Those connections are carried here, as docker-proxy does: a listener for each port,
// which sends a new connection to the instance that has the fewest, and to another one when that does not answer. The
// app sees the host's address on its network as the client's, unless it asks for a PROXY protocol line.
//
// Holding a listener for every port also keeps other programs from taking it unnoticed.
package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxFlows is how many connections and UDP clients are carried at once; more are refused.
	maxFlows = 4096
	// dialTime is how long the last instance asked has to accept, and otherTime one before it.
	dialTime, otherTime = 5 * time.Second, time.Second
	// restTime is how long an instance that did not accept is passed over while others do.
	restTime = time.Second
	// idleUDP is how long a UDP client is remembered after its last packet.
	idleUDP = time.Minute
	// retryEvery is the time between attempts at a port that could not be had.
	retryEvery = time.Second
	// lastTime is how long connections have at the end.
	lastTime = time.Second
	// adoptFor is how long the sockets of the agent before us wait to be wanted.
	adoptFor = 2 * time.Minute
)

// Port is a port of the host.
type Port struct {
	// Protocol is "tcp" or "udp".
	Protocol string
	// Addr is the address listened at; 0.0.0.0 is every IPv4 address, :: every IPv6 one.
	Addr   netip.Addr
	Number uint16
}

// String returns "tcp 127.0.0.1:8080".
func (p Port) String() string {
	return p.Protocol + " " + netip.AddrPortFrom(p.Addr, p.Number).String()
}

func (p Port) compare(o Port) int {
	return cmp.Or(strings.Compare(p.Protocol, o.Protocol), p.Addr.Compare(o.Addr), cmp.Compare(p.Number, o.Number))
}

// Service is what a port leads to.
type Service struct {
	// Targets share the connections; there is one at least.
	Targets []netip.AddrPort
	// Header begins each TCP connection with a line that tells the client's address (PROXY protocol, version 1).
	Header bool
}

// Forwarder carries connections. The zero value with a Log is ready; its methods may be called from any
// goroutine.
type Forwarder struct {
	// Log hears about ports that cannot be had; nil means silence.
	Log *slog.Logger

	flows atomic.Int64
	busy  sync.WaitGroup

	mu     sync.Mutex      // guards what follows
	life   context.Context //nolint:containedctx // of all connections, set by the first Set
	end    context.CancelFunc
	open   map[Port]*listener
	failed map[Port]failure
	left   map[Port]*net.TCPListener // of the agent before us
	since  time.Time                 // when left came
	opened uint64
}

type failure struct {
	err error
	at  time.Time
}

// listener is an open port; its pool changes when what is behind it does.
type listener struct {
	pool atomic.Pointer[pool]
	over atomic.Bool // the port is not wanted any more
	tcp  *net.TCPListener
	udp  *net.UDPConn
	port Port
}

// Set makes want the ports that are carried, each to its service. Ports that stay are not interrupted, and neither are
// connections to instances that are no longer among the targets; ports gone refuse new connections and let the old
// ones end.
func (f *Forwarder) Set(ctx context.Context, want map[Port]Service) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.life == nil {
		f.life, f.end = context.WithCancel(context.WithoutCancel(ctx))
	}

	for p, l := range f.open {
		_, wanted := want[p]
		if !wanted {
			l.close()
			delete(f.open, p)
			f.opened++
		}
	}

	maps.DeleteFunc(f.failed, func(p Port, _ failure) bool {
		_, wanted := want[p]
		return !wanted
	})

	now := time.Now()
	for _, p := range slices.SortedFunc(maps.Keys(want), Port.compare) {
		l, isOpen := f.open[p]
		if isOpen {
			l.pool.Store(l.pool.Load().next(want[p]))
			continue
		}

		if now.Sub(f.failed[p].at) >= retryEvery {
			f.begin(ctx, p, want[p], now)
		}
	}

	if now.Sub(f.since) > adoptFor {
		for p, l := range f.left {
			shut(l)
			delete(f.left, p)
			f.opened++
		}
	}
}

// begin opens a port.
func (f *Forwarder) begin(ctx context.Context, p Port, s Service, now time.Time) {
	l, err := f.listen(ctx, p)
	if err != nil {
		if f.failed == nil {
			f.failed = map[Port]failure{}
		}

		_, known := f.failed[p]
		f.failed[p] = failure{err, now}
		if !known && !foreignFamily(p, err) && f.Log != nil {
			f.Log.WarnContext(ctx, "published port cannot be had", "port", p.String(), "err", err)
		}

		return
	}

	delete(f.failed, p)
	if f.open == nil {
		f.open = map[Port]*listener{}
	}

	f.open[p] = l
	f.opened++
	l.pool.Store((&pool{}).next(s))
	life := f.life
	f.busy.Go(func() {
		if l.tcp != nil {
			f.serveTCP(life, l)
		} else {
			f.serveUDP(life, l)
		}
	})
}

// foreignFamily reports whether a port for every IPv6 address failed because the host has no IPv6: nothing is missed.
func foreignFamily(p Port, err error) bool {
	return p.Addr.Is6() && p.Addr.IsUnspecified() && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL))
}

// listen takes over the socket the agent before us had, or opens one.
func (f *Forwarder) listen(ctx context.Context, p Port) (*listener, error) {
	old := f.left[p]
	if old != nil {
		delete(f.left, p)
		return &listener{tcp: old, port: p}, nil
	}

	family := "4"
	if p.Addr.Is6() {
		family = "6"
	}

	var lc net.ListenConfig
	addr := netip.AddrPortFrom(p.Addr, p.Number).String()
	if p.Protocol == "udp" {
		lc.Control = askWhere(p.Addr)
		c, err := lc.ListenPacket(ctx, "udp"+family, addr)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}

		return &listener{udp: c.(*net.UDPConn), port: p}, nil
	}

	c, err := lc.Listen(ctx, "tcp"+family, addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}

	return &listener{tcp: c.(*net.TCPListener), port: p}, nil
}

func (l *listener) close() {
	l.over.Store(true)
	if l.tcp != nil {
		shut(l.tcp)
	} else {
		_ = l.udp.Close()
	}
}

// shut closes a listener for good, also where somebody else holds a copy of it.
func shut(l *net.TCPListener) {
	raw, err := l.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	}

	_ = l.Close()
}

// Holds reports whether a port is carried now, so that its listener is not taken for a stranger's.
func (f *Forwarder) Holds(p Port) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.open[p] != nil || f.left[p] != nil
}

// Problems says which ports cannot be had, and why.
func (f *Forwarder) Problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	var out []string
	for p, fail := range f.failed {
		why := fail.err.Error()
		switch {
		case foreignFamily(p, fail.err):
			continue
		case errors.Is(fail.err, syscall.EADDRINUSE):
			why = "another program has it (\"ss -lntup\" shows it)"
		}

		out = append(out, fmt.Sprintf("port %s is published, but the agent cannot listen there: %s", p, why))
	}

	slices.Sort(out)

	return out
}

// Prefix is how the names of our sockets begin in systemd's store.
const Prefix = "port-"

// Adopt takes over the listening sockets of the agent before us: what has connected meanwhile waits in them. It keeps
// those named as EachSocket names them, and returns the other files.
func (f *Forwarder) Adopt(files []*os.File) []*os.File {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.since = time.Now()
	var others []*os.File
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), Prefix) {
			others = append(others, file)
			continue
		}

		l, err := net.FileListener(file)
		_ = file.Close()
		tcp, ok := l.(*net.TCPListener)
		if err != nil || !ok {
			continue // the port is opened anew
		}

		at := tcp.Addr().(*net.TCPAddr).AddrPort()
		if f.left == nil {
			f.left = map[Port]*net.TCPListener{}
		}

		f.left[Port{Protocol: "tcp", Addr: at.Addr().Unmap(), Number: at.Port()}] = tcp
	}

	return others
}

// Sockets changes when the set of open sockets does.
func (f *Forwarder) Sockets() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.opened
}

// EachSocket calls g with every TCP listener and a name of its own, until it fails. UDP sockets are not among them:
// what a client sends while nobody listens is lost, as on any network.
func (f *Forwarder) EachSocket(g func(name string, fd uintptr) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()

	all := maps.Clone(f.left)
	if all == nil {
		all = map[Port]*net.TCPListener{}
	}

	for p, l := range f.open {
		if l.tcp != nil {
			all[p] = l.tcp
		}
	}

	for p, l := range all {
		raw, err := l.SyscallConn()
		if err != nil {
			return fmt.Errorf("socket of port %s: %w", p, err)
		}

		var gerr error
		err = raw.Control(func(fd uintptr) { gerr = g(Prefix+strings.NewReplacer(" ", "-", ":", ".").Replace(p.String()), fd) })
		err = cmp.Or(gerr, err)
		if err != nil {
			return err
		}
	}

	return nil
}

// Close ends all ports, gives the connections a moment to end by themselves, and waits for them. Sockets that
// somebody else holds stay open there.
func (f *Forwarder) Close() {
	f.mu.Lock()
	for p, l := range f.open {
		l.over.Store(true)
		if l.tcp != nil {
			_ = l.tcp.Close()
		} else {
			_ = l.udp.Close()
		}

		delete(f.open, p)
	}

	end := f.end
	f.mu.Unlock()
	if end == nil {
		return // nothing was ever carried
	}

	cut := time.AfterFunc(lastTime, end)
	defer cut.Stop()

	f.busy.Wait()
	end()
}

// admit counts a flow, unless there are too many.
func (f *Forwarder) admit() bool {
	if f.flows.Add(1) > maxFlows {
		f.flows.Add(-1)
		return false
	}

	return true
}

func (f *Forwarder) leave() { f.flows.Add(-1) }
