package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// sureAfter is how long the event of a stop may come after the stop was seen.
	sureAfter = 2 * time.Second
	// betweenLook is how soon an instance on its way from one state to another is looked at again.
	betweenLook = 100 * time.Millisecond
	// retryLook and maxRelist are how long after a failure is read again: one instance, and at most all.
	retryLook = time.Second
	maxRelist = 15 * time.Second
	// keepGone is how many deleted instances are remembered.
	keepGone = 100
)

// hint takes in that something may have changed.
func (r *Runner) hint(h Hint, now time.Time) {
	if h.All {
		r.relist, r.relistAt, r.relistTry = true, now, 0
		return
	}

	e := r.entries[h.ID]
	if e == nil {
		e = &entry{id: h.ID, slot: -1}
		r.entries[h.ID] = e
	}

	if h.Ended {
		e.hint = h
	}

	r.look(e)
}

// look makes an instance be read soon.
func (r *Runner) look(e *entry) {
	switch {
	case e.reading:
		e.again = true
	case !e.pending:
		e.pending = true
		r.dirty = append(r.dirty, e.id)
	}
}

// readMore begins the reading that is due.
func (r *Runner) readMore(now time.Time) {
	if now.Sub(r.listed) >= resyncEvery && !r.listing && !r.relist && !r.listed.IsZero() {
		r.relist, r.relistAt = true, now
	}

	if r.relist && !r.listing && !now.Before(r.relistAt) {
		r.list(now)
	}

	for len(r.dirty) > 0 && !r.reads.full() {
		id := r.dirty[0]
		r.dirty = r.dirty[1:]
		e := r.entries[id]
		if e == nil || !e.pending {
			continue
		}

		e.pending = false
		r.readOne(e, now)
	}
}

func (r *Runner) readOne(e *entry, now time.Time) {
	e.reading, e.again, e.read = true, false, now
	r.reads.busy++
	wantExit := e.hint.Ended || e.m == nil || e.m.state != StateStopped
	r.spawn(func(ctx context.Context) func(time.Time) {
		inst, err := r.opt.Instances.Look(ctx, e.id)
		var exit Exit
		if err == nil && inst.State == StateStopped && wantExit {
			exit = r.exitOf(ctx, e.id)
		}

		return func(now time.Time) {
			r.reads.busy--
			e.reading = false
			r.lookedAt(e, inst, exit, err, now)
		}
	})
}

// exitOf reads how a program ended; what cannot be read is unknown.
func (r *Runner) exitOf(ctx context.Context, id ID) Exit {
	exit, err := r.opt.Instances.Exit(ctx, id)
	if err != nil {
		r.log.DebugContext(ctx, "the exit code cannot be read", "project", id.Project, "instance", id.Name, "err", err)
		return Exit{}
	}

	return exit
}

func (r *Runner) lookedAt(e *entry, inst Instance, exit Exit, err error, now time.Time) {
	if r.entries[e.id] != e {
		return
	}

	switch {
	case e.again:
		r.look(e)
	case errors.Is(err, ErrGone):
		r.remove(e)
	case err != nil:
		e.lookAt = now.Add(retryLook)
		r.rearm(e)
	default:
		r.apply(e, inst, exit, e.read, now)
	}
}

// list reads everything.
func (r *Runner) list(now time.Time) {
	began := now
	r.listing, r.relist = true, false
	r.spawn(func(ctx context.Context) func(time.Time) {
		all, refused, err := r.opt.Instances.List(ctx)
		return func(now time.Time) {
			r.listing = false
			if err != nil {
				r.listFailed(err, now)
				return
			}

			r.listedAll(all, refused, began, now)
		}
	})
}

func (r *Runner) listFailed(err error, now time.Time) {
	if !r.away {
		r.log.Warn("Incus cannot be asked: nothing is judged meanwhile", "err", err)
		r.changed()
	}

	r.away = true
	r.relist = true
	r.relistAt = now.Add(min(500*time.Millisecond<<min(r.relistTry, 10), maxRelist))
	r.relistTry++
}

func (r *Runner) listedAll(all []Instance, refused map[string]string, began, now time.Time) {
	if r.away || r.listed.IsZero() {
		r.log.Info("all instances read", "instances", len(all))
		defer r.changed()
	}

	r.away, r.relistTry, r.listed = false, 0, now
	for project, why := range refused {
		if r.refused[project] != why {
			r.log.Warn("the project is left alone", "project", project, "reason", why)
		}
	}

	r.refused = refused
	found := make(map[ID]bool, len(all))
	for _, inst := range all {
		found[inst.ID] = true
		e := r.entries[inst.ID]
		if e == nil {
			if !concerns(inst.Config) {
				continue
			}

			e = &entry{id: inst.ID, slot: -1}
			r.entries[inst.ID] = e
		}

		switch {
		case e.reading || e.pending || e.read.After(began):
		case inst.State == StateStopped && e.m != nil && e.m.state != StateStopped, inst.State == StateStopped && e.m == nil:
			r.look(e) // its exit code is wanted too
		default:
			e.read = began
			r.apply(e, inst, Exit{}, began, now)
		}
	}

	maps.DeleteFunc(r.opt.Saved, func(id ID, _ Saved) bool { return !found[id] })
	for id, e := range r.entries {
		if !found[id] && !e.reading && !e.pending && !e.read.After(began) {
			r.remove(e)
		}
	}
}

// concerns tells cheaply whether an instance may have anything for us.
func concerns(config map[string]string) bool {
	return config[KeyTest] != "" || config[KeyProbe] != "" || config[KeyRestart] != ""
}

// apply hands an instance, as it was at a time, to its machine.
func (r *Runner) apply(e *entry, inst Instance, exit Exit, read, now time.Time) {
	e.inst = inst
	spec, watched, why, err := ParseSpec(inst.Config)
	refused := r.refused[e.id.Project]
	switch {
	case err != nil:
		watched, why = false, err.Error()
		if e.wrong != why {
			r.log.Warn("the keys of an instance cannot be understood: it is not looked after", "project", e.id.Project, "instance", e.id.Name, "err", err)
		}

		e.wrong = why
	case watched && refused != "":
		watched, why = false, refused
	default:
		e.wrong = ""
	}

	e.why = why
	if !watched {
		r.unwatch(e, now)
		return
	}

	if e.m == nil {
		r.watch(e)
	}

	if inst.State == StateBetween {
		e.lookAt = now.Add(betweenLook)
		r.rearm(e)
		return
	}

	if r.wait(e, inst, now) {
		return
	}

	seen := Seen{
		Spec: spec, State: inst.State, Started: inst.Started, Exit: exit, Marked: marked(inst),
		Autorestart: inst.Config["boot.autorestart"] == "true", Status: Status(inst.Config[KeyStatus]),
		Powered: powered(inst),
	}
	if inst.State == StateStopped && e.hint.Ended {
		seen.Told, seen.By = true, e.hint.By
		seen.Ours = e.hint.By != "" && e.hint.By == r.opt.Self
	}

	if inst.State == StateStopped || inst.State == StateRunning {
		e.hint = Hint{}
	}

	if inst.State == StateRunning && e.m.state != StateRunning && !e.m.restarting && !e.m.ours {
		r.begun = now
	}

	r.step(e, seen, now)
	r.rewrite(e, inst, read, now)
}

// wait tells whether a stopped instance is looked at again a little later, because the event that says who
// stopped it may still be on its way.
func (r *Runner) wait(e *entry, inst Instance, now time.Time) bool {
	if inst.State != StateStopped || e.hint.Ended || e.m.state == StateStopped || e.unsure {
		e.unsure = false
		return false
	}

	e.unsure = true
	e.lookAt = now.Add(sureAfter)
	r.rearm(e)

	return true
}

func (r *Runner) watch(e *entry) {
	r.changed()
	saved, known := r.opt.Saved[e.id]
	delete(r.opt.Saved, e.id)
	if known {
		e.m = New(&saved, r.opt.Random)
		e.saved = saved
		return
	}

	e.m = New(nil, r.opt.Random)
}

// unwatch ends the looking after an instance. A verdict that nobody keeps true any more is taken back.
func (r *Runner) unwatch(e *entry, now time.Time) {
	if e.m != nil {
		status := e.m.status
		r.letGo(e)
		if status != "" && status != Unknown {
			e.write.want(SetStatus{Status: Unknown, From: status, Reason: "not looked after any more"}, now)
			r.unwritten[e] = true
			r.writeNext = time.Time{}
			r.log.Info("status", "project", e.id.Project, "instance", e.id.Name, "from", string(status), "to", string(Unknown), "reason", "not looked after any more")
		}
	}

	if e.why == "" && !r.unwritten[e] && !e.write.busy {
		delete(r.entries, e.id)
	}
}

// letGo ends all that is at work for an instance.
func (r *Runner) letGo(e *entry) {
	r.cancelProbe(e)
	if e.restart != nil {
		e.restart()
	}

	r.changed()
	e.m, e.lookAt = nil, time.Time{}
	r.times.set(e, time.Time{})
	if r.saveDue.IsZero() {
		r.saveDue = r.listed
	}
}

// remove forgets an instance that does not exist any more, all but its last words.
func (r *Runner) remove(e *entry) {
	if e.m != nil {
		r.gone = append(r.gone, e.row())
		r.gone = r.gone[max(0, len(r.gone)-keepGone):]
		r.letGo(e)
	}

	r.times.set(e, time.Time{})
	delete(r.unwritten, e)
	delete(r.entries, e.id)
}

// String says what is looked after, for STATUS: "214 checks, 2 unhealthy, 1 broken".
func (s Summary) String() string {
	text := fmt.Sprintf("%s, %d unhealthy, %d broken", plan.Count(s.Checks, "check"), s.Unhealthy, s.Broken)
	if s.Restarting > 0 {
		text += fmt.Sprintf(", %d restarting", s.Restarting)
	}

	if s.Paused {
		text += "; restarts of unhealthy instances are paused"
	}

	if s.Away {
		text += "; Incus is away"
	}

	return text
}
