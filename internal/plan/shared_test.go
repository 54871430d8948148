package plan_test

import (
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// on is a stack with a network of a name of its own.
func on(stack, network string) plan.Project {
	p := story{replicas: 1, versions: []version{{}}}.project(0)
	p.Stack, p.Networks = stack, []plan.Network{{Name: "net", Incus: network}}
	p.Services[0].Networks = []plan.Attachment{{Network: "net"}}

	return p
}

func run(t *testing.T, w *world, p plan.Plan) {
	t.Helper()
	err := w.run(p)
	if err != nil {
		t.Fatal(err)
	}
}

// TestANetworkIsOneStacks: two stacks whose files name one network do not take it from each other for ever.
func TestANetworkIsOneStacks(t *testing.T) {
	w, led := newWorld(), newLedger()
	a := on("a", "shared")
	run(t, w, plan.Diff(plan.Render(a, input(a, w.Observed, led)), w.Observed, *led))

	b := on("b", "shared")
	b.Name, b.Incus = "other", "other"
	have := w.Observed
	have.Project, have.Instances, have.Volumes = nil, nil, nil
	got := plan.Diff(plan.Render(b, input(b, have, led)), have, *newLedger()).String()
	if !strings.Contains(got, "nothing to do") || !strings.Contains(got, "conflict network/shared: the stack a has a network of this name") {
		t.Errorf("the other stack has %s", got)
	}
}

// TestARenamedFileKeepsItsNetworks, in whichever step the agent is killed.
func TestARenamedFileKeepsItsNetworks(t *testing.T) {
	for cut := range 4 {
		w, led := newWorld(), newLedger()
		a := on("a", "net")
		run(t, w, plan.Diff(plan.Render(a, input(a, w.Observed, led)), w.Observed, *led))
		for name, inst := range w.Instances {
			led.Started[name] = inst.Config[plan.KeyBoot]
		}

		b := on("b", "net")
		p := plan.Diff(plan.Render(b, input(b, w.Observed, led)), w.Observed, *led)
		for _, s := range p.Steps[:min(cut, len(p.Steps))] {
			err := w.do(s.Op)
			if err != nil {
				t.Fatal(err)
			}
		}

		run(t, w, plan.Diff(plan.Render(b, input(b, w.Observed, led)), w.Observed, *led))
		p = plan.Diff(plan.Render(b, input(b, w.Observed, led)), w.Observed, *led)
		if !p.Empty() || len(p.Blocked) > 0 || w.Project.Config[plan.KeyStack] != "b" || w.Networks["net"].Config[plan.KeyStack] != "b" {
			t.Errorf("killed after %d steps: %s%v %v", cut, p, w.Project.Config, w.Networks["net"].Config)
		}
	}
}
