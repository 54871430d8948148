package dns

import (
	"net/netip"
	"sync"
)

// gate lets a number of things happen at once, and fewer of them for one client, so that nobody can take the
// places of all others.
type gate struct {
	total, each int // the limits

	mu     sync.Mutex // guards what follows
	inside int
	by     map[netip.Addr]int
}

func newGate(total, each int) *gate {
	return &gate{total: total, each: each, by: map[netip.Addr]int{}}
}

// enter takes a place and tells whether there was one; leave gives it back.
func (g *gate) enter(who netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside >= g.total || g.by[who] >= g.each {
		return false
	}
	g.inside++
	g.by[who]++
	return true
}

func (g *gate) leave(who netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.by[who]--
	if g.by[who] == 0 {
		delete(g.by, who)
	}
}

// count is how many are inside.
func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inside
}
