package apply

import (
	"context"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// removal keeps a removed stack running for its grace, then stops it, then, much later, clears it away.
func (l *Loop) removal(ctx context.Context, now time.Time, found *findings) again {
	if l.led.Project == nil {
		l.forget()
		return later
	}

	l.turn.State = Removed
	if now.Before(l.led.RemovedAt.Add(l.grace())) {
		found.keep(l.condition)
		return waiting
	}

	have, err := l.host.Server.Observe(ctx, l.led.Project.Incus)
	if err != nil {
		return l.away(err, found)
	}

	l.seen(have)
	l.turn.Observed = have
	p := plan.Park(l.stack, l.host.Owner, have)
	expired := !now.Before(l.led.RemovedAt.Add(Keep))
	if expired {
		p = plan.Clear(l.stack, l.host.Owner, have)
	}

	l.turn.Plan = p
	if !p.Empty() {
		l.publish()
		failed := l.execute(ctx, p)
		if len(failed) > 0 {
			return l.stuck(ctx, p, failed, found)
		}
	}

	l.turn.State = Parked
	l.turn.Plan = plan.Plan{Stack: l.stack}
	if l.host.Ports != nil {
		l.host.Ports(ctx, l.stack, nil, nil) // what is stopped publishes nothing
	}

	if expired {
		l.forget()
		return later
	}

	return waiting
}

// removalDue is when the removal's next phase begins.
func (l *Loop) removalDue() time.Time {
	if l.turn.State == Parked {
		return l.led.RemovedAt.Add(Keep)
	}

	return l.led.RemovedAt.Add(l.grace())
}

func (l *Loop) releaseSubnets(networks []plan.Network) {
	for _, n := range networks {
		if n.External {
			continue
		}

		err := l.host.Subnets.Release(n.Incus)
		if err != nil {
			l.log.Error("release subnet", "network", n.Incus, "err", err)
		}
	}
}

// forget ends the stack's life in the ledger.
func (l *Loop) forget() {
	if l.led.Project != nil {
		l.releaseSubnets(l.led.Project.Networks)
	}

	l.host.book.release(l.stack)
	err := l.host.Ledger.Forget(l.stack)
	if err != nil {
		l.log.Error("forget stack", "err", err)
	}

	l.led = plan.Ledger{Stack: l.stack}
	l.turn.State = Parked
	l.turn.Project = nil
}
