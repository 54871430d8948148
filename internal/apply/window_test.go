package apply_test

import (
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// nightly opens at three each night, for an hour.
func nightly(p *plan.Project) { p.Window = plan.Window{At: "03:00"} }

// at lets time go by until the clock shows that hour and minute.
func (b *bench) at(hour, minute int) {
	b.t.Helper()
	now := time.Now()
	next := time.Date(now.Year(), now.Month(), now.Day(), hour, minute, 0, 0, time.Local)
	if !next.After(now) {
		next = next.AddDate(0, 0, 1)
	}

	b.pass(time.Until(next))
}

// TestUpdateWaitsForItsWindow: what would interrupt a running service waits, says so, and goes when the window opens, also
// by an agent that was started meanwhile; one begun in it is finished after it.
func TestUpdateWaitsForItsWindow(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.at(12, 0)
		b.good(blog("1", nightly)) // what is new waits for nothing
		b.writes()
		b.edit(blog("2", nightly, mode("b")))
		b.mustBe(apply.Scheduled)
		b.mustHaveModes("a Running, a Running")
		if c := b.condition("Scheduled"); !strings.Contains(c, "waits for the window, Sun 03:00") || !strings.Contains(c, "ic-agent apply blog/web --now") {
			t.Errorf("the stack says %q", c)
		}

		if w := b.writes(); len(w) > 0 {
			t.Errorf("written outside the window: %v", w)
		}

		b.at(2, 59)
		b.mustHaveModes("a Running, a Running")
		b.end()
		b.begin()
		b.edit(blog("2", nightly, mode("b")))
		b.mustBe(apply.Scheduled)
		b.at(3, 1)
		b.mustHaveModes("b Running, b Running")
		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)

		// Begun a minute before the window ends, it is finished after it.
		b.at(3, 59)
		b.edit(blog("3", nightly, mode("c")))
		b.mustHaveModes("c Running, b Running")
		b.at(4, 10)
		b.mustHaveModes("c Running, c Running")
	})
}

// TestWindowKeepsNothingElseWaiting: changes that interrupt nothing, replicas, new and broken services go at once.
func TestWindowKeepsNothingElseWaiting(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.at(12, 0)
		b.good(blog("1", nightly))
		b.edit(blog("2", nightly, policy(func(s *plan.Service) {
			s.Config = map[string]string{"limits.memory": "1GiB"}
			s.Replicas = 3
		})))
		b.mustRun("db-1", "web-1", "web-2", "web-3")
		if i, _ := b.server.Instance("blog", "web-1"); i.Config["limits.memory"] != "1GiB" {
			t.Errorf("the limit is %q", i.Config["limits.memory"])
		}

		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
		b.edit(blog("3", nightly, func(p *plan.Project) {
			p.Services[1].Environment = map[string]string{"MODE": "b"}
			p.Services = append(p.Services, plan.Service{Name: "job", Image: plan.ImageRef{Ref: "pg:1"}, Replicas: 1})
		}))
		b.mustRun("db-1", "job-1", "web-1", "web-2", "web-3") // fewer replicas interrupt one
		b.mustHaveModes("a Running, a Running, a Running")
		for _, name := range []string{"web-1", "web-2", "web-3"} {
			b.exit(name, 1)
		}

		b.pass(time.Second)
		b.mustRun("db-1", "job-1", "web-1", "web-2")
		b.mustHaveModes("b Running, b Running, a Stopped")
	})
}

// TestWordDoesNotWait: what somebody asks for by a word goes at once, that word outlives the agent, and the next edit
// waits again.
func TestWordDoesNotWait(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.at(12, 0)
		b.good(blog("1", nightly))
		b.edit(blog("2", nightly, mode("b")))
		b.pass(time.Minute)
		b.mustBe(apply.Scheduled)
		b.apply("db", true)
		b.mustHaveModes("a Running, a Running")
		b.apply("web", false)
		b.mustHaveModes("a Running, a Running")
		b.apply("web", true)
		b.mustHaveModes("b Running, a Running")
		b.end()
		b.begin()
		b.edit(blog("2", nightly, mode("b")))
		b.pass(2 * time.Minute)
		b.mustHaveModes("b Running, b Running")
		b.mustBe(apply.InSync)

		b.edit(blog("3", nightly, mode("c")))
		b.mustBe(apply.Scheduled)
		done := make(chan struct{})
		b.loop.Rollback(1, "root", done)
		<-done
		b.pass(2 * time.Minute)
		b.mustHaveModes("a Running, a Running")
		done = make(chan struct{})
		b.loop.Retry("", "root", done)
		<-done
		b.pass(2 * time.Minute)
		b.mustHaveModes("c Running, c Running")
	})
}

// TestGivenUpVersionWaitsForItsSuccessor: a version that went back stays back over the window, and the next edit waits.
func TestGivenUpVersionWaitsForItsSuccessor(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.at(12, 0)
		b.good(blog("1", nightly))
		b.edit(blog("2", nightly, mode("bad")))
		b.apply("", true)
		b.exit("web-1", 3)
		b.pass(2 * time.Minute)
		b.mustHaveModes("a Running, a Running")
		if c := b.condition("RolledBack"); c == "" {
			t.Errorf("conditions: %v", b.loop.View().Ledger.Conditions)
		}

		b.at(3, 30)
		b.mustHaveModes("a Running, a Running")
		b.at(12, 0)
		b.edit(blog("3", nightly, mode("c")))
		b.mustBe(apply.Scheduled)
		b.mustHaveModes("a Running, a Running")
		b.at(3, 30)
		b.mustHaveModes("c Running, c Running")
	})
}

// apply is "ic-agent apply blog/SERVICE", with --now when now says so.
func (b *bench) apply(service string, now bool) {
	b.t.Helper()
	done := make(chan struct{})
	b.loop.Apply(service, now, "root", done)
	<-done
	b.pass(time.Second)
}
