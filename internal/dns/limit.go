package dns

import (
	"net/netip"
	"sync"
	"time"
)

// Rate is how much one client may ask for, on average and at once. The zero Rate does not limit.
type Rate struct {
	// PerSecond is refilled every second, up to Burst.
	PerSecond, Burst float64
}

// usualForwards is plenty for a package manager and little for a flood of random names.
var usualForwards = Rate{PerSecond: 300, Burst: 1000}

// maxBuckets bounds the memory; clients beyond it share one bucket.
const maxBuckets = 4096

// buckets count what clients ask for.
type buckets struct {
	rate Rate

	mu   sync.Mutex // guards what follows
	by   map[netip.Addr]*bucket
	rest bucket
}

// bucket is a client's: what was left in it at a time.
type bucket struct {
	left float64
	at   time.Time
}

func newBuckets(r Rate) *buckets { return &buckets{rate: r, by: map[netip.Addr]*bucket{}} }

// take counts one question of a client (View.client) and tells whether it may be answered.
func (b *buckets) take(who netip.Addr, now time.Time) bool {
	if b.rate.PerSecond <= 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.by[who]
	if k == nil && len(b.by) >= maxBuckets {
		b.sweep(now)
	}
	switch {
	case k == nil && len(b.by) >= maxBuckets:
		k = &b.rest
	case k == nil:
		k = &bucket{left: b.rate.Burst, at: now}
		b.by[who] = k
	}
	b.refill(k, now)
	if k.left < 1 {
		return false
	}
	k.left--
	return true
}

func (b *buckets) refill(k *bucket, now time.Time) {
	k.left = min(b.rate.Burst, k.left+now.Sub(k.at).Seconds()*b.rate.PerSecond)
	k.at = now
}

// sweep forgets the clients whose bucket is full again: a new one would be the same.
func (b *buckets) sweep(now time.Time) {
	for p, k := range b.by {
		b.refill(k, now)
		if k.left >= b.rate.Burst {
			delete(b.by, p)
		}
	}
}
