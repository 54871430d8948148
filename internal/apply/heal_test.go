package apply_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// healed does what the health daemon does about an unhealthy instance, all of it before the loop looks; with begun it
// has been started again.
func (b *bench) healed(name string, begun bool) {
	b.t.Helper()
	b.deaf()
	synctest.Wait()
	fell := time.Now()
	b.must(plan.StopInstance{Name: name, Grace: time.Second})
	status := "stopped"
	if begun {
		b.must(plan.StartInstance{Name: name})
		status = "starting"
	}

	detail, err := json.Marshal(map[string]any{"since": time.Now(), "output": "not well", "unwell": fell})
	if err != nil {
		b.t.Fatal(err)
	}

	b.must(plan.UpdateInstance{Name: name, Config: map[string]string{plan.KeyHealthStatus: status, plan.KeyHealthDetail: string(detail)}})
	b.loop.Dirty()
	b.pass(time.Second)
}

// must does something to Incus as somebody else.
func (b *bench) must(op plan.Op) {
	b.t.Helper()
	err := b.client.Do(b.t.Context(), "blog", op)
	if err != nil {
		b.t.Fatal(err)
	}
}

// TestUnhealthyIsTheReasonAlsoWhenItWasHealed: a version that is unhealthy is said to be, also when the health daemon has
// stopped or restarted it for that before the loop looked.
func TestUnhealthyIsTheReasonAlsoWhenItWasHealed(t *testing.T) {
	for _, begun := range []bool{true, false} {
		inBubble(t, func(b *bench) {
			b.edit(blog("1", check))
			b.verdict("web-1", "healthy")
			b.verdict("web-2", "healthy")
			b.pass(time.Minute)
			b.edit(blog("2", check, mode("b")))
			b.pass(3 * time.Second)
			b.healed("web-1", begun)
			b.mustHaveModes("a Running, a Running")
			b.verdict("web-1", "healthy")
			if text := b.condition(plan.TypeRolledBack); !strings.Contains(text, `it was unhealthy, and stopped or restarted for that: its probe said "not well"`) {
				t.Errorf("it says %q", text)
			}

			b.pass(time.Minute)
			b.mustHaveModes("a Running, a Running")
		})
	}
}

// TestStartedInTheMiddleOfAChange: what somebody starts between two steps of a change does not go on with half of it.
func TestStartedInTheMiddleOfAChange(t *testing.T) {
	for _, late := range []string{"GET", "PATCH"} {
		inBubble(t, func(b *bench) {
			b.good(blog("1"))
			p := blog("2", mode("b"))
			b.files.Store(p.Hash, p)
			b.server.Fail(incustest.Fault{Method: late, Path: "/1.0/instances/web-1", Nth: 1, Delay: 2 * time.Second})
			b.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
			b.pass(time.Second)
			b.mustHaveModes("a Stopped, a Running")
			b.must(plan.StartInstance{Name: "web-1"})
			between, _ := b.server.Instance("blog", "web-1")
			b.pass(2 * time.Minute)
			b.mustHaveModes("b Running, b Running")
			if after, _ := b.server.Instance("blog", "web-1"); !after.LastUsedAt.After(between.LastUsedAt) {
				t.Errorf("with a late %s, it runs with what it was before", late)
			}
		})
	}
}

// TestAStartIsShownWithoutAVerdict: between a start and the next look at Incus, nothing that was said of the run before is
// shown, or names would lead to what does not listen yet.
func TestAStartIsShownWithoutAVerdict(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", check))
		b.verdict("web-1", "healthy")
		b.verdict("web-2", "healthy")
		b.pass(time.Minute)
		p := blog("2", check, mode("b"))
		b.files.Store(p.Hash, p)
		b.server.Fail(incustest.Fault{Method: "GET", Path: "/1.0/instances", Project: "blog", Nth: 2, Delay: 10 * time.Second})
		b.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
		b.pass(5 * time.Second)
		b.mustHaveModes("b Running, a Running")
		all := b.loop.View().Observed.Instances
		for name, want := range map[string]string{"web-1": "", "web-2": "healthy"} {
			status, _ := plan.HealthOf(all[name])
			if status != want || all[name].Status != plan.Running {
				t.Errorf("%s is shown as %s and %q, want %q", name, all[name].Status, status, want)
			}
		}
	})
}
