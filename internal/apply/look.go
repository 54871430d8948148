package apply

import (
	"context"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// observe reads what Incus has of the stack, and notes until when it could not be seen.
func (l *Loop) observe(ctx context.Context) (plan.Observed, error) {
	began := time.Now()
	have, err := l.host.Server.Observe(ctx, l.led.Project.Incus)
	if err != nil || l.unseen || time.Since(began) > lateAnswer {
		l.blind = time.Now()
	}

	if err == nil && l.unseen {
		l.notBefore, l.failures = time.Time{}, 0 // What the outage broke off goes on now.
	}

	l.unseen = err != nil

	return have, err
}

// look only observes; with planned, the view shows what would be done.
func (l *Loop) look(ctx context.Context, found *findings, planned bool) again {
	have, err := l.observe(ctx)
	if err != nil {
		return l.away(err, found)
	}

	l.seen(have)
	l.turn.Observed = have
	l.turn.Plan = plan.Plan{Stack: l.stack}
	if planned {
		l.turn.Plan = l.diff(ctx, have)
	}

	return later
}
