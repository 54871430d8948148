package apply

import (
	"maps"
	"net/netip"
	"sync"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// book knows every address handed out on every network by any stack, so that none is handed out twice. The
// loops' ledgers are its memory.
type book struct {
	mu     sync.Mutex
	leases map[string]map[netip.Addr]holder
}

type holder struct{ stack, instance string }

func (b *book) seed(l plan.Ledger) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for network, addrs := range l.Addresses {
		for instance, a := range addrs {
			b.set(network, a, holder{l.Stack, instance})
		}
	}
}

func (b *book) set(network string, a netip.Addr, h holder) {
	if b.leases == nil {
		b.leases = map[string]map[netip.Addr]holder{}
	}

	if b.leases[network] == nil {
		b.leases[network] = map[netip.Addr]holder{}
	}

	b.leases[network][a] = h
}

// allocate answers a stack's leases on one network. The addresses of instances that exist still but are asked
// for no more (keep) stay taken until they are gone.
func (b *book) allocate(stack, network string, seg plan.Segment, asked []plan.Lease, have map[string]netip.Addr, keep map[string]bool) (map[string]netip.Addr, []plan.Blocked) {
	b.mu.Lock()
	defer b.mu.Unlock()

	wanted := map[string]bool{}
	for _, l := range asked {
		wanted[l.Instance] = true
	}

	taken := map[netip.Addr]string{}
	for a, h := range b.leases[network] {
		if h.stack != stack {
			taken[a] = "instance " + h.instance + " of stack " + h.stack
		}
	}

	kept := map[string]netip.Addr{}
	for instance, a := range have {
		if !wanted[instance] && keep[instance] {
			taken[a] = "instance " + instance
			kept[instance] = a
		}
	}

	out, blocked := plan.Allocate(seg, asked, have, taken)
	maps.DeleteFunc(b.leases[network], func(_ netip.Addr, h holder) bool { return h.stack == stack })
	maps.Copy(kept, out)
	for instance, a := range kept {
		b.set(network, a, holder{stack, instance})
	}

	return kept, blocked
}

// release forgets all of a stack's addresses.
func (b *book) release(stack string) {
	b.mu.Lock()
	defer b.mu.Unlock()

	for _, addrs := range b.leases {
		maps.DeleteFunc(addrs, func(_ netip.Addr, h holder) bool { return h.stack == stack })
	}
}
