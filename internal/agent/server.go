package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/watch"
)

// How often Incus is asked whether it is there, by whether it was the last time. Loops notice an outage by
// themselves; this is for the status, and for a host without stacks.
const (
	probeWell = time.Minute
	probeAway = 2 * time.Second
)

// serverState is what is known of the Incus server.
type serverState struct {
	mu      sync.Mutex
	version string
	err     error
	asked   bool
	woken   chan struct{} // holds one token when the version is to be asked for
}

// answered notes a sign of life that came by itself, and has the version asked for.
func (s *serverState) answered() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// get returns the server's version, or why it is not known; both empty before the first answer.
func (s *serverState) get() (version string, asked bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.version, s.asked, s.err
}

// set notes an answer and reports whether it is news.
func (s *serverState) set(version string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	news := !s.asked || s.version != version || (s.err == nil) != (err == nil) || err != nil && s.err.Error() != err.Error()
	s.version, s.err, s.asked = version, err, true

	return news
}

// probe asks Incus for its version every now and then.
func (a *Agent) probe(ctx context.Context) error {
	for {
		srv, err := a.incus.Server(ctx)
		if ctx.Err() != nil {
			return nil
		}

		if a.server.set(srv.Version, err) {
			if err != nil {
				a.log.WarnContext(ctx, "Incus does not answer: waiting for it", "err", err)
			} else {
				a.log.InfoContext(ctx, "Incus answers", "version", srv.Version)
				for _, l := range a.stacks.all() {
					l.Dirty()
				}
			}

			a.changed()
		}

		every := probeWell
		if err != nil {
			every = probeAway
		}

		timer := time.NewTimer(every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-a.server.woken:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// snapshotBox holds the latest snapshot of the directories.
type snapshotBox struct {
	mu   sync.Mutex
	snap watch.Snapshot
}

// swap stores a snapshot and returns the problems that the one before did not have.
func (b *snapshotBox) swap(s watch.Snapshot) []watch.Problem {
	b.mu.Lock()
	defer b.mu.Unlock()

	old := b.snap.Problems
	b.snap = s

	var news []watch.Problem
	for _, p := range s.Problems {
		if !slices.Contains(old, p) {
			news = append(news, p)
		}
	}

	return news
}

func (b *snapshotBox) get() watch.Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.snap
}
