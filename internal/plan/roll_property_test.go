package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// story is what happens to a service with a volume: its versions one after the other, some of which end at once.
type story struct {
	replicas, parallelism int
	versions              []version
}

type version struct {
	bad bool
	// cuts are, pass by pass, after how many steps the agent is killed; what is negative is not.
	cuts []int
	// blind says, pass by pass, that Incus did not answer until then.
	blind []bool
}

func anyStory(t *rapid.T) story {
	s := story{replicas: rapid.IntRange(1, 3).Draw(t, "replicas"), parallelism: rapid.IntRange(1, 2).Draw(t, "parallelism")}
	for i := range rapid.IntRange(2, 4).Draw(t, "versions") {
		s.versions = append(s.versions, version{
			bad:   i > 0 && rapid.Bool().Draw(t, "bad"),
			cuts:  rapid.SliceOfN(rapid.IntRange(-3, 4), 4, 4).Draw(t, "cuts"),
			blind: rapid.SliceOfN(rapid.Bool(), 4, 4).Draw(t, "blind"),
		})
	}

	return s
}

// teller acts a story out on a world, and checks each pass.
type teller struct {
	*rapid.T
	w   *world
	led *plan.Ledger
	s   story
	p   plan.Project
	// given are the versions that were given up.
	given map[string]bool
}

// project is the service in its n-th version.
func (s story) project(n int) plan.Project {
	return plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog", Source: "blog.yaml", Hash: fmt.Sprint("v", n),
		Volumes: []plan.Volume{{Name: "x", Incus: "vol-x"}},
		Services: []plan.Service{{
			Name: "web", Replicas: s.replicas, Image: plan.ImageRef{Ref: "img:1"}, Environment: map[string]string{"V": fmt.Sprint(n)},
			Mounts:  []plan.Mount{{Type: plan.MountVolume, Source: "x", Target: "/x"}},
			Rollout: plan.RolloutPolicy{Parallelism: s.parallelism}, Restart: "always",
		}},
	}
}

// pass is one pass of the agent, killed after so many steps; it reports whether there was something to do.
func (l *teller) pass(cut int, blind bool) bool {
	in := input(l.p, l.w.Observed, l.led)
	r := plan.Rolling{
		Project: l.p, New: plan.Render(l.p, in), Old: plan.Before(plan.Widen(l.p, l.led.Good), l.led.Good, in), Have: l.w.Observed,
		Ledger: *l.led, Addresses: in.Addresses, Now: l.w.clock,
	}
	if blind {
		r.Blind = l.w.clock
	}

	rolled := plan.Roll(r)
	if blind && len(rolled.Accepted) > 0 {
		l.Fatalf("accepted without having been seen: %v", rolled.Accepted)
	}

	l.led.Good, l.led.Rollouts = rolled.Good, rolled.Rollouts
	for _, name := range rolled.Again {
		delete(l.led.Started, name)
	}

	p := plan.Diff(rolled.Want, l.w.Observed, *l.led)
	l.check(p)
	for i, step := range p.Steps {
		stop, ok := step.Op.(plan.StopInstance)
		if ok {
			delete(l.led.Started, stop.Name) // noted before the first step is tried
		}

		if i == cut {
			break
		}

		err := l.w.do(step.Op)
		if err != nil {
			l.Fatalf("%s: %v\n%s", step, err, p)
		}
	}

	l.live()

	return !p.Empty()
}

// check holds a plan against what no plan may do.
func (l *teller) check(p plan.Plan) {
	stops := 0
	for _, step := range p.Steps {
		switch op := step.Op.(type) {
		case plan.DeleteVolume, plan.DeleteInstance:
			l.Fatalf("something is deleted:\n%s", p)
		case plan.StopInstance:
			if l.w.Instances[op.Name].Status == plan.Running {
				stops++
			}
		case plan.UpdateInstance:
			to := op.Config["environment.V"]
			if to != "" && l.given["v"+to] {
				l.Fatalf("version %s was given up, and is tried again:\n%s", to, p)
			}
		}
	}

	if stops > max(l.s.parallelism, 1) {
		l.Fatalf("%d of %d instances are interrupted at once:\n%s", stops, l.s.replicas, p)
	}
}

// live lets the instances run: those of bad versions end.
func (l *teller) live() {
	for name, inst := range l.w.Instances {
		if inst.Status != plan.Running {
			continue
		}

		l.led.Started[name] = inst.Config[plan.KeyBoot]
		var n int
		_, _ = fmt.Sscan(inst.Config["environment.V"], &n)
		if l.s.versions[n].bad {
			inst.Status = plan.Stopped
			l.w.Instances[name] = inst
			if l.led.Exits == nil {
				l.led.Exits = map[string]plan.Exit{}
			}

			l.led.Exits[name] = plan.Exit{Run: inst.LastUsed, Code: 3, Known: true}
		}
	}

	l.w.clock = l.w.clock.Add(20 * time.Second)
}

// tell acts the story out and returns which version each instance has at its end; with calm nobody is killed and Incus
// always answers.
func (s story) tell(t *rapid.T, calm bool) map[string]string {
	l := &teller{T: t, w: newWorld(), led: newLedger(), s: s, given: map[string]bool{}}
	good := ""
	for n, v := range s.versions {
		l.p = s.project(n)
		for i := range v.cuts {
			if !calm {
				l.pass(v.cuts[i], v.blind[i])
			}
		}

		busy := true
		for range 30 {
			busy = l.pass(-1, false)
		}

		if busy {
			t.Fatalf("it does not settle: %+v", l.led.Rollouts)
		}

		switch {
		case v.bad:
			if ro := l.led.Rollouts["web"]; ro.Phase != plan.HeldBack || ro.Hash != l.p.Hash {
				t.Fatalf("version %d is bad, and its update is %+v", n, ro)
			}

			l.given[l.p.Hash] = true
		default:
			good = fmt.Sprint(n)
			if l.led.Good["web"].Hash != l.p.Hash || len(l.led.Rollouts) > 0 {
				t.Fatalf("version %d is good, and what is known of it is %s, %+v", n, l.led.Good["web"].Hash, l.led.Rollouts)
			}
		}

		for _, name := range slices.Sorted(maps.Keys(l.w.Instances)) {
			if inst := l.w.Instances[name]; inst.Status != plan.Running || inst.Config["environment.V"] != good {
				t.Fatalf("after version %d, %s is %s with version %s, want %s", n, name, inst.Status, inst.Config["environment.V"], good)
			}
		}
	}

	out := map[string]string{}
	for name, inst := range l.w.Instances {
		out[name] = inst.Config["environment.V"] + " " + inst.Config[plan.KeyHeld]
	}

	return out
}

// TestRollKeepsItsPromises: whatever versions come, wherever the agent is killed and Incus silent, no more instances are
// interrupted at once than allowed, nothing is deleted, a bad version goes back and is not tried again, what was not seen
// proves nothing, and the end is that of an agent that was never disturbed.
func TestRollKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyStory(t)
		disturbed, calm := s.tell(t, false), s.tell(t, true)
		if !maps.Equal(disturbed, calm) {
			t.Fatalf("disturbed it ends as %v, else as %v", disturbed, calm)
		}
	})
}
