package apply_test

import (
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestEditRightAfterTheFirstStart: what serves changes in turn also before a version is known to do well; the start of
// all at once stays what it was.
func TestEditRightAfterTheFirstStart(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.mustBe(apply.InSync)
		b.edit(blog("2", mode("b")))
		b.mustHaveModes("b Running, a Running")
		b.edit(blog("3", mode("c")))
		b.mustHaveModes("c Running, a Running")
		b.end()
		b.begin()
		b.edit(blog("3", mode("c")))
		b.pass(20 * time.Second)
		b.mustHaveModes("c Running, a Running")
		b.pass(15 * time.Second)
		b.mustHaveModes("c Running, c Running")
		b.pass(time.Minute)
		b.mustBe(apply.InSync)
		if g := b.loop.View().Ledger.Good["web"]; g.Hash != "3" || len(b.loop.View().Ledger.Rollouts) > 0 {
			t.Errorf("good is %q; rollouts %v", g.Hash, b.loop.View().Ledger.Rollouts)
		}
	})
}

// TestBrokenFirstVersionIsMendedAtOnce: what does not run, or is not healthy, serves nobody and waits for nothing; what
// does serve is changed last.
func TestBrokenFirstVersionIsMendedAtOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", check))
		b.verdict("web-1", "unhealthy")
		b.verdict("web-2", "unhealthy")
		b.edit(blog("2", check, mode("b")))
		b.mustHaveModes("b Running, b Running")
		b.verdict("web-1", "healthy")
		b.verdict("web-2", "unhealthy")
		b.edit(blog("3", check, mode("c")))
		b.mustHaveModes("b Running, c Running")
		if c := b.condition("Waiting"); !strings.Contains(c, "web-2") {
			t.Errorf("it says %q", c)
		}

		b.verdict("web-2", "healthy")
		b.pass(15 * time.Second)
		b.mustHaveModes("c Running, c Running")
	})
}

// TestNoneToGoBackTo: a version that fails before any has done well stays where it is, and goes no further until it does
// well after all, the file changes, or somebody says so.
func TestNoneToGoBackTo(t *testing.T) {
	fails := func(b *bench, change ...func(*plan.Project)) {
		b.edit(blog("1", change...))
		b.edit(blog("2", append(change, mode("b"))...))
		b.exit("web-1", 3)
		b.mustHaveModes("b Stopped, a Running")
	}
	for _, c := range []struct {
		name, want string
		then       func(*bench)
	}{
		{"time alone", "b Stopped, a Running", func(b *bench) {
			b.pass(time.Hour)
			if text := b.condition(plan.TypeUpdateFailed); !strings.Contains(text, "exit code 3") || !strings.Contains(text, "ic-agent retry blog/web") {
				b.t.Errorf("it says %q", text)
			}
		}},
		{"it does well", "b Running, b Running", func(b *bench) {
			err := b.client.Do(b.t.Context(), "blog", plan.StartInstance{Name: "web-1"})
			if err != nil {
				b.t.Fatal(err)
			}
		}},
		{"a word", "b Stopped, b Running", func(b *bench) { b.loop.Retry("web", "root", nil) }},
		{"an edit", "c Running, c Running", func(b *bench) { b.edit(blog("3", mode("c"))) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				fails(b)
				c.then(b)
				b.pass(3 * time.Minute)
				b.mustHaveModes(c.want)
			})
		})
	}

	t.Run("pause", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			fails(b, policy(func(s *plan.Service) { s.Rollout.Action = plan.ActionPause }))
			b.pass(time.Hour)
			b.mustHaveModes("b Stopped, a Running")
			if text := b.condition(plan.TypePaused); !strings.Contains(text, "is paused") {
				t.Errorf("it says %q", text)
			}
		})
	})
}
