package apply

import (
	"context"
	"errors"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// ErrOutOfForce refuses what is only done to a stack whose file is there.
var ErrOutOfForce = errors.New("its file is not there, or was never accepted")

// Adoption is what taking over a project comes to.
type Adoption struct {
	// Marks are the live patches that make the objects ours, Then is what is left to do once they are made.
	Marks, Then plan.Plan
	// Done says that it was done.
	Done bool
}

// Adopt takes over the objects that have the stack's names and no owner. It is done at once when nothing is left to
// do then, else only with yes; with dry it is only said. The error is ErrOutOfForce, or what a step failed with.
func (l *Loop) Adopt(ctx context.Context, networks, yes, dry bool) (Adoption, error) {
	var a Adoption
	err := l.order(ctx, func(ctx context.Context) error {
		if l.src.Stack == "" || l.led.Project == nil {
			l.load(ctx, &findings{now: time.Now()})
		}

		if l.src.Stack == "" || l.led.Project == nil || !l.led.RemovedAt.IsZero() {
			return ErrOutOfForce
		}

		have, err := l.observe(ctx)
		if err != nil {
			return err
		}

		var after plan.Observed
		a.Marks, after = plan.Adopt(*l.led.Project, l.host.Owner, have, networks)
		a.Then = l.foresee(ctx, after)

		if dry || len(a.Marks.Blocked) > 0 || !a.Then.Empty() && !yes {
			return nil
		}

		l.rest(have, a.Marks)
		l.log.InfoContext(ctx, "project is adopted on request", "project", l.led.Project.Incus)
		for _, err := range l.execute(ctx, a.Marks) {
			return err
		}

		a.Done = true
		l.led.Released = false
		clear(l.led.Rollouts) // what restarts for this is no failure of an update's

		return nil
	})

	return a, err
}

// foresee plans for a world that is not there yet, and forgets what that taught.
func (l *Loop) foresee(ctx context.Context, have plan.Observed) plan.Plan {
	led, turn, counted, due, fresh := l.led.Snapshot(), l.turn, l.counted, l.due, l.fresh
	l.fresh = nil // its history is not to tell of what nobody did
	p := l.diff(ctx, have)
	l.led, l.turn, l.counted, l.due, l.fresh = led, turn, counted, due, fresh

	return p
}

// rest notes that what is adopted and does not run was not stopped by us: it stays so.
func (l *Loop) rest(have plan.Observed, marks plan.Plan) {
	for _, s := range marks.Steps {
		if s.On.Kind == plan.KindInstance && have.Instances[s.On.Name].Status == plan.Stopped {
			if l.led.Stops == nil {
				l.led.Stops = map[string]plan.Stop{}
			}

			l.led.Stops[s.On.Name] = plan.Stop{By: "somebody before it was adopted", At: time.Now()}
		}
	}
}
