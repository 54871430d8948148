package dns

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
)

// loopZone is below which every server gets a name of its own to be asked for. "example" is nobody's, and
// resolvers pass it on like any other name (RFC 6761 6.5).
const loopZone = "ic-agent-loop.example."

// How often a server is asked its name while there is anything to ask it, and after how long without the name
// coming back it is believed not to ask us any more.
const (
	loopEvery  = 4 * time.Second
	loopClears = 3 * loopEvery
)

// loopState is what is known about whether a server asks us back.
type loopState struct {
	mu    sync.Mutex // guards what follows
	sent  time.Time  // when it was last asked its name
	seen  time.Time  // when the name last came back
	count uint64     // upstream.asked at that time
}

func newToken() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// watchLoops asks the servers that are in use, each at once when it is new, their own name. It returns how long until
// the next has to be asked or is to be believed again; 0 when none is in use.
func (f *forwarder) watchLoops(ctx context.Context, now time.Time) (wait time.Duration) {
	for _, u := range f.all() {
		due, cleared := u.loopDue(now)
		if cleared {
			f.log.InfoContext(ctx, "name server does not ask us back any more", "server", u.addr)
		}
		if due {
			go u.askName(ctx, f.times.patience)
		}
		wait = soonest(wait, u.loopWait(now))
	}
	f.forget(now)
	return wait
}

// forgetAfter is how long what is known about a server that is asked no more is kept.
const forgetAfter = 10 * time.Minute

// forget drops the servers that are not the host's and that nobody asks any more.
func (f *forwarder) forget(now time.Time) {
	hosts := f.servers()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.pool, func(_ netip.AddrPort, u *upstream) bool {
		u.loop.mu.Lock()
		defer u.loop.mu.Unlock()
		idle := u.asked.Load() == u.loop.count && !u.loop.sent.IsZero() && now.Sub(u.loop.sent) > forgetAfter
		return idle && !slices.Contains(hosts, u)
	})
}

// loopDue tells whether to ask the server its name now, and whether a loop has just ended.
func (u *upstream) loopDue(now time.Time) (due, cleared bool) {
	u.loop.mu.Lock()
	defer u.loop.mu.Unlock()
	if u.loops.Load() && now.Sub(u.loop.seen) >= loopClears {
		u.loops.Store(false)
		cleared = true
	}
	asked := u.asked.Load()
	used := asked != u.loop.count || u.loops.Load()
	if !u.loop.sent.IsZero() && (!used || now.Sub(u.loop.sent) < loopEvery) {
		return false, cleared
	}
	u.loop.sent, u.loop.count = now, asked
	return true, cleared
}

// loopWait is how long until loopDue has something to say, 0 when only a question can bring that about.
func (u *upstream) loopWait(now time.Time) time.Duration {
	u.loop.mu.Lock()
	defer u.loop.mu.Unlock()
	ask := u.loop.sent.Add(loopEvery).Sub(now)
	switch {
	case u.loops.Load():
		return soonest(ask, u.loop.seen.Add(loopClears).Sub(now))
	case u.asked.Load() != u.loop.count:
		return ask
	}
	return 0
}

// askName sends the question; what becomes of it is not waited for longer than patience.
func (u *upstream) askName(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name := Question{Name: u.token + "." + loopZone, Type: miekg.TypeTXT, Class: miekg.ClassINET}
	_, _ = u.exchange(ctx, want{question: name, flags: flagRD})
}

// returned takes a question that came in and tells whether it is one of ours come back, which must end here.
func (f *forwarder) returned(name string, now time.Time) bool {
	name = strings.ToLower(name)
	token, ours := strings.CutSuffix(name, "."+loopZone)
	if !ours {
		return false
	}
	for _, u := range f.all() {
		if u.token != token {
			continue
		}
		u.loop.mu.Lock()
		u.loop.seen = now
		u.loop.mu.Unlock()
		if !u.loops.Swap(true) {
			f.log.Warn("name server asks us back what we ask it, it is left out until that ends: "+
				"it must not forward to this server", "server", u.addr)
		}
	}
	return true
}
