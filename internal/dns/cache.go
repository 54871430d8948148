package dns

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

// How long an upstream's answer is kept: one with data, one without (RFC 2308), a failure (RFC 9520), and how
// long after its end it may still be given when nobody has a newer one (RFC 8767).
const (
	longestPositive = time.Hour
	longestNegative = 5 * time.Minute
	failureFor      = 2 * time.Second
	staleFor        = 24 * time.Hour
	staleTTL        = 30
	staleRecheck    = 5 * time.Second
)

// usualCache is how many bytes of answers are kept; overhead is what an entry takes beside them.
const (
	usualCache = 8 << 20
	overhead   = 256
)

// cache keeps the answers of upstreams, the ones used last when there is not room for all.
type cache struct {
	limit int // bytes; 0 keeps nothing

	mu    sync.Mutex // guards what follows
	used  int
	by    map[string]*list.Element
	order *list.List // of *kept, the one used last in front
	hits  uint64
}

// kept is an answer in the cache.
type kept struct {
	key     string
	reply   reply
	err     error // a failure, in place of the reply
	at      time.Time
	expires time.Time
	recheck time.Time // until when a stale answer is given without asking again
}

func newCache(limit int) *cache {
	return &cache{limit: limit, by: map[string]*list.Element{}, order: list.New()}
}

// get returns the answer for a key, fresh or stale; ok is false when there is none.
func (c *cache) get(key string, now time.Time) (k kept, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[key]
	if e == nil {
		return kept{}, false
	}
	k = *e.Value.(*kept)
	if end := k.expires; now.After(end.Add(staleFor)) || k.err != nil && !now.Before(end) {
		c.drop(e)
		return kept{}, false
	}
	c.order.MoveToFront(e)
	if now.Before(k.expires) {
		c.hits++
	}
	return k, true
}

// put keeps an answer for as long as it says itself. One that must not be kept changes nothing.
func (c *cache) put(key string, r reply, err error, now time.Time) {
	life := failureFor
	if err == nil && r.rcode() != miekg.RcodeServerFailure {
		life = lifetime(r.whole)
	}
	if life <= 0 || c.limit == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.by[key]
	failed := err != nil || r.rcode() == miekg.RcodeServerFailure
	if old != nil {
		before := old.Value.(*kept)
		if failed && before.useful() {
			before.recheck = now.Add(staleRecheck)
			return
		}
		c.drop(old)
	}
	k := &kept{key: key, reply: r, err: err, at: now, expires: now.Add(life)}
	c.by[key] = c.order.PushFront(k)
	c.used += k.cost()
	for c.used > c.limit {
		c.drop(c.order.Back())
	}
}

// drop forgets an entry. The caller holds mu.
func (c *cache) drop(e *list.Element) {
	k := c.order.Remove(e).(*kept)
	delete(c.by, k.key)
	c.used -= k.cost()
}

// size returns how much is kept.
func (c *cache) size() (entries, bytes int, hits uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.by), c.used, c.hits
}

func (k *kept) cost() int { return 2*len(k.key) + len(k.reply.whole) + len(k.reply.short) + overhead }

// useful tells whether the answer may be given when it is old: it says something about the name.
func (k *kept) useful() bool {
	return k.err == nil && (k.reply.rcode() == miekg.RcodeSuccess || k.reply.rcode() == miekg.RcodeNameError)
}

// aged returns the answer with lifetimes as they are now.
func (k *kept) aged(now time.Time) reply {
	r := k.reply
	passed := uint32(max(0, now.Sub(k.at)/time.Second))
	age := func(ttl uint32) uint32 { return max(1, ttl-min(ttl, passed)) }
	if !now.Before(k.expires) {
		age = func(uint32) uint32 { return staleTTL }
		r.stale = true
	}
	r.whole, r.short = withTTL(r.whole, age), withTTL(r.short, age)
	return r
}

// withTTL returns a copy of an answer with other lifetimes, and without the flag that says it comes from who owns
// the name: now it comes from the cache (RFC 1035 6.1).
func withTTL(msg []byte, change func(uint32) uint32) []byte {
	if msg == nil {
		return nil
	}
	msg = bytes.Clone(msg)
	msg[2] &^= flagAA >> 8
	eachRR(msg, func(_ int, r rr) bool {
		binary.BigEndian.PutUint32(msg[r.data-6:], change(r.ttl))
		return true
	})
	return msg
}

// eachRR calls f for the records of an answer, but for the OPT, with their section: 0 answer, 1 authority,
// 2 additional; until f returns false. It returns whether the message could be followed to its end.
func eachRR(msg []byte, f func(section int, r rr) bool) bool {
	end, plain := nameEnd(msg, headerLen)
	if !plain || end+4 > len(msg) || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return false
	}
	off := end + 4
	for section := range 3 {
		for range binary.BigEndian.Uint16(msg[6+2*section:]) {
			r, ok := readRR(msg, off)
			if !ok {
				return false
			}
			off = r.end
			if r.typ != miekg.TypeOPT && !f(section, r) {
				return true
			}
		}
	}
	return true
}

// lifetime is how long an answer says it may be kept; 0 when it may not.
func lifetime(msg []byte) time.Duration {
	rcode := int(msg[3] & rcodeMask)
	if msg[2]&(flagTC>>8) != 0 || rcode != miekg.RcodeSuccess && rcode != miekg.RcodeNameError {
		return 0
	}
	least, negative, data := uint32(longestPositive/time.Second), uint32(0), false
	whole := eachRR(msg, func(section int, r rr) bool {
		ttl := r.ttl
		if ttl>>31 == 1 {
			ttl = 0 // RFC 2181 8
		}
		least = min(least, ttl)
		data = data || section == 0 && r.typ != miekg.TypeCNAME
		if section == 1 && r.typ == miekg.TypeSOA && r.end-r.data >= 4 {
			negative = min(ttl, binary.BigEndian.Uint32(msg[r.end-4:]))
		}
		return true
	})
	switch {
	case !whole:
		return 0
	case data && rcode == miekg.RcodeSuccess:
		return time.Duration(least) * time.Second
	}
	return min(time.Duration(min(least, negative))*time.Second, longestNegative)
}
