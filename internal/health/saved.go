package health

import "time"

// Saved is what of a machine has to survive the daemon. Two equal values need no writing.
type Saved struct {
	// Run is the start of the current or last run as Incus tells it.
	Run time.Time `json:"run"`
	// Status, Since, Streak and Passes are the verdict and how it stands.
	Status Status    `json:"status"`
	Since  time.Time `json:"since"`
	Streak int       `json:"streak,omitempty"`
	Passes int       `json:"passes,omitempty"`
	// Passed tells that the check Check has passed once.
	Passed bool   `json:"passed,omitempty"`
	Check  string `json:"check,omitempty"`
	// Healthy is since when it is; zero when it is not.
	Healthy time.Time `json:"healthy"`
	// Unwell is as in Detail.
	Unwell time.Time `json:"unwell,omitzero"`
	// Step and Count are the growing delay's step and the restarts that count against the limit.
	Step  int `json:"step,omitempty"`
	Count int `json:"count,omitempty"`
	// Pending tells of a restart that was due.
	Pending bool   `json:"pending,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Manual is who stopped it on purpose.
	Manual string `json:"manual,omitempty"`
	GaveUp bool   `json:"gave_up,omitempty"`
	// Ran tells that it has been seen running.
	Ran  bool `json:"ran,omitempty"`
	Exit Exit `json:"exit"`
}

// Saved returns what has to survive.
func (m *Machine) Saved() Saved {
	return Saved{
		Run: m.run.Round(0).UTC(), Status: m.status, Since: m.since.Round(0).UTC(), Streak: m.streak, Passes: min(m.passes, m.spec.Successes),
		Passed: m.passed, Check: m.spec.checkID(), Healthy: m.healthy.Round(0).UTC(), Unwell: m.unwell.Round(0).UTC(), Step: m.step, Count: m.count,
		Pending: !m.restartDue.IsZero() && !m.healing || m.restarting && m.state == StateStopped,
		Reason:  m.reason, Manual: m.manual, GaveUp: m.gaveUp, Ran: m.ran, Exit: m.exit,
	}
}

func (m *Machine) restore(s Saved) {
	m.run, m.status, m.since, m.streak, m.passes = s.Run, s.Status, s.Since, s.Streak, s.Passes
	m.passed, m.healthy, m.step, m.count = s.Passed, s.Healthy, s.Step, s.Count
	m.reason, m.manual, m.gaveUp, m.ran, m.exit = s.Reason, s.Manual, s.GaveUp, s.Ran, s.Exit
	m.check, m.unwell = s.Check, s.Unwell
	if s.Pending {
		m.restartDue = s.Run // any time: it is set anew when the instance is seen stopped
	}
}

// checkID tells checks apart.
func (s Spec) checkID() string {
	if s.Probe != nil {
		return mustJSON(s.Probe)
	}

	if len(s.Test) > 0 {
		return mustJSON(s.Test)
	}

	return ""
}
