package health

import (
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// seeStopped takes in a stopped instance; what is said about it only once.
func (m *Machine) seeStopped(e Seen, now time.Time, first bool) {
	if m.state == StateStopped && !e.Told {
		if e.Marked { // before it was restarted somebody said that it shall not be
			m.manual = "the key " + KeyStopped
			m.dropRestart()
		}

		return // seen before
	}

	resumed := first && m.manual == "" && !m.restartDue.IsZero()
	known := first && m.status == Stopped && e.Started.Equal(m.run) && !e.Told
	m.end(e, now)
	switch {
	case known && resumed && e.Powered:
		m.leave(now)
	case known && resumed:
		m.restartDue = now.Add(m.spec.Restart.after(m.step, m.random()))
	case known: // an earlier daemon decided about this end
	case m.restarting && e.Told && e.By == "":
		m.lost = &e // it ended again before we heard that it had started
	case m.restarting && e.Told && !e.Ours:
		m.manual = e.By
		m.do(CancelRestart{})
	case m.restarting:
	default:
		m.decide(e, now)
	}
}

// agentUser is who ic-agent runs as, which Incus names in its events.
const agentUser = "ic-agent"

// end closes the books on a run.
func (m *Machine) end(e Seen, now time.Time) {
	m.state = StateStopped
	m.cancelProbe()
	m.due = time.Time{}
	if e.Exit.Known {
		m.exit = e.Exit
	}

	if !m.started.IsZero() {
		m.credit(now)
	}

	m.healthy = time.Time{}
	m.streak, m.passes = 0, 0
	m.started = time.Time{}
	m.run = e.Started
	m.changing = e.Told && e.By == agentUser
	if m.ran { // what was never seen running may just be in the making
		m.set(Stopped, m.obituary(e), now)
	}
}

// obituary says how a run ended.
func (m *Machine) obituary(e Seen) string {
	switch {
	case !e.Told:
		return "found stopped: " + e.Exit.String()
	case e.Ours && m.restarting:
		return "stopped to be restarted"
	case e.By != "":
		return "stopped by " + e.By
	}

	return "ended by itself: " + e.Exit.String()
}

// credit forgives earlier restarts after a good run: long enough, and healthy for that long where there is a
// check.
func (m *Machine) credit(now time.Time) {
	ran := now.Sub(m.started)
	good := ran >= goodRun
	if m.spec.Checked() {
		good = good && !m.healthy.IsZero() && now.Sub(m.healthy) >= goodRun
	}

	if good {
		m.step = 0
	}

	if w := m.spec.Restart.Window; w > 0 && ran >= w {
		m.count = 0
	}
}

// decide says whether what ended is started again.
func (m *Machine) decide(e Seen, now time.Time) {
	m.dropRestart()
	switch {
	case e.Marked:
		m.manual = "the key " + KeyStopped
	case e.Told && e.By != "":
		m.manual = e.By
	case e.Powered && m.ran:
		m.leave(now)
	case e.Told:
		m.manual = "" // it ran since: it was too short to be seen
		m.revive(e.Exit, now)
	case !m.ran: // it may never have been meant to run yet
	case e.Exit.Known && e.Exit.Code == 0:
		m.manual = "somebody unseen"
		m.note(false, "ended with exit code 0 while nobody watched: taken for a stop on purpose")
	default:
		m.revive(e.Exit, now)
	}
}

// leave leaves an instance that Incus stopped because it went down itself, or that went down with the host, to
// Incus, which starts what ran. Only if it does not, its policy does.
func (m *Machine) leave(now time.Time) {
	if !m.spec.Restart.Acts() {
		return
	}

	m.reason = "it ran when Incus or the host went down, and Incus has not started it"
	m.restartDue, m.patient = now.Add(bootGrace), true
}

// revive applies the policy to an instance that ended by itself.
func (m *Machine) revive(exit Exit, now time.Time) {
	p := m.spec.Restart
	switch {
	case !p.Acts():
		return
	case m.autorestart:
		m.note(false, "Incus restarts it itself (boot.autorestart): left to it")
		return
	case p.Mode == ModeOnFailure && exit.Known && exit.Code == 0:
		m.note(false, "ended with exit code 0: done, as on-failure wants it")
		return
	}

	m.schedule("ended by itself: "+exit.String(), now)
}

// schedule makes a restart due, unless the policy's limit is reached.
func (m *Machine) schedule(reason string, now time.Time) {
	p := m.spec.Restart
	if p.Max > 0 && m.count >= p.Max {
		m.gaveUp = true
		m.note(true, "restarted %s, which is the limit: given up (%s)", plan.Count(m.count, "time"), reason)
		return
	}

	m.reason = reason
	m.restartDue = now.Add(p.after(m.step, m.random()))
}

// restart carries out the restart that is due.
func (m *Machine) restart() {
	kind := "ended"
	if m.healing {
		kind = "unhealthy"
	}

	running := m.state == StateRunning
	if running != m.healing {
		m.dropRestart() // it is not what it was
		return
	}

	m.cancelProbe()
	m.healed, m.waited = m.healing, m.patient
	m.dropRestart()
	m.restarting = true
	m.restartGen++
	m.step++
	m.count++
	m.do(Restart{Gen: m.restartGen, Stop: running, Run: m.run, Patient: m.waited, Kind: kind, Reason: m.reason})
}

func (m *Machine) restarted(e Restarted, now time.Time) {
	if !m.restarting || e.Gen != m.restartGen {
		return
	}

	m.restarting = false
	lost := m.lost
	m.lost = nil
	switch {
	case e.Powered && m.state == StateStopped:
		m.step, m.count = max(0, m.step-1), max(0, m.count-1)
		m.leave(now)
	case e.Moot || e.Held:
		m.step, m.count = max(0, m.step-1), max(0, m.count-1)
		m.resume(now)
		if e.Held && m.wanted() {
			m.healing, m.patient = m.state == StateRunning, m.waited
			m.restartDue = now.Add(holdFor + time.Duration(m.random()*float64(holdFor)))
		}
	case e.Err == "":
		m.ours = m.state != StateRunning // not yet seen
		if lost != nil {
			m.ours = false
			m.decide(*lost, now)
		}
	default:
		m.failed = now
		m.note(true, "the restart failed: %s", e.Err)
		if e.Infra {
			m.count = max(0, m.count-1)
		}

		m.resume(now)
		if m.wanted() {
			m.schedule(m.reason, now)
			m.healing = m.state == StateRunning && !m.restartDue.IsZero()
		}
	}
}

// wanted tells whether a restart that did not come about is still called for.
func (m *Machine) wanted() bool {
	sick := m.state == StateRunning && m.healed && m.status == Unhealthy

	return m.manual == "" && (m.state == StateStopped || sick)
}

// healsNow tells whether it is on its way to be healthy again: a restart is due or at work, or has no verdict yet.
func (m *Machine) healsNow() bool {
	return m.restarting || !m.restartDue.IsZero() || m.status == Starting && m.state == StateRunning
}

// holdFor is the least time until a held restart is tried again; at most it is twice as long.
const holdFor = 2 * time.Second

// resume goes on probing after a restart that did not come about.
func (m *Machine) resume(now time.Time) {
	if m.state == StateRunning && m.spec.Checked() && m.due.IsZero() {
		m.due = now.Add(m.interval(now))
	}
}

// Broken tells of a check that says nothing about the instance: it never passed, or its command is not there.
func (m *Machine) Broken() bool {
	if m.status != Unhealthy || len(m.results) == 0 {
		return false
	}

	return !m.passed || m.results[len(m.results)-1].missing()
}

// react does what is asked for about an instance that became unhealthy.
func (m *Machine) react(r Result, now time.Time) {
	if r.missing() || !m.passed {
		why := "it has never passed"
		if r.missing() {
			why = "its command cannot be run"
		}

		m.note(true, "the check looks broken, so nothing is done about its verdict: %s: %s", why, r.Words())

		return
	}

	switch m.spec.OnUnhealthy {
	case ReactRestart:
		m.healing = true
		m.schedule("unhealthy: "+r.Words(), now)
		m.healing = !m.restartDue.IsZero()
	case ReactStop:
		m.manual = "on-unhealthy"
		m.do(StopIt{Reason: "unhealthy: " + r.Words()})
	case ReactNotify:
		m.note(true, "unhealthy: %s", r.Words())
	}
}
