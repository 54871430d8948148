package apply

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/incus-compose/ic-agent/internal/calendar"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// checkTime bounds the questions about newer images in one pass: nothing waits for them.
	checkTime = 15 * time.Second
	// firstRecheck doubles up to lastRecheck while a registry does not answer.
	firstRecheck = 5 * time.Minute
	lastRecheck  = 6 * time.Hour
	// mostJitter, and a tenth of the time between two checks, bound by how much one comes late: not every host
	// asks on the hour.
	mostJitter = 10 * time.Minute
)

// refresh is somebody's word to ask now.
type refresh struct {
	// take takes what is newer whatever the policy says.
	take bool
	by   string
}

// Refresh asks the registries about newer images now; with take, they are taken whatever the files' policy. done is
// closed after the pass that has done it; by is who asks.
func (l *Loop) Refresh(take bool, by string, done chan<- struct{}) {
	l.post(func(m *mail) {
		m.orders = append(m.orders, func(context.Context) {
			l.refresh = &refresh{take: take, by: by}
			if take {
				l.hasten("")
			}
		})
		m.dirty = true
		if done != nil {
			m.waiters = append(m.waiters, done)
		}
	})
}

// checkUpdates asks, by HEAD requests, about the references whose time has come, and returns those of which a newer
// image is to be taken now.
func (l *Loop) checkUpdates(ctx context.Context, asked map[string]ask) map[string]bool {
	word := l.refresh
	l.refresh, l.asking = nil, word != nil
	newer := map[string]bool{}
	var mu sync.Mutex
	now := time.Now()
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()

	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	before := maps.Clone(l.led.Updates)
	for key, a := range asked {
		old, known := l.led.Images[key]
		if !known || !a.ages(old) {
			continue
		}

		u := before[key]
		scheduled := a.update.Check != "" || a.ref.Every > 0
		if word == nil && !scheduled {
			if u.Digest == "" {
				l.setUpdate(&mu, key, plan.Update{})
			}

			continue
		}

		group.Go(func() error {
			if word != nil || due(u, a, now) {
				u = l.asks(gctx, a, old, u, now)
			}

			if u.Next.IsZero() && scheduled {
				u.Next = nextCheck(a, now)
			}

			take := u.Digest != "" && (word != nil && word.take || wanted(a, u, now))
			mu.Lock()
			newer[key] = take
			mu.Unlock()
			l.setUpdate(&mu, key, u)

			return nil
		})
	}

	_ = group.Wait() // the functions return no errors
	l.scheduleUpdates(asked, newer)

	return newer
}

// ages tells whether there can be a newer image behind the reference.
func (a ask) ages(img plan.Image) bool {
	return !a.builds() && img.BuildKey == "" && !strings.Contains(a.ref.Ref, "@")
}

// scheduleUpdates has the loop look again when the next question is due, or a newer image is old enough.
func (l *Loop) scheduleUpdates(asked map[string]ask, newer map[string]bool) {
	for key, u := range l.led.Updates {
		if !u.Next.IsZero() {
			l.atLatest(u.Next)
		}

		if u.Digest != "" && !newer[key] && asked[key].update.Mode == "apply" {
			l.atLatest(u.Seen.Add(asked[key].update.MinAge))
		}
	}
}

func (l *Loop) setUpdate(mu *sync.Mutex, key string, u plan.Update) {
	mu.Lock()
	defer mu.Unlock()

	if u == (plan.Update{}) {
		delete(l.led.Updates, key)
		return
	}

	if l.led.Updates == nil {
		l.led.Updates = map[string]plan.Update{}
	}

	l.led.Updates[key] = u
}

// due tells whether the time of the next question has come.
func due(u plan.Update, a ask, now time.Time) bool {
	return !u.Next.IsZero() && !now.Before(u.Next) && (a.update.Check != "" || a.ref.Every > 0)
}

// wanted tells whether the file's policy takes a newer image now.
func wanted(a ask, u plan.Update, now time.Time) bool {
	if a.ref.Every > 0 {
		return true
	}

	return a.update.Mode == "apply" && !now.Before(u.Seen.Add(a.update.MinAge))
}

// asks asks the registry about one reference.
func (l *Loop) asks(ctx context.Context, a ask, old plan.Image, u plan.Update, now time.Time) plan.Update {
	digest, err := l.host.Images.Digest(ctx, a.ref)
	if err != nil {
		u.Error = err.Error()
		u.Failures++
		u.Next = now.Add(recheck(u.Failures))
		var held interface{ NotBefore() time.Time }
		if errors.As(err, &held) && held.NotBefore().After(u.Next) {
			u.Next = held.NotBefore()
		}

		l.log.DebugContext(ctx, "update check failed", "image", a.ref.Ref, "err", err, "next", u.Next)

		return u
	}

	u.Checked, u.Failures, u.Error = now, 0, ""
	u.Next = nextCheck(a, now)
	switch {
	case digest == old.Digest:
		u.Digest, u.Seen = "", time.Time{}
	case digest != u.Digest:
		u.Digest, u.Seen = digest, now
		l.log.InfoContext(ctx, "update available", "image", a.ref.Ref, "now", old.Digest, "new", digest)
	}

	return u
}

// recheck grows with each failure, with a third of jitter.
func recheck(failures int) time.Duration {
	wait := min(firstRecheck<<min(failures-1, 10), lastRecheck)

	return wait - rand.N(wait/3)
}

// nextCheck is when a reference is asked about next; zero when never.
func nextCheck(a ask, now time.Time) time.Time {
	if a.ref.Every > 0 && a.update.Check == "" {
		return now.Add(a.ref.Every)
	}

	expr, err := calendar.Parse(a.update.Check)
	if err != nil {
		return time.Time{} // refused when the file was read
	}

	next, ok := expr.Next(now)
	if !ok {
		return time.Time{}
	}

	after, ok := expr.Next(next)
	if !ok {
		return next
	}

	return next.Add(rand.N(min(mostJitter, after.Sub(next)/10) + 1))
}
