package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// update is one service on its way from one version to another, for one pass.
type update struct {
	*roller
	s       Service
	ro      Rollout
	members []member
	// from is the generation to go back to; same says that there is nothing to go back to: it is this very version,
	// or (first) none has done well yet.
	from        uint64
	same, first bool
	// surge is the instance that is started first; nil where none is.
	surge *DesiredInstance
}

// run judges what was changed, decides whether to go on, and wants each instance as it is to be now.
func (u *update) run() {
	u.ro.Trials, u.ro.Returns = maps.Clone(u.ro.Trials), maps.Clone(u.ro.Returns)
	if u.ro.Trials == nil {
		u.ro.Trials = map[string]Trial{}
	}

	if u.ro.Returns == nil {
		u.ro.Returns = map[string]Trial{}
	}

	if u.ro.Phase == "" && u.candidate() {
		u.forward()
	} else if u.ro.Phase == GoingBack && u.served() {
		u.wantCandidate()
	}

	if u.ro.Phase == GoingBack {
		u.goBack()
	}

	switch u.ro.Phase {
	case Paused:
		u.pause()
	case HeldBack:
		u.hold()
	default:
	}
}

// forward changes the instances a group at a time, each once the ones before are well.
func (u *update) forward() {
	var waits string
	busy := 0
	for _, m := range u.members {
		t, tried := u.ro.Trials[m.now.Name]
		if !tried || t.ended() {
			continue
		}

		if !m.at {
			busy++
			continue
		}

		before := t
		var why string
		var due time.Time
		t, why, due = u.judge(m, m.now, t, u.monitor)
		if t.ended() && !before.ended() {
			u.ro.NotBefore = u.in.Now.Add(u.s.Rollout.Delay)
		}

		if t.Failed != "" {
			u.out.Failures = append(u.out.Failures, Failure{Service: u.s.Name, Instance: m.now.Name, Reason: t.Failed})
		}

		u.ro.Trials[m.now.Name] = t
		if why != "" {
			busy++
			waits = m.now.Name + ": " + why
			u.out.Notes[m.now.Name] = "updated: " + why
			u.look(due)
		}
	}

	turned, halt := u.failed()
	if turned {
		return
	}

	u.move(busy, waits, halt)
}

// failed counts the instances that are no good, and turns the update round when there are too many. Where no version
// has done well yet, the others stay as they are instead, until those are well: halt says what they wait for.
func (u *update) failed() (turned bool, halt string) {
	bad := 0
	for _, m := range u.members {
		t := u.ro.Trials[m.now.Name]
		if t.Failed == "" {
			continue
		}

		if u.ro.Reason == "" {
			u.ro.Reason = m.now.Name + ": " + t.Failed
		}

		_, well := u.steady(u.s, m)
		if !u.first || !well {
			bad++
			halt = m.now.Name + " does not do well with it: " + t.Failed
		}
	}

	tolerated := float64(bad)/float64(len(u.members)) <= u.s.Rollout.MaxFailureRatio
	switch {
	case bad == 0, tolerated, u.same && !u.first, u.s.Rollout.Action == ActionContinue:
		return false, ""
	case u.s.Rollout.Action == ActionPause:
		u.ro.Phase = Paused
	case u.first:
		return false, halt
	default:
		u.ro.Phase, u.ro.NotBefore = GoingBack, time.Time{}
	}

	return true, ""
}

// slots is how many may be on their way at once.
func slots(p RolloutPolicy, all int) int {
	switch {
	case p.Parallelism < 0:
		return all
	case p.Parallelism == 0:
		return 1
	}

	return p.Parallelism
}

// idle says that a change interrupts nothing. Where no version has done well yet, that is also so of what is not
// healthy: a first version that is broken can be mended at once.
func (u *update) idle(m member) bool { return !m.running || u.first && !m.mayServe() }

// move wants the new version for what may change now. What is idle does not have to wait for its turn, but the others
// wait for it.
func (u *update) move(busy int, waits, halt string) {
	free := slots(u.s.Rollout, len(u.members)) - busy
	gate := cmp.Or(u.gate(), u.unsaved())
	for _, m := range u.members {
		_, tried := u.ro.Trials[m.now.Name]
		if !tried && !m.byHand && !(m.exists && m.at) && u.idle(m) {
			free--
			waits = cmp.Or(waits, m.now.Name+" comes first: nobody is served by it")
		}
	}

	switch {
	case gate != "":
		waits, free = gate, 0
	case halt != "":
		waits, free = halt, 0
	case u.in.Now.Before(u.ro.NotBefore):
		waits, free = "the delay between two of them lasts until "+u.ro.NotBefore.Format(time.TimeOnly), 0
	}

	left := false
	for _, m := range u.members {
		_, tried := u.ro.Trials[m.now.Name]
		switch {
		case m.at && m.exists, tried:
			u.want(u.saved(m))
			continue
		case !m.exists, u.idle(m) && gate == "":
		case free <= 0:
			left = true
			u.wait(m, waits)
			continue
		default:
			free--
		}

		if !m.byHand {
			u.ro.Trials[m.now.Name] = Trial{Boot: m.now.Config[KeyBoot], Moved: u.in.Now}
			waits = cmp.Or(waits, m.now.Name+": it is being changed")
		}

		w := u.saved(m)
		if u.served() {
			w.Drain = drain
		}

		u.want(w)
		left = true
	}

	if left && u.in.Now.Before(u.ro.NotBefore) {
		u.look(u.ro.NotBefore)
	}

	u.done(left, halt)
}

// wait keeps an instance as it is until its turn.
func (u *update) wait(m member, why string) {
	w := m.now
	if m.back {
		w = m.was
	} else {
		w.Leave = true
	}

	u.want(w)
	u.out.Want.Blocked = append(u.out.Want.Blocked, Blocked{
		On: ID{KindInstance, m.now.Name}, Waits: true, At: u.s.At, Reason: "its update waits: " + why,
	})
}

// gate says which dependency's update has to end first, "" when none has.
func (u *update) gate() string {
	for _, need := range u.s.DependsOn {
		ro, active := u.out.Rollouts[need.Service]
		if !active {
			continue
		}

		switch ro.Phase {
		case "":
			return "the service " + need.Service + " it depends on is being updated"
		case GoingBack, HeldBack:
			return "the update of the service " + need.Service + " it depends on failed and went back"
		case Paused:
			return "the update of the service " + need.Service + " it depends on is paused"
		}
	}

	return ""
}

// saved is the new version of an instance, with the snapshot that comes before it.
func (u *update) saved(m member) DesiredInstance {
	w := m.now
	if u.s.Snapshot && !m.at && m.hasWas {
		w.Snapshot = Snapshot{Name: SnapshotName(u.ro.Since), Generation: u.ro.Generation, Service: u.s.Name, At: u.ro.Since}
	}

	return w
}

// unsaved says that the snapshot before the update could not be taken, until it is tried again; empty when it could.
func (u *update) unsaved() string {
	if u.ro.Unsaved == "" || !u.in.Now.Before(u.ro.NotBefore) {
		u.ro.Unsaved = ""
		return ""
	}

	return "the snapshot before it failed, and is tried again at " + u.ro.NotBefore.Format(time.TimeOnly) + ": " + u.ro.Unsaved
}

// unwell says that a version stays in force although an instance of it failed, and what the others wait for.
func (u *update) unwell(halt string) string {
	text := fmt.Sprintf("generation %d of %s stays although %s", u.ro.Generation, u.s.Name, u.ro.Reason)
	if halt != "" {
		text += fmt.Sprintf("; none that did well is known to go back to, so its other instances stay as they are until that one is well or the file changes; \"ic-agent retry %s/%s\" goes on with them",
			u.in.Project.Stack, u.s.Name)
	}

	return text
}

// done ends the update when every instance has the new version and is well.
func (u *update) done(left bool, halt string) {
	well := !left
	for _, m := range u.members {
		t, tried := u.ro.Trials[m.now.Name]
		ok := !tried || t.Passed || m.byHand
		if t.Failed != "" {
			var due time.Time
			due, ok = u.steady(u.s, m) // It may have got well since.
			if !ok {
				u.look(due)
			}
		}

		well = well && m.exists && m.at && ok
	}

	if !well {
		u.out.Rollouts[u.s.Name] = u.ro
		if u.ro.Reason != "" {
			u.tell(TypeUpdateFailed, u.unwell(halt))
		}

		return
	}

	byHand := slices.ContainsFunc(u.members, func(m member) bool { return m.byHand })
	if !byHand {
		u.accept(u.s, u.members)
	}

	u.out.Want.Instances = slices.DeleteFunc(u.out.Want.Instances, func(w DesiredInstance) bool {
		return u.surge != nil && w.Name == u.surge.Name
	})
}
