package plan_test

import (
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestBootOrder: Incus starts what has no priority before all that have one, so in a stack with an order all have one;
// those that others wait for are started first and stopped last. A stack without an order starts in parallel.
func TestBootOrder(t *testing.T) {
	p := blog()
	p.Services = append(p.Services, plan.Service{
		Name: "cron", Image: plan.ImageRef{Ref: "busybox"}, Replicas: 1, Networks: []plan.Attachment{{Network: "default"}},
		DependsOn: []plan.Dependency{{Service: "web", Condition: "service_healthy"}},
	})
	check := func(p plan.Project, want map[string][2]string) {
		t.Helper()
		w, led := newWorld(), newLedger()
		for _, i := range plan.Render(p, input(p, w.Observed, led)).Instances {
			got := [2]string{i.Config["boot.autostart.priority"], i.Config["boot.stop.priority"]}
			if got != want[i.Name] {
				t.Errorf("%s starts and stops with priority %q, want %q", i.Name, got, want[i.Name])
			}
		}
	}
	check(p, map[string][2]string{"db-1": {"3", ""}, "web-1": {"2", "1"}, "cron-1": {"1", "2"}})

	for i := range p.Services {
		p.Services[i].DependsOn = nil
	}

	check(p, map[string][2]string{})
}

// TestHopelessStackIsNotBegun: a new stack of which nothing can run leaves nothing in Incus. What waits for what is
// blocked is no reason to begin; what runs without it is.
func TestHopelessStackIsNotBegun(t *testing.T) {
	w, led := newWorld(), newLedger()
	want := plan.Render(blog(), input(blog(), w.Observed, led))
	taken := plan.Blocked{On: plan.ID{Kind: plan.KindInstance, Name: "db-1"}, Service: "db", Reason: "the host port tcp 0.0.0.0:5432 is taken by postgresql.service"}
	want.Blocked = append(want.Blocked, taken)
	want.Instances = want.Instances[1:]
	p := plan.Diff(want, w.Observed, *led)
	if !p.Empty() || !strings.Contains(p.String(), "5432") {
		t.Errorf("got\n%s", p)
	}

	free := blog()
	free.Services[1].DependsOn = nil
	want = plan.Render(free, input(free, w.Observed, led))
	want.Blocked = append(want.Blocked, taken)
	want.Instances = want.Instances[1:]
	p = plan.Diff(want, w.Observed, *led)
	if !strings.Contains(p.String(), "create and start instance/web-1") {
		t.Errorf("got\n%s", p)
	}
}
