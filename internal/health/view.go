package health

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Row is what is known of one instance.
type Row struct {
	Project  string `json:"project"`
	Instance string `json:"instance"`
	// Watched is false for an instance that has keys of ours and is left alone; Why says the reason.
	Watched bool   `json:"watched"`
	Why     string `json:"why,omitempty"`
	// Check tells in words what is checked; empty for nothing.
	Check  string    `json:"check,omitempty"`
	Status Status    `json:"status,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// Broken is set when the check itself looks broken, Streak is the number of failures in a row.
	Broken bool `json:"broken,omitempty"`
	Streak int  `json:"streak,omitempty"`
	// Results are those of the last probes, the newest last; Next is when the next one comes.
	Results []Result  `json:"results,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// Exit is how its program last ended; empty when that is not known.
	Exit string `json:"exit,omitempty"`
	// Restart is its policy, Restarts the number that count against the limit, RestartAt when one is due.
	Restart   string    `json:"restart,omitempty"`
	Restarts  int       `json:"restarts,omitempty"`
	RestartAt time.Time `json:"restart_at,omitzero"`
	// Manual is who stopped it on purpose, GaveUp tells that the limit is reached.
	Manual string `json:"manual,omitempty"`
	GaveUp bool   `json:"gave_up,omitempty"`
	// Gone is set for an instance that was deleted.
	Gone bool `json:"gone,omitempty"`
}

// Summary counts.
type Summary struct {
	// Instances are looked after, Checks of them have a check.
	Instances  int `json:"instances"`
	Checks     int `json:"checks"`
	Unhealthy  int `json:"unhealthy"`
	Broken     int `json:"broken"`
	Restarting int `json:"restarting"`
	// Away tells that Incus cannot be asked, Paused that unhealthy instances are not restarted for now.
	Away   bool `json:"away"`
	Paused bool `json:"paused"`
	// Ready tells that everything was read at least once.
	Ready bool `json:"ready"`
}

// Counters count since the start of the daemon.
type Counters struct {
	// Checks counts probes by verdict, Restarts by kind, Changes verdicts by status.
	Checks   map[Verdict]uint64 `json:"checks"`
	Restarts map[string]uint64  `json:"restarts"`
	Changes  map[Status]uint64  `json:"changes"`
	// Leaked counts probes that left something behind.
	Leaked uint64 `json:"leaked"`
	// Late counts by how late a probe really ran, or a restart was begun, in the steps of LateSteps, and Took by how long
	// a probe took, in those of TookSteps; the last of each is for all above.
	Late []uint64 `json:"late"`
	Took []uint64 `json:"took"`
	// LateSum and TookSum are all of these together.
	LateSum time.Duration `json:"late_sum_ns"`
	TookSum time.Duration `json:"took_sum_ns"`
}

// LateSteps and TookSteps are the upper ends of the steps of Counters.
var (
	LateSteps = []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond, time.Second, 10 * time.Second}
	TookSteps = []time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}
)

func (c *Counters) late(d time.Duration) {
	c.Late = bump(c.Late, LateSteps, d)
	c.LateSum += d
}

func (c *Counters) probe(res Result) {
	if c.Checks == nil {
		c.Checks = map[Verdict]uint64{}
	}

	c.Checks[res.Verdict]++
	c.Took = bump(c.Took, TookSteps, res.Took)
	c.TookSum += res.Took
}

func (c *Counters) restart(kind string) {
	if c.Restarts == nil {
		c.Restarts = map[string]uint64{}
	}

	c.Restarts[kind]++
}

func (c *Counters) status(a SetStatus) {
	if c.Changes == nil {
		c.Changes = map[Status]uint64{}
	}

	c.Changes[a.Status]++
}

func bump(counts []uint64, steps []time.Duration, d time.Duration) []uint64 {
	if counts == nil {
		counts = make([]uint64, len(steps)+1)
	}

	at, _ := slices.BinarySearch(steps, d)
	counts[at]++

	return counts
}

// View is everything a user may want to see.
type View struct {
	Summary  Summary  `json:"summary"`
	Counters Counters `json:"counters"`
	// Rows are sorted by project and instance, Gone are the last deleted.
	Rows []Row `json:"instances"`
	Gone []Row `json:"gone"`
	// Refused are the projects left alone, with the reason.
	Refused map[string]string `json:"refused,omitempty"`
	// Idle is how long ago the loop last turned.
	Idle time.Duration `json:"idle_ns"`
}

// View asks the loop what it knows. The error is ctx's.
func (r *Runner) View(ctx context.Context) (View, error) {
	answer := make(chan View, 1)
	idle := r.Idle(time.Now())
	r.post(ctx, func(time.Time) {
		v := r.view()
		v.Idle = idle
		answer <- v
	})
	select {
	case v := <-answer:
		return v, nil
	case <-ctx.Done():
		return View{}, ctx.Err()
	}
}

// Summary asks the loop for its counts only.
func (r *Runner) Summary(ctx context.Context) (Summary, error) {
	answer := make(chan Summary, 1)
	r.post(ctx, func(time.Time) { answer <- r.summary() })
	select {
	case s := <-answer:
		return s, nil
	case <-ctx.Done():
		return Summary{}, ctx.Err()
	}
}

func (r *Runner) summary() Summary {
	s := Summary{Away: r.away, Paused: r.guard.paused, Ready: !r.listed.IsZero()}
	for _, e := range r.entries {
		if e.m == nil {
			continue
		}

		s.Instances++
		t := e.m.tally()
		s.Checks += one(t.checked)
		s.Unhealthy += one(t.unhealthy)
		s.Broken += one(t.broken)
		s.Restarting += one(t.restarting)
	}

	return s
}

// tally is what of an instance is in the Summary.
type tally struct{ checked, unhealthy, broken, restarting bool }

func (m *Machine) tally() tally {
	return tally{m.spec.Checked(), m.status == Unhealthy, m.Broken(), m.restarting}
}

func one(on bool) int {
	if on {
		return 1
	}

	return 0
}

// changed tells that the Summary may be another.
func (r *Runner) changed() {
	if r.opt.Changed != nil {
		r.opt.Changed()
	}
}

func (r *Runner) view() View {
	v := View{Summary: r.summary(), Gone: slices.Clone(r.gone), Rows: []Row{}, Refused: maps.Clone(r.refused), Counters: r.count}
	v.Counters.Checks, v.Counters.Restarts, v.Counters.Changes = maps.Clone(r.count.Checks), maps.Clone(r.count.Restarts), maps.Clone(r.count.Changes)
	v.Counters.Late, v.Counters.Took = slices.Clone(r.count.Late), slices.Clone(r.count.Took)
	for i := range v.Gone {
		v.Gone[i].Gone = true
	}

	for _, e := range r.entries {
		if e.m != nil || e.why != "" {
			v.Rows = append(v.Rows, e.row())
		}
	}

	slices.SortFunc(v.Rows, func(a, b Row) int {
		return strings.Compare(a.Project+"/"+a.Instance, b.Project+"/"+b.Instance)
	})

	return v
}

func (e *entry) row() Row {
	row := Row{Project: e.id.Project, Instance: e.id.Name, Watched: e.m != nil, Why: e.why}
	m := e.m
	if m == nil {
		return row
	}

	row.Check = m.spec.Words()
	row.Status, row.Since, row.Broken, row.Streak = m.status, m.since, m.Broken(), m.streak
	row.Results, row.Next = slices.Clone(m.results), m.due
	if m.exit.Known {
		row.Exit = m.exit.String()
	}

	row.Restart, row.Restarts, row.RestartAt = m.spec.Restart.String(), m.count, m.restartDue
	row.Manual, row.GaveUp = m.manual, m.gaveUp

	return row
}

// Words tells what is checked, without its arguments: they may hold secrets.
func (s Spec) Words() string {
	switch {
	case s.Probe != nil:
		return s.Probe.Words()
	case s.Shortcut != nil:
		return s.Shortcut.Words() + " (auto)"
	case len(s.Test) == 0:
		return ""
	case s.Test[0] == "CMD-SHELL":
		return "shell command"
	}

	return s.Test[1]
}
