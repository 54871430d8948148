package health

import "time"

// turn does all that is due and returns how long until the next.
func (r *Runner) turn(now time.Time) time.Duration {
	r.beat.Store(int64(now.Sub(r.start)))
	r.next.Store(int64(now.Sub(r.start)))
	for {
		e := r.times.due(now)
		if e == nil {
			break
		}

		r.wake(e, now)
	}

	r.probeMore()
	r.readMore(now)
	r.writeMore(now)
	r.save(now)

	wait := max(r.due(now).Sub(now), 0)
	r.next.Store(int64(now.Add(wait).Sub(r.start)))

	return wait
}

// due is when the loop has to turn again, whatever else happens: what wakes it by itself is not waited for here.
func (r *Runner) due(now time.Time) time.Time {
	next := now.Add(beatEvery)
	sooner := func(on bool, at time.Time) {
		if on && at.Before(next) {
			next = at
		}
	}
	sooner(!r.times.next().IsZero(), r.times.next())
	sooner(r.opt.Save != nil && !r.saving && !r.saveDue.IsZero() && !r.listed.IsZero(), r.saveDue)
	sooner(r.relist && !r.listing, r.relistAt)
	sooner(!r.listing && !r.relist && !r.listed.IsZero(), r.listed.Add(resyncEvery))
	sooner(len(r.unwritten) > 0 && !r.writeNext.IsZero(), r.writeNext)
	sooner(len(r.held) > 0 && !r.restarts.full(), now.Add(budgetEvery))

	return next
}

// Idle is how long ago the loop last turned.
func (r *Runner) Idle(now time.Time) time.Duration {
	return now.Sub(r.start) - time.Duration(r.beat.Load())
}

// Late is for how long the loop has been at one thing, or should have turned already; 0 or less while it rests.
func (r *Runner) Late(now time.Time) time.Duration {
	return now.Sub(r.start) - time.Duration(r.next.Load())
}
