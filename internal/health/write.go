package health

import (
	"context"
	"errors"
	"time"
)

const (
	// dampFor is the least time between two writes of a verdict that flaps.
	dampFor = time.Second
	// changeFor is how long a stop by the agent is not written: Incus mounts an instance to write its configuration, and
	// one that is being rebuilt meanwhile is left without a root filesystem (seen on 7.0.2).
	changeFor = 5 * time.Second
	// firstRetry and lastRetry bound the time after which a write that failed is tried again.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// writeState is what is written, or has to be, of one instance. Only the newest verdict counts.
type writeState struct {
	wanted *SetStatus
	busy   bool
	after  time.Time // not before
	ended  time.Time // of the last write
	tries  int
}

// want asks for a verdict to be written.
func (w *writeState) want(a SetStatus, now time.Time) {
	w.wanted = &a
	flaps := (a.From == Healthy || a.From == Unhealthy) && (a.Status == Healthy || a.Status == Unhealthy)
	if flaps && !w.ended.IsZero() && w.ended.Add(dampFor).After(now) && w.after.Before(w.ended.Add(dampFor)) {
		w.after = w.ended.Add(dampFor)
	}

	if !flaps && w.tries == 0 {
		w.after = time.Time{}
	}

	if a.Brief {
		w.after = now.Add(changeFor)
	}
}

// writeMore begins the writes that are due.
func (r *Runner) writeMore(now time.Time) {
	r.restartMore(now)
	if len(r.unwritten) == 0 || now.Before(r.writeNext) {
		return
	}

	var next time.Time
	for e := range r.unwritten {
		if r.writes.full() {
			return // the end of a write comes back here
		}

		w := &e.write
		switch {
		case w.busy:
		case now.Before(w.after):
			if next.IsZero() || w.after.Before(next) {
				next = w.after
			}
		default:
			r.write(e)
		}
	}

	r.writeNext = next
}

func (r *Runner) write(e *entry) {
	a := *e.write.wanted
	e.write.wanted, e.write.busy = nil, true
	delete(r.unwritten, e)
	r.writes.busy++
	r.spawn(func(ctx context.Context) func(time.Time) {
		err := r.opt.Hands.Write(ctx, e.id, string(a.Status), mustJSON(a.Detail))
		return func(now time.Time) { r.written(e, a, err, now) }
	})
}

func (r *Runner) written(e *entry, a SetStatus, err error, now time.Time) {
	r.writes.busy--
	r.writeNext = time.Time{}
	w := &e.write
	w.busy, w.ended = false, now
	if r.entries[e.id] != e {
		return
	}

	switch {
	case err == nil:
		w.tries = 0
		if e.m == nil && e.why == "" && w.wanted == nil {
			delete(r.entries, e.id)
			return
		}
	case errors.Is(err, ErrGone):
		w.wanted = nil
		r.look(e)
	default:
		if w.tries == 0 && !errors.Is(err, ErrAway) {
			r.log.Warn("a verdict could not be written; it is tried again", "project", e.id.Project, "instance", e.id.Name, "err", err)
		}

		w.after = now.Add(min(firstRetry<<min(w.tries, 10), lastRetry))
		w.tries++
		if w.wanted == nil {
			w.wanted = &a
		}
	}

	if w.wanted != nil {
		r.unwritten[e] = true
	}
}

// rewrite repeats a verdict that the instance does not show, as of one that was made anew.
func (r *Runner) rewrite(e *entry, inst Instance, read, now time.Time) {
	w := &e.write
	status := e.m.status
	if status == "" || inst.Config[KeyStatus] == string(status) || w.busy || w.wanted != nil || read.Before(w.ended) {
		return
	}

	w.want(SetStatus{Status: status, From: Unknown, Detail: e.m.detail()}, now)
	r.unwritten[e] = true
	r.writeNext = time.Time{}
}
