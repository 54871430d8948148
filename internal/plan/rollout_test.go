package plan_test

import (
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestWhatCannotBeSpelledOutIsLeft: where one instance's version before cannot be spelled out any more, as when a network
// of it has no room, a failed update leaves what runs: nothing is made of nothing, and nothing gets the failed version.
func TestWhatCannotBeSpelledOutIsLeft(t *testing.T) {
	for _, phase := range []plan.Phase{plan.GoingBack, plan.HeldBack, plan.Paused} {
		s := story{replicas: 2, versions: make([]version, 2)}
		w, led := newWorld(), newLedger()
		before := s.project(0)
		in := input(before, w.Observed, led)
		for _, step := range plan.Diff(plan.Render(before, in), w.Observed, *led).Steps {
			err := w.do(step.Op)
			if err != nil {
				t.Fatal(err)
			}
		}

		for name, inst := range w.Instances {
			led.Started[name] = inst.Config[plan.KeyBoot]
		}

		p := s.project(1)
		in = input(p, w.Observed, led)
		led.Good = map[string]plan.Version{"web": {Hash: before.Hash, Service: before.Services[0], Image: in.Images["img:1"], Volumes: before.Volumes}}
		led.Rollouts = map[string]plan.Rollout{"web": {Hash: p.Hash, Digest: in.Images["img:1"].Digest, Phase: phase, Reason: "it failed"}}
		old := plan.Before(plan.Widen(p, led.Good), led.Good, in)
		if len(old.Instances) != 2 {
			t.Fatalf("before: %v", old.Instances)
		}

		old.Instances = old.Instances[:1]
		rolled := plan.Roll(plan.Rolling{
			Project: p, New: plan.Render(p, in), Old: old, Have: w.Observed, Ledger: *led, Addresses: in.Addresses, Now: w.clock.Add(time.Hour),
		})
		led.Good, led.Rollouts = rolled.Good, rolled.Rollouts
		if got := plan.Diff(rolled.Want, w.Observed, *led); !got.Empty() {
			t.Errorf("%s: %s", phase, got)
		}
	}
}
