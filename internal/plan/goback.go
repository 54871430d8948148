package plan

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// returnTries is how often an instance is started again that ends on its way back.
const returnTries = 3

// goBack returns the instances to the version before, the broken ones first.
func (u *update) goBack() {
	policy := u.s.Rollback
	busy, bad := 0, ""
	for _, m := range u.members {
		t, tried := u.ro.Returns[m.now.Name]
		if !tried || t.ended() {
			continue
		}

		if !m.back {
			busy++
			continue
		}

		if m.running {
			t.Start = m.have.LastUsed // That it was started twice says nothing against what did well before.
		}

		var why string
		var due time.Time
		t, why, due = u.judge(m, m.was, t, func(bool) time.Duration { return policy.Monitor })
		if t.Failed != "" && !m.running && t.Tries < returnTries {
			// It did well once; what ended may have been begun by somebody else with what failed.
			t = Trial{Boot: t.Boot, Moved: u.in.Now, Tries: t.Tries + 1}
			u.out.Again = append(u.out.Again, m.now.Name)
			why = "it is started again"
		}

		if t.ended() {
			u.ro.NotBefore = u.in.Now.Add(policy.Delay)
		}

		u.ro.Returns[m.now.Name] = t
		if why != "" {
			busy++
			u.out.Notes[m.now.Name] = "went back: " + why
			u.look(due)
		}
	}

	count := 0
	for _, name := range slices.Sorted(maps.Keys(u.ro.Returns)) {
		if t := u.ro.Returns[name]; t.Failed != "" {
			count++
			bad = name + " did not do well on its way back either: " + t.Failed
		}
	}

	if bad != "" && policy.Action != ActionContinue && float64(count)/float64(len(u.members)) > policy.MaxFailureRatio {
		u.ro.Phase, u.ro.Reason = Paused, u.ro.Reason+"; "+bad
		return
	}

	u.moveBack(slots(policy, len(u.members)) - busy)
}

func (u *update) moveBack(free int) {
	if u.in.Now.Before(u.ro.NotBefore) {
		free = 0
		u.look(u.ro.NotBefore)
	}

	left := false
	for _, m := range u.brokenFirst() {
		t, tried := u.ro.Returns[m.now.Name]
		switch {
		case m.back && m.exists:
			left = left || tried && !t.ended() && !m.byHand
			u.want(m.was)
			continue
		case tried:
			left = true
			u.want(m.was)
			continue
		case !m.exists, !m.running, u.ro.Trials[m.now.Name].Failed != "":
		case free <= 0:
			left = true
			w := m.now
			w.Leave = !m.at
			u.want(w)
			continue
		default:
			free--
		}

		u.ro.Returns[m.now.Name] = Trial{Boot: m.was.Config[KeyBoot], Moved: u.in.Now}
		u.want(m.was)
		left = true
	}

	if !left {
		u.ro.Phase = HeldBack
		u.out.Want.Instances = slices.DeleteFunc(u.out.Want.Instances, func(w DesiredInstance) bool { return w.Service == u.s.Name })
		return
	}

	u.out.Rollouts[u.s.Name] = u.ro
	u.tell(TypeGoingBack, fmt.Sprintf("generation %d of %s failed (%s): it goes back to generation %d", u.ro.Generation, u.s.Name, u.ro.Reason, u.from))
}

// brokenFirst lists the members with those that do not serve anyway in front.
func (u *update) brokenFirst() []member {
	broken := func(m member) int {
		if m.running && u.ro.Trials[m.now.Name].Failed == "" {
			return 1
		}

		return 0
	}
	out := slices.Clone(u.members)
	slices.SortStableFunc(out, func(a, b member) int { return broken(a) - broken(b) })

	return out
}

// hold keeps the version before, until the file or the image changes or somebody asks to try again.
func (u *update) hold() {
	for _, m := range u.members {
		w := m.was
		if !m.hasWas {
			w = m.now
		}

		w.Config = cloneWith(w.Config, KeyHeld, heldWord(u.ro))
		u.want(w)
	}

	u.out.Rollouts[u.s.Name] = u.ro
	u.tell(TypeRolledBack, fmt.Sprintf(
		"generation %d of %s failed (%s) and went back to generation %d; it is not tried again until its file or image changes, or \"ic-agent retry %s/%s\" is run",
		u.ro.Generation, u.s.Name, u.ro.Reason, u.from, u.in.Project.Stack, u.s.Name))
}

// pause keeps each instance at the version it has.
func (u *update) pause() {
	for _, m := range u.members {
		w := m.now
		switch {
		case !m.exists && m.hasWas, m.back && !m.at:
			w = m.was
		case m.exists && !m.at:
			w.Leave = true
		}

		u.want(w)
	}

	u.out.Rollouts[u.s.Name] = u.ro
	u.tell(TypePaused, fmt.Sprintf(
		"the update of %s to generation %d is paused (%s): change the file, or go on with \"ic-agent retry %s/%s\"",
		u.s.Name, u.ro.Generation, u.ro.Reason, u.in.Project.Stack, u.s.Name))
}

func (u *update) tell(kind, text string) {
	u.out.Want.Blocked = append(u.out.Want.Blocked, Blocked{
		On: ID{KindService, u.s.Name}, Type: kind, Reason: text, At: u.s.At, Waits: kind == TypeGoingBack,
	})
}

// heldWord marks an instance of a service whose newer version failed, so that this is known when the ledger is lost.
func heldWord(ro Rollout) string { return ro.Hash + " " + ro.Digest }
