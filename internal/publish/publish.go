// Package publish answers published ports on the host's loopback.
//
// A port published on every address is forwarded to its instance by the firewall, which is fast, survives this
// process and shows the app the client's address, but leaves connections from the host to itself alone. Those are
// carried here: a listener on 127.0.0.1 for each such port, as docker-proxy does. Nothing but the host's own
// programs can reach it.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxFlows is how many connections and UDP clients are carried at once; more are refused.
	maxFlows = 2048
	// dialTime is how long an instance has to accept.
	dialTime = 5 * time.Second
	// idleUDP is how long a UDP client is remembered after its last packet.
	idleUDP = time.Minute
	// retryEvery is the time between attempts at a port that could not be had.
	retryEvery = 10 * time.Second
)

// Port is a port on loopback.
type Port struct {
	// Protocol is "tcp" or "udp".
	Protocol string
	Number   uint16
}

// String returns "tcp 8080".
func (p Port) String() string { return fmt.Sprintf("%s %d", p.Protocol, p.Number) }

// Forwarder carries connections. The zero value with a Log is ready; its methods may be called from any
// goroutine.
type Forwarder struct {
	// Log hears about ports that cannot be had; nil means silence.
	Log *slog.Logger

	flows atomic.Int64
	busy  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[Port]*listener
	failed map[Port]failure
}

type failure struct {
	err error
	at  time.Time
}

// listener is an open port; its target changes when the instance gets another address.
type listener struct {
	to   atomic.Pointer[netip.AddrPort]
	end  context.CancelFunc
	tcp  *net.TCPListener
	udp  *net.UDPConn
	port Port
}

// Set makes want the ports that are carried, each to its target. Ports that stay are not interrupted, those gone
// refuse new connections and let the old ones end.
func (f *Forwarder) Set(ctx context.Context, want map[Port]netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()

	for p, l := range f.open {
		_, wanted := want[p]
		if !wanted {
			l.close()
			delete(f.open, p)
		}
	}

	maps.DeleteFunc(f.failed, func(p Port, _ failure) bool {
		_, wanted := want[p]
		return !wanted
	})

	now := time.Now()
	for _, p := range slices.SortedFunc(maps.Keys(want), func(a, b Port) int { return strings.Compare(a.String(), b.String()) }) {
		to := want[p]
		l, isOpen := f.open[p]
		if isOpen {
			l.to.Store(&to)
			continue
		}

		if now.Sub(f.failed[p].at) >= retryEvery {
			f.begin(ctx, p, to, now)
		}
	}
}

// begin opens a port.
func (f *Forwarder) begin(ctx context.Context, p Port, to netip.AddrPort, now time.Time) {
	l, err := listen(ctx, p)
	if err != nil {
		if f.failed == nil {
			f.failed = map[Port]failure{}
		}

		_, known := f.failed[p]
		f.failed[p] = failure{err, now}
		if !known && f.Log != nil {
			f.Log.WarnContext(ctx, "published port not on loopback", "port", p.String(), "err", err)
		}

		return
	}

	delete(f.failed, p)
	if f.open == nil {
		f.open = map[Port]*listener{}
	}

	f.open[p] = l
	l.to.Store(&to)
	ctx, l.end = context.WithCancel(ctx)
	f.busy.Go(func() {
		if l.tcp != nil {
			f.serveTCP(ctx, l)
		} else {
			f.serveUDP(ctx, l)
		}
	})
}

func listen(ctx context.Context, p Port) (*listener, error) {
	var lc net.ListenConfig
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Number).String()
	if p.Protocol == "udp" {
		c, err := lc.ListenPacket(ctx, "udp4", addr)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}

		return &listener{udp: c.(*net.UDPConn), port: p}, nil
	}

	c, err := lc.Listen(ctx, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}

	return &listener{tcp: c.(*net.TCPListener), port: p}, nil
}

func (l *listener) close() {
	l.end()
	if l.tcp != nil {
		_ = l.tcp.Close()
	} else {
		_ = l.udp.Close()
	}
}

// Holds reports whether a port is carried now, so that its listener is not taken for a stranger's.
func (f *Forwarder) Holds(p Port) bool {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.open[p] != nil
}

// Problems says which ports cannot be had, and why.
func (f *Forwarder) Problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()

	var out []string
	for p, fail := range f.failed {
		why := fail.err.Error()
		if errors.Is(fail.err, syscall.EADDRINUSE) {
			why = "another program has it (\"ss -lntup\" shows it)"
		}

		out = append(out, fmt.Sprintf("port %s is published, but not on 127.0.0.1: %s", p, why))
	}

	slices.Sort(out)

	return out
}

// Close ends all ports and connections and waits for them.
func (f *Forwarder) Close() {
	f.mu.Lock()
	for p, l := range f.open {
		l.close()
		delete(f.open, p)
	}
	f.mu.Unlock()
	f.busy.Wait()
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
