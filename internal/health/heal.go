package health

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// defaultGrace is what a program has between the stop signal and its end when nothing says otherwise.
	defaultGrace = 10 * time.Second
	// keyGrace is where its instance says otherwise, in seconds.
	keyGrace = "boot.host_shutdown_timeout"

	// The budget of restarts for the whole host: so many at once, then so many a second; fewer on a host
	// that is starved.
	budgetBurst   = 20
	budgetRefill  = 5.0
	budgetStarved = 1.0
	// stillStarting is how long after the last start that was not ours Incus may still be starting what ran.
	stillStarting = 30 * time.Second
	// A storm is when so large a part of all checks, and no less than that many, turned unhealthy within a
	// minute: then it is hardly the fault of each.
	stormPart   = 0.2
	stormLeast  = 5
	stormWindow = time.Minute
)

// guard keeps a host in trouble from being restarted to death. Only the Runner's loop uses it.
type guard struct {
	tokens float64
	filled time.Time
	falls  map[ID]time.Time // when each last turned unhealthy, in the last stormWindow
	paused bool
}

// status takes in a verdict.
func (g *guard) status(id ID, a SetStatus, now time.Time) {
	if a.Status != Unhealthy {
		return
	}

	if g.falls == nil {
		g.falls = map[ID]time.Time{}
	}

	g.falls[id] = now
}

// storm tells whether too much of checks turned unhealthy lately.
func (g *guard) storm(checks int, now time.Time) bool {
	maps.DeleteFunc(g.falls, func(_ ID, at time.Time) bool { return now.Sub(at) > stormWindow })

	return len(g.falls) >= stormLeast && float64(len(g.falls)) > stormPart*float64(checks)
}

// take takes one restart out of the budget.
func (g *guard) take(starved bool, now time.Time) bool {
	if g.filled.IsZero() {
		g.tokens, g.filled = budgetBurst, now
	}

	refill := budgetRefill
	if starved {
		refill = budgetStarved
	}

	g.tokens = min(budgetBurst, g.tokens+refill*now.Sub(g.filled).Seconds())
	g.filled = now
	if g.tokens < 1 {
		return false
	}

	g.tokens--

	return true
}

// waitingRestart is a restart that waits for its turn.
type waitingRestart struct {
	e *entry
	a Restart
}

// beginRestart queues a restart, or holds it back where the host is in no state for it.
func (r *Runner) beginRestart(e *entry, a Restart, now time.Time) {
	if a.Kind == "unhealthy" && r.pause(now) {
		r.step(e, Restarted{Gen: a.Gen, Held: true}, now)
		return
	}

	if a.Patient && now.Sub(r.begun) < stillStarting { // Incus starts what ran, one after the other, and is at it
		r.step(e, Restarted{Gen: a.Gen, Held: true}, now)
		return
	}

	ailing := r.ailing(e)
	if ailing != "" {
		if e.heldFor != ailing {
			r.log.Info("the restart waits for a dependency that is being healed", "project", e.id.Project, "instance", e.id.Name, "dependency", ailing)
		}

		e.heldFor = ailing
		r.step(e, Restarted{Gen: a.Gen, Held: true}, now)

		return
	}

	e.heldFor = ""
	r.held = append(r.held, waitingRestart{e, a})
	r.restartMore(now)
}

// ailing is an instance of a service that e waits for to be healthy, and that is on its way to be; empty for none.
func (r *Runner) ailing(e *entry) string {
	needs := strings.Fields(e.inst.Config[plan.KeyNeeds])
	if len(needs) == 0 {
		return ""
	}

	for _, other := range r.entries {
		if other.m != nil && other.id.Project == e.id.Project && slices.Contains(needs, other.inst.Config[plan.KeyService]) && other.m.healsNow() {
			return other.id.Name
		}
	}

	return ""
}

// pause tells whether restarts of unhealthy instances are held back, and says so when that changes.
func (r *Runner) pause(now time.Time) bool {
	starved := r.opt.Starved != nil && r.opt.Starved()
	storm := r.guard.storm(r.checks(), now)
	paused := starved || storm
	switch {
	case paused && !r.guard.paused:
		reason := "many checks fail at once"
		if starved {
			reason = "the host is starved"
		}

		r.log.Error("restarts of unhealthy instances are paused", "reason", reason)
	case !paused && r.guard.paused:
		r.log.Info("restarts of unhealthy instances go on")
	}

	if paused != r.guard.paused {
		r.guard.paused = paused
		r.changed()
	}

	return paused
}

// checks is the number of instances with a check.
func (r *Runner) checks() int {
	n := 0
	for _, e := range r.entries {
		if e.m != nil && e.m.spec.Checked() {
			n++
		}
	}

	return n
}

// restartMore begins the restarts for which there is room.
func (r *Runner) restartMore(now time.Time) {
	for len(r.held) > 0 && !r.restarts.full() {
		w := r.held[0]
		if r.entries[w.e.id] != w.e || w.e.m == nil {
			r.held = r.held[1:]
			continue
		}

		if !r.guard.take(r.opt.Starved != nil && r.opt.Starved(), now) {
			return
		}

		r.held = r.held[1:]
		r.restart(w.e, w.a)
	}
}

func (r *Runner) restart(e *entry, a Restart) {
	r.restarts.busy++
	r.count.restart(a.Kind)
	r.log.Info("restarting", "project", e.id.Project, "instance", e.id.Name, "reason", a.Reason, "restarts", e.m.count)
	grace := graceOf(e.inst.Config)
	e.restart = r.spawn(func(ctx context.Context) func(time.Time) {
		result := r.carryOut(ctx, e.id, a, grace)
		return func(now time.Time) {
			r.restarts.busy--
			if r.entries[e.id] == e && e.m != nil {
				r.step(e, result, now)
				r.look(e)
			}
		}
	})
}

// carryOut looks again, and restarts what still is as it was.
func (r *Runner) carryOut(ctx context.Context, id ID, a Restart, grace time.Duration) Restarted {
	moot := Restarted{Gen: a.Gen, Moot: true}
	inst, err := r.opt.Instances.Look(ctx, id)
	switch {
	case err != nil:
		return r.failed(ctx, a, err)
	case a.Stop && (inst.State != StateRunning || !inst.Started.Equal(a.Run)), !a.Stop && (inst.State != StateStopped || marked(inst)):
		return moot
	case marked(inst):
		return Restarted{Gen: a.Gen, Held: true} // it is about to be stopped
	case !a.Stop && !a.Patient && powered(inst):
		return Restarted{Gen: a.Gen, Powered: true}
	}

	if a.Stop {
		err = r.opt.Hands.Stop(ctx, id, grace)
		if err == nil {
			inst, err = r.opt.Instances.Look(ctx, id) // in the time of its end somebody may have said that it shall not start
		}

		if err != nil {
			return r.failed(ctx, a, err)
		}
	}

	if ctx.Err() != nil || marked(inst) {
		return moot
	}

	err = r.opt.Hands.Start(ctx, id)
	if err != nil {
		return r.failed(ctx, a, err)
	}

	return Restarted{Gen: a.Gen}
}

// marked tells of an instance that somebody stopped on purpose, or is about to.
func marked(i Instance) bool { return i.Config[KeyStopped] == "true" }

// powered tells of a stopped instance that Incus means to start: it notes what ran when it goes down, just after
// the instance has ended.
func powered(i Instance) bool {
	return i.State == StateStopped && i.Config["volatile.last_state.power"] == "RUNNING"
}

func (r *Runner) failed(ctx context.Context, a Restart, err error) Restarted {
	if ctx.Err() != nil || errors.Is(err, ErrGone) {
		return Restarted{Gen: a.Gen, Moot: true}
	}

	return Restarted{Gen: a.Gen, Err: err.Error(), Infra: errors.Is(err, ErrAway)}
}

func graceOf(config map[string]string) time.Duration {
	secs, err := strconv.Atoi(config[keyGrace])
	if err != nil || secs < 0 {
		return defaultGrace
	}

	return time.Duration(secs) * time.Second
}

func (r *Runner) stopIt(e *entry, a StopIt) {
	r.log.Warn("stopping", "project", e.id.Project, "instance", e.id.Name, "reason", a.Reason)
	grace := graceOf(e.inst.Config)
	r.spawn(func(ctx context.Context) func(time.Time) {
		err := r.opt.Hands.Stop(ctx, e.id, grace)
		return func(time.Time) {
			if err != nil {
				r.log.ErrorContext(ctx, "an unhealthy instance could not be stopped", "project", e.id.Project, "instance", e.id.Name, "err", err)
			}
		}
	})
}
