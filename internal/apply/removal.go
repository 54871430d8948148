package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// removal keeps a removed stack running for its grace, then parks it, then, much later, clears it away. Its volumes
// stay, and with them what is remembered of it, until it is destroyed.
func (l *Loop) removal(ctx context.Context, now time.Time, found *findings) again {
	if l.led.Project == nil {
		l.forget()
		return later
	}

	if l.turn.State != Parked && l.turn.State != Orphaned {
		l.turn.State = Removed
	}

	if now.Before(l.led.RemovedAt.Add(l.grace())) && !l.led.Orphan {
		found.keep(l.condition)
		return waiting
	}

	have, err := l.observe(ctx)
	if err != nil {
		return l.away(err, found)
	}

	l.seen(have)
	l.count(have, now)
	l.turn.Observed = have
	p := plan.Park(l.stack, l.host.Owner, have, l.led)
	orphan := l.led.Orphan && !l.led.Confirmed[""]
	if orphan {
		// Nobody said that what runs is to stop; what was parked already has been long enough.
		p = p.Without(func(id plan.ID) bool { return id.Kind == plan.KindNetwork || !l.led.Expired[id.Name] })
	}

	l.turn.Plan = p
	if !p.Empty() {
		all := p
		p = l.ready(p)
		if p.Empty() {
			return l.patient(all, found)
		}

		failed := l.execute(ctx, p)
		if len(failed) > 0 {
			return l.stuck(ctx, p, failed, found)
		}

		if p.String() == l.leaving {
			return retry // it was done before, and Incus does not keep it
		}

		l.leaving = p.String()
		l.post(func(m *mail) { m.dirty = true }) // what is left is seen by the next pass
	}

	l.turn.Plan = plan.Plan{Stack: l.stack}
	if orphan {
		l.turn.State = Orphaned
		found.add("Orphaned", plan.ID{}, orphanText(l.stack, l.host.Owner, have))

		return later
	}

	return l.parked(ctx, p, have, found)
}

// parked ends a pass over a stack whose file is gone and whose grace is over.
func (l *Loop) parked(ctx context.Context, p plan.Plan, have plan.Observed, found *findings) again {
	l.turn.State = Parked
	for _, b := range p.Blocked {
		l.turn.State = Removed
		found.blocked(b)
	}

	if l.turn.State == Parked && l.host.Ports != nil {
		l.host.Ports(ctx, l.stack, nil, nil) // what is stopped publishes nothing
	}

	gone := have.Project == nil || have.Project.Config[plan.KeyOwner] != l.host.Owner || have.Project.Config[plan.KeyStack] != l.stack
	if gone && p.Empty() {
		l.forget()
	}

	return later
}

// orphanText says what an orphan is and what to do about it.
func orphanText(stack, owner string, have plan.Observed) string {
	running, stopped := 0, 0
	for _, i := range have.Instances {
		switch {
		case i.Config[plan.KeyOwner] != owner:
		case i.Status == plan.Running:
			running++
		default:
			stopped++
		}
	}

	return fmt.Sprintf("found in Incus, with neither a file nor a memory of it: %s, %d of which run, and %s. "+
		"Put its file back, stop it with \"ic-agent confirm-removal %s\", or delete it with \"ic-agent destroy %s\"",
		plan.Count(running+stopped, "instance"), running, plan.Count(len(have.Volumes), "volume"), stack, stack)
}

// unwatched is the most that a time without the agent counts of what is kept: a clock that was set while nobody
// looked ends nothing early.
const unwatched = 24 * time.Hour

// count adds the time since the last look to what is parked, by the clock that is never set, and notes what has been
// parked for as long as it is kept.
func (l *Loop) count(have plan.Observed, now time.Time) {
	passed := now.Sub(l.counted)
	if l.counted.IsZero() {
		passed = 0
		if !l.led.CountedAt.IsZero() {
			passed = min(max(now.Sub(l.led.CountedAt), 0), unwatched)
		}
	}

	l.counted = now
	kept := map[string]plan.Kept{}
	l.led.Expired = map[string]bool{}
	for name, inst := range have.Instances {
		if inst.Config[plan.KeyOwner] != l.host.Owner || inst.Config[plan.KeyParked] == "" {
			continue
		}

		k, known := l.led.Parked[name]
		if known {
			k.For += passed
		} else {
			k.Since = now.Round(0)
		}

		kept[name] = k
		left := l.keep() - k.For
		l.led.Expired[name] = left <= 0
		if left > 0 {
			l.lookAt(now.Add(left))
		}
	}

	l.led.Parked, l.led.CountedAt = kept, time.Time{}
	if len(kept) > 0 {
		l.led.CountedAt = now.Round(0)
	}
}

// lookAt has the loop look again at a time, or before.
func (l *Loop) lookAt(t time.Time) {
	if l.due.IsZero() || t.Before(l.due) {
		l.due = t
	}
}

// keep is for how long what is parked is kept.
func (l *Loop) keep() time.Duration {
	if l.led.Project != nil && l.led.Project.Keep > 0 {
		return l.led.Project.Keep
	}

	return Keep
}

func (l *Loop) releaseSubnets(networks []plan.Network) {
	for _, n := range networks {
		if n.External {
			continue
		}

		for _, key := range []string{n.Incus, plan.V6(n.Incus)} {
			err := l.host.Subnets.Release(key)
			if err != nil {
				l.log.Error("release subnet", "network", n.Incus, "err", err)
			}
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

	l.led, l.saved = plan.Ledger{Stack: l.stack}, plan.Ledger{}
	l.turn.State = Parked
	l.turn.Project = nil
}
