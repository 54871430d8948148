package conformance

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// listener collects hints.
type listener struct {
	mu   sync.Mutex
	list []incus.Hint
}

func (l *listener) has(h incus.Hint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.list, h)
}

// listen collects hints until the end of the test, from after the first Resync.
func (s *suite) listen() *listener {
	l := &listener{}
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error)
	go func() {
		done <- s.c.Hints(ctx, func(h incus.Hint) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.list = append(l.list, h)
		})
	}()
	s.Cleanup(func() {
		cancel()
		err := <-done
		if !errors.Is(err, context.Canceled) {
			s.Errorf("Hints ended with %v", err)
		}
	})
	s.eventually("everything has to be read again", func() bool { return l.has(incus.Hint{Resync: true}) })
	return l
}

func instanceHint(action, user string) incus.Hint {
	return incus.Hint{Project: project, Kind: "instance", Name: "web", Action: action, User: user}
}

func hints(s *suite) {
	l := s.listen()
	hinted := func(h incus.Hint) {
		s.Helper()
		s.eventually(h.Action+" is hinted", func() bool { return l.has(h) })
	}
	s.running(obedient)
	hinted(incus.Hint{Project: project, Kind: "project", Name: project, Action: "project-created", User: "root"})
	hinted(incus.Hint{Project: "default", Kind: "network", Name: network, Action: "network-created", User: "root"})
	hinted(instanceHint("instance-created", "root"))
	hinted(instanceHint("instance-started", "root"))
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "1"}})
	hinted(instanceHint("instance-updated", "")) // ours come by PATCH
	s.must(put(s.raw().UseProject(project), "web", "user.c", "1"))
	hinted(instanceHint("instance-updated", "root"))
	s.do(plan.StopInstance{Name: "web", Grace: 30e9})
	hinted(instanceHint("instance-shutdown", "root"))
	s.do(plan.DeleteInstance{Name: "web"})
	hinted(instanceHint("instance-deleted", "root"))
}

func hintOfExit(s *suite) {
	l := s.listen()
	s.running(brief)
	if s.host.Exit != nil {
		s.host.Exit(project, "web")
	}
	s.eventually("its end is hinted", func() bool { return l.has(instanceHint("instance-shutdown", "")) })
	if st := s.instance("web").Status; st != plan.Stopped {
		s.Errorf("status %s", st)
	}
}
