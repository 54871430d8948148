package plan

import (
	"cmp"
	"fmt"
	"time"
)

// The times an instance has to be well, where the file says nothing: after it became healthy, and after its start
// where it has no check.
const (
	monitorHealthy   = 10 * time.Second
	monitorUnchecked = 30 * time.Second
)

// restartSlack is how exactly two readings of one start agree.
const restartSlack = time.Second

// unreadAgain is when it is asked again how an instance ended, which Incus could not tell.
const unreadAgain = time.Second

// Checked says of an instance's keys that somebody judges its health.
func Checked(config map[string]string) bool {
	return config[keyHealthTest] != "" || config[keyHealthEnabled] == "true" || config["user.ic-agent.probe"] != ""
}

// HealthOf is the health status of an instance's present run: the health daemon's word, and since when it holds; empty
// when it has not judged this run yet. A word from before the instance's last start is about another process.
func HealthOf(have ObservedInstance) (status string, since time.Time) {
	status = have.Config[KeyHealthStatus]
	if have.Status != Running || status == "" {
		return "", time.Time{}
	}

	since = healthDetail(have).Since
	switch {
	case since.IsZero():
		return status, have.LastUsed // Another health daemon, which says only the word.
	case since.Before(have.LastUsed):
		return "", time.Time{}
	}

	return status, since
}

// unhealthy says that an instance is, and what its probe last said; the health daemon may have ended it for that already.
func unhealthy(have ObservedInstance) string {
	text := "it is unhealthy"
	if have.Status != Running || have.Config[KeyHealthStatus] != "unhealthy" {
		text = "it was unhealthy, and stopped or restarted for that"
	}

	said := healthDetail(have).Output
	if said != "" {
		text += ": its probe said " + fmt.Sprintf("%.200q", said)
	}

	return text
}

// steady says whether an instance has been well for long enough to be what is gone back to, and else when it may be.
func (r *roller) steady(s Service, m member) (due time.Time, well bool) {
	switch {
	case !m.exists || !m.at:
		return time.Time{}, false
	case !m.running:
		code, ended := r.exit(m)
		return time.Time{}, ended && code == 0 // A job that has done its work.
	case m.have.LastUsed.IsZero():
		return time.Time{}, false
	}

	due = r.watched(m.have.LastUsed).Add(cmp.Or(s.Rollout.Monitor, monitorUnchecked))
	if Checked(m.now.Config) {
		status, since := HealthOf(m.have)
		if status != "healthy" {
			return time.Time{}, false
		}

		due = r.watched(since).Add(cmp.Or(s.Rollout.Monitor, monitorHealthy))
	}

	return due, !r.in.Now.Before(due)
}

// judge looks at an instance that was changed: whether it is well, whether it failed, or what is waited for. A monitor
// of zero is content with an instance that is up.
func (r *roller) judge(m member, w DesiredInstance, t Trial, monitor func(checked bool) time.Duration) (_ Trial, waits string, due time.Time) {
	switch {
	case t.ended() || m.byHand:
		return t, "", time.Time{}
	case !m.running && r.in.Ledger.Started[w.Name] != w.Config[KeyBoot]:
		return t, "it is being changed", time.Time{}
	case !t.Start.IsZero() && !healthDetail(m.have).Unwell.Before(t.Start):
		t.Failed = unhealthy(m.have)
		return t, "", time.Time{}
	case !m.running && r.unread(m):
		return t, "it is not known yet how it ended", r.in.Now.Add(unreadAgain)
	case !m.running:
		return r.judgeEnd(m, t), "", time.Time{}
	case t.Start.IsZero() && m.have.LastUsed.Add(restartSlack).Before(t.Moved):
		return t, "its start is not known to Incus yet", r.in.Now.Add(restartSlack)
	case t.Start.IsZero():
		t.Start = m.have.LastUsed
	case m.have.LastUsed.After(t.Start.Add(restartSlack)):
		t.Failed = fmt.Sprintf("it ended, and was restarted, %s after its start", m.have.LastUsed.Sub(t.Start).Round(time.Second))
		return t, "", time.Time{}
	}

	since := t.Start
	if Checked(w.Config) {
		var status string
		status, since = HealthOf(m.have)
		switch status {
		case "healthy":
		case "unhealthy":
			t.Failed = unhealthy(m.have)
			return t, "", time.Time{}
		case "":
			return t, "its health is not known yet (is ic-healthd running?)", time.Time{}
		default:
			return t, "it is not healthy yet", time.Time{}
		}
	}

	due = r.watched(since).Add(monitor(Checked(w.Config)))
	if r.in.Now.Before(due) {
		return t, "it is watched until " + due.Format(time.TimeOnly), due
	}

	t.Passed = true

	return t, "", time.Time{}
}

// watched is since when it was seen that something is so: an Incus that does not answer may only be late to tell that it
// no longer is.
func (r *roller) watched(since time.Time) time.Time {
	if since.Before(r.in.Blind) {
		return r.in.Blind
	}

	return since
}

// unread says that nobody has been told yet how an instance ended: Incus did not answer, or does not know its state.
func (r *roller) unread(m member) bool {
	_, known := r.exit(m)
	e, read := r.in.Ledger.Exits[m.now.Name]

	return m.have.Status == Error || !known && m.have.LastUsed.After(m.have.Created) && !(read && e.Run.Equal(m.have.LastUsed))
}

// judgeEnd judges an instance that ended: that is well only of a job that did its work.
func (r *roller) judgeEnd(m member, t Trial) Trial {
	code, known := r.exit(m)

	switch {
	case !known:
		t.Failed = "it ended by itself"
	case code == 0 && !m.now.Lasting:
		t.Passed = true
	default:
		t.Failed = "it ended with exit code " + ExitWords(code) + unrun(code, m.have)
	}

	return t
}

// exit is how an instance's last run ended.
func (r *roller) exit(m member) (code int, known bool) {
	e, read := r.in.Ledger.Exits[m.now.Name]
	if read && e.Known && e.Run.Equal(m.have.LastUsed) {
		return e.Code, true
	}

	return exitCode(m.have)
}
