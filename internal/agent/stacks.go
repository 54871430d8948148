package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// stacks is the set of loops. Run's goroutine adds and ends them; the maps are guarded because loops claim
// project names, and the API looks.
type stacks struct {
	host *apply.Host
	log  *slog.Logger
	// inherit is told of a stack whose loop was replaced, and of the one that goes on with its project.
	inherit func(stack, heir string)

	synced map[string]bool // the stacks in sync when last looked; only wake's caller touches it

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // the loops' common life, set once by run
	loops   map[string]*running
	claims  map[string]string // Incus project → stack
	skipped map[string]bool
	wg      sync.WaitGroup
}

type running struct {
	loop *apply.Loop
	end  context.CancelFunc
	done chan struct{}
}

func newStacks(host *apply.Host, log *slog.Logger, inherit func(stack, heir string)) *stacks {
	return &stacks{
		host: host, log: log, inherit: inherit, loops: map[string]*running{}, claims: map[string]string{}, skipped: map[string]bool{},
	}
}

// take carries a snapshot of the directories into the loops. known are stacks of the ledger, which get a loop
// even when nothing is seen of their files.
func (s *stacks) take(snap watch.Snapshot, known []string) {
	for _, name := range known {
		st, seen := snap.Stacks[name]
		if !seen || !st.Skip {
			s.loop(name)
		}
	}

	for _, name := range snap.Changed {
		s.change(snap.Stacks[name], nil)
	}

	for _, name := range snap.Removed {
		s.gone(name)
	}
}

// gone tells a stack's loop that its file is gone, and then the others: its project's name may be what one of them
// waits for.
func (s *stacks) gone(name string) {
	done := make(chan struct{})
	s.loop(name).Gone(done)
	s.wg.Go(func() {
		select {
		case <-s.ctx.Done():
			return
		case <-done:
		}

		for _, l := range s.all() {
			l.Dirty()
		}
	})
}

// change tells a stack's loop its files; done is closed when the loop has acted on them.
func (s *stacks) change(st watch.Stack, done chan<- struct{}) {
	if st.Skip {
		s.skip(st.Name)
		if done != nil {
			close(done)
		}

		return
	}

	s.mu.Lock()
	delete(s.skipped, st.Name)
	s.mu.Unlock()

	l := s.loop(st.Name)
	if len(st.Files) == 0 && st.Err == nil {
		if done != nil {
			close(done)
		}

		return // Known from the ledger alone: its last good project goes on.
	}

	src := apply.Source{Stack: st.Name, Dir: st.Dir, Files: st.Files, Env: st.Env, Hash: st.Hash, Hold: st.Hold}
	if st.Err != nil {
		src.Problem = st.Err.String()
	}

	l.Changed(src, done)
}

// loop returns a stack's loop, starting it when there is none.
func (s *stacks) loop(name string) *apply.Loop {
	s.mu.Lock()
	defer s.mu.Unlock()

	r, ok := s.loops[name]
	if ok {
		return r.loop
	}

	ctx, end := context.WithCancel(s.ctx)
	r = &running{loop: apply.New(s.host, name), end: end, done: make(chan struct{})}
	s.loops[name] = r
	s.wg.Go(func() {
		defer close(r.done)
		err := r.loop.Run(ctx)
		if ctx.Err() == nil {
			s.log.Error("stack's loop ended", "stack", name, "err", err)
		}
	})

	return r.loop
}

// has reports whether a stack has a loop or is skipped.
func (s *stacks) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	_, ok := s.loops[name]

	return ok || s.skipped[name]
}

// skip ends a stack's loop; what runs keeps running.
func (s *stacks) skip(name string) {
	s.mu.Lock()
	r := s.loops[name]
	delete(s.loops, name)
	s.skipped[name] = true
	s.mu.Unlock()
	if r != nil {
		r.end()
		<-r.done
		s.log.Info("stack skipped: what runs of it keeps running", "stack", name)
	}
}

// claim gives an Incus project to the first stack that asks; one whose file is gone gives it up.
func (s *stacks) claim(stack, project string) (string, bool) {
	s.mu.Lock()
	holder := s.claims[project]
	r := s.loops[holder]
	free := holder == "" || holder == stack || r == nil && !s.skipped[holder]
	if !free && r != nil {
		v := r.loop.View()
		free = onItsWayOut(r) || v.Project == nil || v.Project.Incus != project
	}

	if free {
		s.claims[project] = stack
	}

	takeover := free && holder != "" && holder != stack && r != nil && onItsWayOut(r)
	if takeover {
		delete(s.loops, holder)
	}
	s.mu.Unlock()
	if takeover {
		r.end()
		<-r.done
		s.inherit(holder, stack)
		s.log.Info("stack goes on under another file", "was", holder, "stack", stack)
	}

	return holder, free
}

func onItsWayOut(r *running) bool {
	return onTheWayOut(r.loop.View().State)
}

func onTheWayOut(s apply.State) bool {
	return s == apply.Removed || s == apply.Parked || s == apply.Orphaned
}

// seed notes which stack had which project when the agent last ran.
func (s *stacks) seed(stack, project string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.claims[project] = stack
}

// claimed tells whether an Incus project is a stack's.
func (s *stacks) claimed(project string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.claims[project] != ""
}

// hint carries an event of Incus to the loops it may concern.
func (s *stacks) hint(h incus.Hint, self string) {
	started := h.Action == "instance-started" || h.Action == "instance-restarted"
	for _, l := range s.all() {
		v := l.View()
		mine := v.Project != nil && v.Project.Incus == h.Project
		switch {
		case h.Resync, mine && h.Kind != "network" && relevant(h):
			switch {
			case mine && stoppedByHand(v, h, self):
				l.StoppedBy(h.Name, h.User, time.Now())
				continue
			case mine && started && byHand(h, self):
				l.Touched(h.Name)
				continue
			}

			l.Dirty()
		case h.Kind == "network" && concerns(v, h.Name):
			l.Dirty()
		}
	}
}

// byHand reports whether somebody did this to an instance, and none of the daemons.
func byHand(h incus.Hint, self string) bool {
	return h.Kind == "instance" && h.User != "" && h.User != self && h.User != "ic-healthd"
}

// stoppedByHand reports whether somebody stopped an instance that is not being stopped by the loop itself. What a plan
// was to stop, and could not, was stopped by a user all the same.
func stoppedByHand(v *apply.View, h incus.Hint, self string) bool {
	stopped := h.Action == "instance-shutdown" || h.Action == "instance-stopped"

	return stopped && byHand(h, self) && !v.Stops[h.Name]
}

// concerns reports whether a change of a network may matter to a stack: it is on it, or something keeps it from being
// what its file says. Whoever starts twenty stacks would otherwise have each of them look twenty times.
func concerns(v *apply.View, network string) bool {
	return v.Project == nil || v.State == apply.Blocked ||
		slices.ContainsFunc(v.Project.Networks, func(n plan.Network) bool { return n.Incus == network })
}

// relevant leaves out what changes nothing a plan looks at, such as every exec.
func relevant(h incus.Hint) bool {
	switch h.Action {
	case "instance-exec", "instance-log-retrieved", "instance-console", "instance-console-retrieved", "instance-file-pushed",
		"instance-file-retrieved", "instance-file-deleted", "instance-metadata-retrieved", "storage-volume-file-pushed":
		return false
	}

	return true
}

// dirty has a stack look again.
func (s *stacks) dirty(name string) {
	s.mu.Lock()
	r := s.loops[name]
	s.mu.Unlock()
	if r != nil {
		r.loop.Dirty()
	}
}

// all returns the loops, by name.
func (s *stacks) all() []*apply.Loop {
	s.mu.Lock()
	defer s.mu.Unlock()

	var out []*apply.Loop
	for _, name := range slices.Sorted(maps.Keys(s.loops)) {
		out = append(out, s.loops[name].loop)
	}

	return out
}

// views returns what the loops see, by name, and the names of the skipped stacks.
func (s *stacks) views() (views []*apply.View, skipped []string) {
	for _, l := range s.all() {
		views = append(views, l.View())
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	return views, slices.Sorted(maps.Keys(s.skipped))
}
