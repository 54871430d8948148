package healthd

import (
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

const (
	// shortcutLimit is how long a shortcut may take before the command itself is run, which has its whole timeout.
	shortcutLimit = 2 * time.Second
	// shortcutTries is how often in a row one may fail where the command passes, before it is left alone for the rest
	// of the run: the service listens on its own loopback only, or lets nobody in from there.
	shortcutTries = 3
	// keepVain bounds what is remembered.
	keepVain = 10000
)

// shortcuts remembers which probes from the host are in vain. Any goroutine may use it.
type shortcuts struct {
	mu   sync.Mutex
	vain map[health.ID]vain
}

// vain counts, for one run of an instance.
type vain struct {
	run   time.Time
	times int
}

// open tells whether a shortcut is worth trying.
func (s *shortcuts) open(i health.Instance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vain[i.ID]

	return v.times < shortcutTries || !v.run.Equal(i.Started)
}

// ended takes in whether a shortcut failed where the command passed. One that agreed is forgotten.
func (s *shortcuts) ended(i health.Instance, differed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vain[i.ID]
	switch {
	case !differed:
		delete(s.vain, i.ID)
	case len(s.vain) >= keepVain:
		clear(s.vain) // most of them are long gone
	case v.run.Equal(i.Started):
		s.vain[i.ID] = vain{v.run, v.times + 1}
	default:
		s.vain[i.ID] = vain{i.Started, 1}
	}
}
