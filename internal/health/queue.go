package health

import (
	"context"
	"slices"
	"time"
)

// queue holds the probes that wait for a worker, by project, and shares the workers out in turn. A project has no more
// of them than are free: one alone gets half, and however many of its probes hang, the next project finds as many
// workers, the one after it half of those. A share by the number of projects would leave workers idle while probes wait.
type queue struct {
	workers, busy int
	projects      map[string]*share
	order         []string // of projects that wait, the next one first
}

type share struct {
	waiting []waiting
	busy    int
}

type waiting struct {
	e   *entry
	act RunProbe
}

func newQueue(workers int) queue { return queue{workers: workers, projects: map[string]*share{}} }

func (q *queue) add(e *entry, a RunProbe) {
	s := q.projects[e.id.Project]
	if s == nil {
		s = &share{}
		q.projects[e.id.Project] = s
	}

	if len(s.waiting) == 0 {
		q.order = append(q.order, e.id.Project)
	}

	s.waiting = append(s.waiting, waiting{e, a})
}

// remove takes out what waits for an instance; the returned generation was never begun, 0 when nothing waited.
func (q *queue) remove(e *entry) uint64 {
	s := q.projects[e.id.Project]
	if s == nil {
		return 0
	}

	at := slices.IndexFunc(s.waiting, func(w waiting) bool { return w.e == e })
	if at < 0 {
		return 0
	}

	gen := s.waiting[at].act.Gen
	s.waiting = slices.Delete(s.waiting, at, at+1)
	q.tidy(e.id.Project)

	return gen
}

// tidy forgets a project that has nothing waiting and nothing at work.
func (q *queue) tidy(project string) {
	s := q.projects[project]
	if len(s.waiting) == 0 {
		q.order = slices.DeleteFunc(q.order, func(p string) bool { return p == project })
	}

	if len(s.waiting) == 0 && s.busy == 0 {
		delete(q.projects, project)
	}
}

// take returns the next probe for which there is a worker.
func (q *queue) take() (waiting, bool) {
	if q.busy >= q.workers {
		return waiting{}, false
	}

	free := q.workers - q.busy
	for i, project := range q.order {
		s := q.projects[project]
		if s.busy >= free {
			continue
		}

		w := s.waiting[0]
		s.waiting[0] = waiting{}
		s.waiting = s.waiting[1:]
		q.busy++
		s.busy++
		q.order = slices.Delete(q.order, i, i+1)
		if len(s.waiting) > 0 {
			q.order = append(q.order, project)
		}

		return w, true
	}

	return waiting{}, false
}

// done gives a worker back.
func (q *queue) done(project string) {
	q.busy--
	q.projects[project].busy--
	q.tidy(project)
}

// probeMore gives work to free workers.
func (r *Runner) probeMore() {
	for {
		w, ok := r.queue.take()
		if !ok {
			return
		}

		r.probe(w.e, w.act)
	}
}

func (r *Runner) probe(e *entry, a RunProbe) {
	inst := e.inst
	e.probe = r.spawn(func(ctx context.Context) func(time.Time) {
		result, clean := r.opt.Prober.Probe(ctx, inst, a.Spec)
		if clean != nil {
			r.post(ctx, func(now time.Time) { r.probed(e, a, result, now) })
			killed := clean()
			return func(now time.Time) { r.freed(e, a.Gen, killed, now) }
		}

		return func(now time.Time) {
			r.probed(e, a, result, now)
			r.freed(e, a.Gen, true, now)
		}
	})
}

func (r *Runner) probed(e *entry, a RunProbe, result Result, now time.Time) {
	r.count.late(max(0, result.At.Sub(a.Due)))
	if r.entries[e.id] != e || e.m == nil {
		return
	}

	matters := result.Verdict == TimedOut || a.Spec.Stretch > 1
	starved := matters && r.opt.Starved != nil && r.opt.Starved()
	r.count.probe(result)
	r.step(e, Probed{Gen: a.Gen, Result: result, Starved: starved}, now)
}

func (r *Runner) freed(e *entry, gen uint64, killed bool, now time.Time) {
	r.queue.done(e.id.Project)
	if !killed {
		r.count.Leaked++
		r.log.Warn("a probe left processes behind that could not be killed", "project", e.id.Project, "instance", e.id.Name)
	}

	if r.entries[e.id] == e && e.m != nil {
		r.step(e, Freed{Gen: gen}, now)
	}
}

// cancelProbe ends the probe of an instance, whether it waits or is at work.
func (r *Runner) cancelProbe(e *entry) {
	gen := r.queue.remove(e)
	if gen != 0 {
		e.m.Step(Freed{Gen: gen}, time.Time{})
		return
	}

	if e.probe != nil {
		e.probe()
		e.probe = nil
	}
}
