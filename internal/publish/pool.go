package publish

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// pool are the instances behind a port. It never changes; its targets count.
type pool struct {
	targets []*target
	header  bool
	turn    *atomic.Uint64 // counts the choices; shared by successive pools
}

// target is one instance.
type target struct {
	addr  netip.AddrPort
	flows atomic.Int64
	// turn is the number of the choice that last fell on it.
	turn atomic.Uint64
	// failed is when it last did not accept, in unix nanoseconds.
	failed atomic.Int64
	// gone is closed when it is no longer among the targets.
	gone chan struct{}
}

// next is the pool of a service that followed on p: targets that stay keep their counts.
func (p *pool) next(s Service) *pool {
	old := map[netip.AddrPort]*target{}
	for _, t := range p.targets {
		old[t.addr] = t
	}

	n := &pool{header: s.Header, turn: p.turn, targets: make([]*target, 0, len(s.Targets))}
	if n.turn == nil {
		n.turn = new(atomic.Uint64)
	}

	for _, addr := range s.Targets {
		t := old[addr]
		if t == nil {
			t = &target{addr: addr, gone: make(chan struct{})}
		}

		delete(old, addr)
		n.targets = append(n.targets, t)
	}

	for _, t := range old {
		close(t.gone)
	}

	return n
}

// pick chooses, of the targets not tried yet, the one with the fewest flows, among equals the one whose turn was
// longest ago; one that has just failed comes after all others. Nil means that all were tried.
func (p *pool) pick(now time.Time, tried map[*target]bool) *target {
	var best *target
	var fewest int64
	var rest bool
	for _, t := range p.targets {
		if tried[t] {
			continue
		}

		flows, rests := t.flows.Load(), now.UnixNano()-t.failed.Load() < int64(restTime)
		if best == nil || rest && !rests || rest == rests && (flows < fewest || flows == fewest && t.turn.Load() < best.turn.Load()) {
			best, fewest, rest = t, flows, rests
		}
	}

	if best != nil {
		best.turn.Store(p.turn.Add(1))
	}

	return best
}

// dial connects to one of the targets, and counts the flow there until it is given up with leave.
func (p *pool) dial(ctx context.Context, network string) (net.Conn, *target, error) {
	tried := map[*target]bool{}
	err := fmt.Errorf("no instance is left")
	for {
		t := p.pick(time.Now(), tried)
		if t == nil {
			return nil, nil, err
		}

		tried[t] = true
		d := net.Dialer{Timeout: otherTime}
		if len(tried) == len(p.targets) {
			d.Timeout = dialTime
		}

		t.flows.Add(1)
		var c net.Conn
		c, err = d.DialContext(ctx, network, t.addr.String())
		if err == nil {
			return c, t, nil
		}

		t.flows.Add(-1)
		t.failed.Store(time.Now().UnixNano())
	}
}
