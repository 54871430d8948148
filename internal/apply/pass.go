package apply

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// pass looks at both sides once and does what is missing.
func (l *Loop) pass(ctx context.Context, now time.Time) again {
	found := &findings{now: now}
	defer func() {
		if ctx.Err() != nil {
			found.list = nil // Broken off: nothing was learned.
			found.keep(l.condition)
		}

		l.conclude(found)
	}()

	if !l.led.RemovedAt.IsZero() {
		return l.removal(ctx, now, found)
	}

	if l.led.Released {
		return l.released(ctx, found)
	}

	l.load(ctx, found)
	l.pinned(found)
	l.turn.Plan.Stack = l.stack
	if l.led.Project == nil {
		l.turn.State = Invalid
		return retry // What it refers to may appear without the files changing.
	}

	if l.src.Hold {
		l.turn.State = Held
		return l.look(ctx, found, true)
	}

	if l.src.Stack == "" {
		// Nothing is made from memory: until the files are seen, or are certainly gone, what runs runs on.
		l.turn.State = Waiting
		return l.look(ctx, found, false)
	}

	if !l.claim(found) {
		l.turn.State = Blocked
		return retry // The other's file may be on its way out: this one's may be its new name.
	}

	if l.led.Project.PlanOnly {
		l.turn.State = Held
		found.add("PlanOnly", plan.ID{}, "x-ic-agent says mode: plan-only: \"ic-agent plan "+l.stack+"\" shows what would be done, and nothing is done")
		return l.look(ctx, found, true)
	}

	wait, comes := l.before(ctx)
	if wait != "" {
		l.turn.State = Blocked
		kind := "Blocked"
		if comes {
			l.turn.State, kind = Applying, "Waiting"
		}

		found.add(kind, plan.ID{}, wait)

		return later // the other's change wakes this one
	}

	return l.converge(ctx, found)
}

// claim reports whether the stack has its Incus project for itself. It goes on with what one that has just gone left.
func (l *Loop) claim(found *findings) bool {
	if l.host.Claim == nil {
		return true
	}

	holder, ok := l.host.Claim(l.stack, l.led.Project.Incus)
	switch {
	case !ok:
		found.add("Conflict", plan.ID{}, "the project name "+l.led.Project.Name+" is used by the stack "+holder+
			" already: give one of them another top-level \"name:\"")
	case holder != "" && holder != l.stack:
		l.inherit(holder)
	}

	return ok
}

// before says which stack the first work of this one has to wait for, "" when for none; comes says that nothing is
// wrong with it. What is made already is never kept waiting.
func (l *Loop) before(ctx context.Context) (wait string, comes bool) {
	if len(l.led.Project.After) == 0 || l.host.After == nil || !l.led.AppliedAt.IsZero() {
		return "", false
	}

	wait, comes = l.host.After(l.stack, l.led.Project.After)
	if wait == "" {
		return "", false
	}

	have, err := l.observe(ctx)
	if err != nil || have.Project != nil {
		return "", false
	}

	return wait, comes
}

// converge plans and executes until nothing is left, or nothing more can be done now.
func (l *Loop) converge(ctx context.Context, found *findings) again {
	written := map[string]map[string]string{}
	before := ""
	for range rounds {
		have, err := l.observe(ctx)
		if err != nil {
			return l.away(err, found)
		}

		p := l.diff(ctx, have)
		if p.Empty() {
			return l.settled(p, found)
		}

		all := p
		p = l.ready(p)
		if p.Empty() || l.early() && p.String() == before {
			return l.patient(all, found) // What is done again and again is only the beginning of what has to wait.
		}

		before = p.String()

		if l.unsettled(p, written) {
			continue
		}

		l.turn.State = Applying
		l.turn.Plan = p

		failed := l.execute(ctx, p)
		if ctx.Err() != nil {
			return later
		}

		if len(failed) > 0 {
			return l.stuck(ctx, p, failed, found)
		}

		l.led.AppliedAt = time.Now()
	}

	found.add("Unsettled", plan.ID{}, "Incus keeps changing what is written; see the plan")
	l.turn.State = Blocked

	return retry
}

// diff prepares what the plan needs and makes it.
func (l *Loop) diff(ctx context.Context, have plan.Observed) plan.Plan {
	if l.lost {
		l.recover(have)
	}

	l.seen(have)
	l.ended(ctx, have)
	l.count(have, time.Now())
	wide, in := l.widen(ctx, have)
	want := l.roll(ctx, wide, in, have)
	l.ports(ctx, &want, have)
	l.turn.Desired, l.turn.Observed, l.turn.Segments = want, have, in.Segments

	p := plan.Diff(want, have, l.led)
	l.chronicle(ctx, in.Images, p)

	return p
}

// recover takes over what the objects themselves tell, after the ledger was lost.
func (l *Loop) recover(have plan.Observed) {
	l.lost = false
	r := plan.Recover(l.stack, l.host.Owner, have)
	l.led.Started, l.led.Rollouts = r.Started, r.Rollouts
	for network, addrs := range r.Addresses {
		for instance, a := range addrs {
			if !l.led.Addresses[network][instance].IsValid() {
				l.led.SetAddress(network, instance, a)
			}
		}
	}

	l.host.book.seed(l.led)
}

// seen notes what runs: it has been started with the spec it carries, whoever started it.
func (l *Loop) seen(have plan.Observed) {
	if l.led.Started == nil {
		l.led.Started = map[string]string{}
	}

	for name, inst := range have.Instances {
		if inst.LastUsed.After(l.failed[name]) {
			delete(l.failed, name) // Somebody else started it since.
		}

		if time.Since(l.failed[name]) < doubt {
			continue
		}

		if inst.Status == plan.Running && inst.Config[plan.KeyOwner] == l.host.Owner {
			l.led.Started[name] = inst.Config[plan.KeyBoot]
			delete(l.led.Stops, name)
			delete(l.led.Rootless, name)
		}
	}

	maps.DeleteFunc(l.led.Started, func(name, _ string) bool {
		_, there := have.Instances[name]
		return !there
	})
	maps.DeleteFunc(l.led.Rootless, func(name string, _ plan.Root) bool {
		_, there := have.Instances[name]
		return !there
	})
	maps.DeleteFunc(l.led.Last, func(name string, _ plan.Intent) bool {
		_, there := have.Instances[name]
		return !there
	})
	maps.DeleteFunc(l.led.Stops, func(name string, _ plan.Stop) bool {
		_, there := have.Instances[name]
		return !there // Deleting it was another word than stopping it.
	})
	l.led.Snapshots = slices.DeleteFunc(l.led.Snapshots, func(s plan.Snapshot) bool {
		_, there := have.Volumes[s.Pool+"/"+s.Volume]
		return !there
	})
	maps.DeleteFunc(l.led.Exits, func(name string, e plan.Exit) bool { return !have.Instances[name].LastUsed.Equal(e.Run) })
}

// ended reads how those ended that have since the last look. A run's exit is read once: what is asked is a log that
// the next run begins anew.
func (l *Loop) ended(ctx context.Context, have plan.Observed) {
	for name, inst := range have.Instances {
		_, read := l.led.Exits[name]
		ran := inst.LastUsed.After(inst.Created) && l.led.Started[name] != "" && l.led.Started[name] == inst.Config[plan.KeyBoot]
		if read || !ran || inst.Status != plan.Stopped || inst.Config[plan.KeyOwner] != l.host.Owner {
			continue
		}

		exit := plan.Exit{Run: inst.LastUsed}
		if l.host.Exit != nil {
			var err error
			exit.Code, exit.Known, err = l.host.Exit(ctx, l.led.Project.Incus, name)
			if err != nil && l.host.Away != nil && l.host.Away(err) {
				continue // asked again by the next look
			}
		}

		if l.led.Exits == nil {
			l.led.Exits = map[string]plan.Exit{}
		}

		l.led.Exits[name] = exit
		l.tellEnd(ctx, name, exit)
	}
}

// ready is a plan without what failed last and whose time has not come: an event is no reason to try that again, as it
// may be that failure's own.
func (l *Loop) ready(p plan.Plan) plan.Plan {
	if !l.early() {
		return p
	}

	return p.Without(func(id plan.ID) bool { return l.backoff[id] })
}

// early says that the time of what failed last has not come.
func (l *Loop) early() bool { return time.Now().Before(l.notBefore) }

// patient ends a pass in which only what failed before is left to do, and its time has not come.
func (l *Loop) patient(p plan.Plan, found *findings) again {
	l.turn.Plan = p
	l.turn.State = Blocked
	found.keep(l.condition)

	return resume
}

// settled ends a pass that found nothing to do.
func (l *Loop) settled(p plan.Plan, found *findings) again {
	l.turn.Plan = p
	l.turn.State = InSync
	temporary := false
	for _, b := range p.Blocked {
		found.blocked(b)
		temporary = temporary || b.Temporary
		switch {
		case !b.Waits:
			l.turn.State = Blocked
		case l.turn.State == InSync && b.Type == plan.TypeScheduled:
			l.turn.State = Scheduled
		case l.turn.State != Blocked && b.Type != plan.TypeScheduled:
			l.turn.State = Applying
		}
	}

	if found.has("Invalid") {
		l.turn.State = Invalid
		temporary = true
	}

	for name, at := range l.failed {
		if time.Since(at) < doubt {
			found.again(l.condition, plan.ID{Kind: plan.KindInstance, Name: name})
			l.turn.State = Blocked
			temporary = true
		}
	}

	if temporary {
		return retry
	}

	return later
}

// stuck ends a pass in which steps failed: what is left is planned anew with a backoff.
func (l *Loop) stuck(ctx context.Context, p plan.Plan, failed map[plan.ID]error, found *findings) again {
	away := false
	if l.backoff == nil || !time.Now().Before(l.notBefore) {
		l.backoff = map[plan.ID]bool{}
	}

	for id, err := range failed {
		l.backoff[id] = true
		away = away || l.host.Away != nil && l.host.Away(err)
		found.add("Failed", id, err.Error())
	}

	for _, b := range p.Blocked {
		found.blocked(b)
	}

	l.turn.State = Blocked
	if away {
		l.turn.State = Waiting
		return retry
	}

	repair := l.repair
	l.repair = false
	if l.unsaved(p, failed) || l.refused(ctx, failed) || repair {
		l.notBefore, l.failures = time.Time{}, 0
		return soon
	}

	have, err := l.observe(ctx)
	if err == nil {
		l.turn.Observed = have
		l.seen(have)
	}

	return retry
}

// away ends a pass in which Incus could not be asked.
func (l *Loop) away(err error, found *findings) again {
	l.turn.State = Waiting
	found.add("IncusUnavailable", plan.ID{}, err.Error())

	return retry
}
