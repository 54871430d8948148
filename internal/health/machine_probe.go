package health

import (
	"fmt"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func (m *Machine) probed(e Probed, now time.Time) {
	if e.Gen != m.gen || !m.probing {
		return
	}

	r := e.Result
	m.probing = false
	m.ended = now
	m.results = append(m.results, r)
	m.results = m.results[max(0, len(m.results)-keepResults):]
	switch {
	case r.Verdict == NoAnswer, r.Verdict == TimedOut && e.Starved,
		r.Verdict == NoAgent && now.Before(m.started.Add(m.spec.StartPeriod+agentGrace)):
	case r.Verdict == Passed:
		m.pass(now)
	default:
		m.fail(r, now)
	}

	m.due = now.Add(m.interval(now))
	if e.Starved && m.status == Healthy && m.streak == 0 && now.Sub(m.healthy) >= longHealthy*m.spec.Interval {
		m.due = now.Add(time.Duration(m.spec.Stretch) * m.spec.Interval)
	}
}

// longHealthy is for how many intervals an instance has to have been healthy for its check to be stretched.
const longHealthy = 10

func (m *Machine) pass(now time.Time) {
	m.streak, m.passed = 0, true
	m.passes++
	if m.status == Unhealthy && m.passes < m.spec.Successes {
		return
	}

	if m.healing && !m.restarting {
		m.dropRestart()
	}

	if m.status != Healthy {
		m.healthy = now
	}

	m.unwell = time.Time{}
	m.set(Healthy, "the check passed", now)
}

func (m *Machine) fail(r Result, now time.Time) {
	m.passes = 0
	if m.status == Starting {
		forgiven := m.spec.StartPeriod
		if m.spec.Early {
			forgiven = max(forgiven, m.spec.Interval)
		}

		if r.At.Before(m.started.Add(forgiven)) {
			return
		}
	}

	m.streak++
	if m.streak < m.spec.Retries || m.status == Unhealthy {
		return
	}

	m.healthy, m.unwell = time.Time{}, now
	m.set(Unhealthy, fmt.Sprintf("%s in a row, the last: %s", plan.Count(m.streak, "failure"), r.Words()), now)
	m.react(r, now)
}

// Words says how a probe that did not pass ended: "exit code 127 (command not found): sh: foo: not found".
func (r Result) Words() string {
	text := string(r.Verdict)
	if r.Verdict == Failed {
		text = "exit code " + plan.ExitWords(r.Code)
	}

	line := firstLine(r.Output)
	if line != "" {
		text += ": " + line
	}

	return text
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")

	return clip(strings.TrimSpace(line), 200)
}

// set changes the status, once.
func (m *Machine) set(s Status, reason string, now time.Time) {
	if m.status == s {
		return
	}

	from := m.status
	m.status, m.since = s, now
	m.do(SetStatus{Status: s, From: from, Reason: reason, Detail: m.detail(), Brief: s == Stopped && m.changing})
}

func (m *Machine) detail() Detail {
	d := Detail{Since: m.since.Round(0).UTC(), Streak: m.streak, Unwell: m.unwell.Round(0).UTC()}
	if m.exit.Known {
		d.Exit = &m.exit.Code
	}

	if len(m.results) > 0 {
		d.Output = firstLine(m.results[len(m.results)-1].Output)
	}

	return d
}
