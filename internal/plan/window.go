package plan

import (
	"slices"
	"time"
)

// Shut says that the stack's window (Window) is closed: what serves is not interrupted. New instances, broken ones and
// changes that interrupt nothing do not wait for it, and an update that began goes on to its end.
type Shut struct {
	// Opens is when the window opens next; zero when it never does again.
	Opens time.Time
	// Look is when to look again at the latest: before a window could pass unseen because the clock was set.
	Look time.Time
	// Hurried are the services that need not wait, by somebody's word.
	Hurried map[string]bool
	// Now is what the words are relative to.
	Now time.Time
}

// String says what is waited for: "the window, Sat 03:00".
func (s Shut) String() string {
	const week = 6 * 24 * time.Hour
	switch {
	case s.Opens.IsZero():
		return "the window, which never opens again: change x-ic-agent.window"
	case s.Opens.Sub(s.Now) < week:
		return "the window, " + s.Opens.Format("Mon 15:04")
	}

	return "the window, " + s.Opens.Format("Mon 2006-01-02 15:04")
}

// shut keeps a service as it is while the window is closed, where a change would interrupt one of its instances that
// serves; underway says that its update has begun. It reports whether it does.
func (r *roller) shut(s Service, members []member, underway bool) bool {
	shut := r.in.Shut
	if shut == nil || underway || shut.Hurried[s.Name] ||
		!slices.ContainsFunc(members, func(m member) bool { return !m.at && r.serves(s, m) }) {
		return false
	}

	for _, m := range members {
		w := m.now
		switch {
		case m.exists && m.at:
		case m.back, !m.exists && m.hasWas:
			w = m.was
		case m.exists:
			w.Leave = true
		}

		r.want(w)
	}

	r.look(shut.Look)
	r.out.Want.Blocked = append(r.out.Want.Blocked, scheduled(
		ID{KindService, s.Name}, s.At, "its update waits for "+shut.String(), r.in.Project.Stack+"/"+s.Name))

	return true
}

// serves says that an instance does its work, as far as that is known. One that nobody has ever seen doing well does
// when it is healthy, or has run for a while: its ledger was lost, and it is not new.
func (r *roller) serves(s Service, m member) bool {
	if !m.exists || !m.running {
		return false
	}

	status, _ := HealthOf(m.have)
	_, known := r.in.Ledger.Good[s.Name]
	switch {
	case status == "unhealthy":
		return false
	case known, status == "healthy":
		return true
	}

	return !Checked(m.have.Config) && !r.in.Now.Before(m.have.LastUsed.Add(monitorUnchecked))
}

// scheduled is a change that waits for the window; what names whom it concerns for the verb that does not wait.
func scheduled(on ID, at Place, reason, what string) Blocked {
	return Blocked{On: on, Type: TypeScheduled, Waits: true, At: at, Reason: reason + "; \"ic-agent apply " + what + " --now\" does not wait"}
}
