package apply

import (
	"context"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Parting is what giving a stack out of our hands comes to.
type Parting struct {
	// Marks are the live patches that take our mark off.
	Marks plan.Plan
	// Notes say what ends with it.
	Notes []string
}

// Release gives the stack out of our hands: nothing of it stops, and its file is left alone until Adopt. With dry it is
// only said what that comes to.
func (l *Loop) Release(ctx context.Context, dry bool) (Parting, error) {
	var r Parting
	err := l.order(ctx, func(ctx context.Context) error {
		if l.led.Project == nil {
			return ErrOutOfForce
		}

		have, err := l.observe(ctx)
		if err != nil {
			return err
		}

		r.Marks = plan.Release(l.stack, l.host.Owner, have)
		var forwards []plan.Forward
		for _, w := range l.turn.Desired.Instances {
			forwards = append(forwards, w.Forwards...)
		}

		r.Notes = plan.Farewell(l.stack, l.host.Owner, have, forwards)
		if dry || r.Marks.Empty() {
			return nil
		}

		l.log.WarnContext(ctx, "stack is released on request", "project", l.led.Project.Incus)
		l.led.Released = true // Before the first mark goes: what is half released is nobody's to mend.
		l.save()
		for _, err := range l.execute(ctx, r.Marks) {
			l.led.Released = false
			return err
		}

		return nil
	})

	return r, err
}

// released ends a pass over a stack that was given out of our hands.
func (l *Loop) released(ctx context.Context, found *findings) again {
	found.add("Released", plan.ID{}, "it was given out of ic-agent's hands: nothing of it is looked after. Remove its file, or take it back with \"ic-agent adopt "+l.stack+"\"")
	l.turn.State = Released
	l.turn.Plan = plan.Plan{Stack: l.stack}
	l.turn.Desired, l.turn.Observed, l.turn.Segments, l.turn.Notes = plan.Desired{}, plan.Observed{}, nil, nil
	if l.host.Ports != nil {
		l.host.Ports(ctx, l.stack, nil, nil)
	}

	return later
}
