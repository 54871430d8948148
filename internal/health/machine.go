package health

import (
	"fmt"
	"time"
)

const (
	// keepResults is how many results of probes are kept (moby keeps as many).
	keepResults = 5
	// earlyDelay is how long after the start an early first probe comes.
	earlyDelay = 100 * time.Millisecond
	// maxSpread is over how long first probes of instances found running are spread.
	maxSpread = 30 * time.Second
	// lateTick is how late a time may come before the clock must have stood still, or the host.
	lateTick = 10 * time.Second
	// agentGrace is what a virtual machine's agent may take beyond the start period.
	agentGrace = 30 * time.Second
	// bootGrace is how long Incus may take after a boot to start what ran before.
	bootGrace = 60 * time.Second
)

// Machine is one instance: what is known of it and what is due. It is a value for one goroutine.
type Machine struct {
	spec   Spec
	random func() float64
	acts   []Action

	state State
	// run is the start of the current run as Incus tells it, started the same by our clock.
	run, started time.Time
	autorestart  bool
	check        string // the check an earlier daemon knew; empty for none

	status  Status
	since   time.Time
	streak  int
	passes  int
	passed  bool      // this check has passed at least once
	healthy time.Time // since when it is; zero when it is not
	unwell  time.Time // when it last became unhealthy; zero as in Detail
	results []Result

	gen     uint64
	probing bool      // the result of gen is wanted
	busy    bool      // something of a probe is still at work
	due     time.Time // of the next probe; zero for none
	ended   time.Time // of the last probe
	spread  bool      // due was put off once already

	step       int       // of the growing delay
	count      int       // of restarts that count against the policy's limit
	restartDue time.Time // zero for none
	healing    bool      // the restart that is due is for bad health
	healed     bool      // the restart at work is
	patient    bool      // the restart that is due waited for Incus
	waited     bool      // the restart at work did
	restarting bool
	// changing says that the agent ended the last run.
	changing bool
	// failed is when a restart was last known to have failed.
	failed     time.Time
	restartGen uint64
	ours       bool  // the next start is our doing
	lost       *Seen // an end that came while we restarted it
	reason     string
	manual     string // who stopped it on purpose; empty for nobody
	gaveUp     bool   // the policy's limit is reached
	ran        bool   // it has been seen running
	exit       Exit
}

// New returns the machine of an instance never seen before, or with what an earlier daemon knew. random returns
// numbers from 0 to 1.
func New(saved *Saved, random func() float64) *Machine {
	m := &Machine{random: random}
	if saved != nil {
		m.restore(*saved)
	}

	return m
}

// Step takes in an event and returns what to do about it.
func (m *Machine) Step(ev Event, now time.Time) []Action {
	m.acts = nil
	switch ev := ev.(type) {
	case Seen:
		m.see(ev, now)
	case Probed:
		m.probed(ev, now)
	case Freed:
		if ev.Gen == m.gen {
			m.busy = false
		}
	case Restarted:
		m.restarted(ev, now)
	case Tick:
		m.tick(now)
	}

	return m.acts
}

// Next is when a Tick is wanted; zero for never, and before the instance was seen.
func (m *Machine) Next() time.Time {
	if m.state == "" {
		return time.Time{}
	}

	next := m.due
	if m.busy || m.state != StateRunning || m.restarting {
		next = time.Time{}
	}

	if !m.restarting && !m.restartDue.IsZero() && (next.IsZero() || m.restartDue.Before(next)) {
		next = m.restartDue
	}

	return next
}

func (m *Machine) do(a Action) { m.acts = append(m.acts, a) }

func (m *Machine) note(warn bool, format string, args ...any) {
	m.do(Note{Warn: warn, Text: fmt.Sprintf(format, args...)})
}

func (m *Machine) see(e Seen, now time.Time) {
	first := m.state == ""
	m.autorestart = e.Autorestart
	if first {
		m.spec = e.Spec
		if m.check != e.Spec.checkID() {
			m.streak, m.passes, m.passed = 0, 0, false
		}
	}

	switch e.State {
	case StateRunning:
		m.seeRunning(e, now, first)
	case StateFrozen:
		m.seeFrozen(e, now)
	case StateStopped:
		m.seeStopped(e, now, first)
	}

	if !first {
		m.respec(e.Spec, now)
	}
}

func (m *Machine) seeRunning(e Seen, now time.Time, first bool) {
	was := m.state
	m.state, m.ran = StateRunning, true
	same := e.Started.Equal(m.run)
	switch {
	case same && was == StateRunning:
	case same && was == StateFrozen:
		m.due = now.Add(m.interval(now))
	case first && (same || m.run.IsZero()):
		m.found(e, now)
	default:
		m.began(e, now)
	}
}

// clock sets the start of the current run by our clock: only its age is taken from the wall's.
func (m *Machine) clock(e Seen, now time.Time) {
	age := max(0, now.Round(0).Sub(e.Started))
	m.run, m.started = e.Started, now.Add(-age)
}

// found takes over an instance that ran before we came. What is known of it stays; the first probes of many such
// are spread.
func (m *Machine) found(e Seen, now time.Time) {
	m.clock(e, now)
	m.dropRestart()
	m.manual = ""
	switch {
	case !m.spec.Checked():
		m.set(Healthy, "running", now)
	case m.status == Starting || m.status == Healthy || m.status == Unhealthy:
	case e.Status == Healthy || e.Status == Unhealthy:
		m.status, m.since, m.passed = e.Status, now, e.Status == Healthy
	default:
		m.set(Starting, "found running", now)
	}

	if m.status == Healthy && m.healthy.IsZero() {
		m.healthy = now
	}

	m.firstProbe(now)
}

// firstProbe sets the time of the first probe of a run: one interval after the start, or early. Where that has
// passed already, many may be in the same position, and the time is drawn by lot.
func (m *Machine) firstProbe(now time.Time) {
	if !m.spec.Checked() {
		return
	}

	m.due = m.started.Add(m.interval(now))
	if m.spec.Early {
		m.due = m.started.Add(earlyDelay)
	}

	if m.due.Before(now) {
		m.due = now.Add(m.scatter(now))
	}
}

// scatter is a share of the time to the next probe.
func (m *Machine) scatter(now time.Time) time.Duration {
	return time.Duration(m.random() * float64(min(m.interval(now), maxSpread)))
}

// began starts the life of a new run.
func (m *Machine) began(e Seen, now time.Time) {
	m.clock(e, now)
	m.cancelProbe()
	failed := e.Started.Before(m.failed.Round(0)) // what is seen is our own start that has failed since
	if !m.restarting && !m.ours && !failed {      // somebody else wants it to run: all is forgiven
		m.step, m.count, m.unwell = 0, 0, time.Time{}
	}

	m.ours = m.restarting
	m.dropRestart()
	m.manual, m.gaveUp, m.lost = "", false, nil
	m.streak, m.passes, m.healthy = 0, 0, time.Time{}
	if !m.spec.Checked() {
		m.healthy = now
		m.set(Healthy, "running", now)
		return
	}

	m.set(Starting, "started", now)
	m.firstProbe(now)
}

func (m *Machine) seeFrozen(e Seen, now time.Time) {
	if m.state == StateFrozen {
		return
	}

	if m.state == "" {
		m.clock(e, now)
		if m.status == "" {
			m.status = e.Status
		}
	}

	m.state, m.ran = StateFrozen, true
	m.cancelProbe()
	m.due = time.Time{}
	m.dropRestart()
}

// dropRestart forgets a restart that is due.
func (m *Machine) dropRestart() {
	m.restartDue, m.healing, m.patient = time.Time{}, false, false
}

// cancelProbe ends a probe at work; its result will be stale.
func (m *Machine) cancelProbe() {
	if m.probing {
		m.probing = false
		m.do(CancelProbe{})
	}
}

// respec takes over new keys of an instance that is known.
func (m *Machine) respec(s Spec, now time.Time) {
	old := m.spec
	m.spec = s
	same := old.SameCheck(s)
	pace := old.Interval == s.Interval && old.Timeout == s.Timeout && old.StartPeriod == s.StartPeriod &&
		old.StartInterval == s.StartInterval && old.Retries == s.Retries
	if !same {
		m.streak, m.passes, m.passed = 0, 0, false
	}

	if same && pace || m.state != StateRunning {
		return
	}

	m.cancelProbe()
	switch {
	case !s.Checked():
		m.due = time.Time{}
		m.set(Healthy, "running, and no check any more", now)
		return
	case !old.Checked():
		m.set(Starting, "a check was added", now)
	}

	if !same {
		m.due = now
		return
	}

	m.due = now.Add(m.interval(now))
	if !m.ended.IsZero() {
		m.due = m.ended.Add(m.interval(now))
	}

	if m.due.Before(now) {
		m.due = now
	}
}

// interval is the time from the end of a probe to the start of the next.
func (m *Machine) interval(now time.Time) time.Duration {
	if m.status == Starting && now.Before(m.started.Add(m.spec.StartPeriod)) {
		return m.spec.StartInterval
	}

	return m.spec.Interval
}

func (m *Machine) tick(now time.Time) {
	if !m.restarting && !m.restartDue.IsZero() && !now.Before(m.restartDue) {
		m.restart()
		return
	}

	if m.due.IsZero() || now.Before(m.due) || m.busy || m.restarting || m.state != StateRunning {
		return
	}

	if now.Sub(m.due) > lateTick && !m.spread {
		m.spread = true
		m.due = now.Add(m.scatter(now))
		return
	}

	m.gen++
	m.probing, m.busy, m.spread = true, true, false
	m.do(RunProbe{Gen: m.gen, Spec: m.spec, Due: m.due})
	m.due = time.Time{}
}
