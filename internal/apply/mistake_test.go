package apply_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestAnEmptyAnswerIsNoReasonToStartAnything: an Incus that for a moment does not know the project, or lists nothing of it,
// makes the loop forget nothing: what somebody stopped, and what ended by itself, is left so.
func TestAnEmptyAnswerIsNoReasonToStartAnything(t *testing.T) {
	for _, path := range []string{"/1.0/projects/blog", "/1.0/instances"} {
		inBubble(t, func(b *bench) {
			b.good(blog("1"))
			b.exit("db-1", 0)
			b.must(plan.StopInstance{Name: "web-2", Grace: time.Second})
			b.loop.StoppedBy("web-2", "root", time.Now())
			b.pass(time.Minute)
			b.mustRun("web-1")
			fault := incustest.Fault{Method: "GET", Path: path, Times: 2, Status: http.StatusNotFound, Message: "Project not found"}
			if path == "/1.0/instances" {
				fault.Status, fault.Message, fault.Empty = 0, "", true
			}

			b.server.Fail(fault)
			b.loop.Dirty()
			b.pass(100 * time.Millisecond)
			b.loop.Dirty()
			b.pass(20 * time.Minute)
			b.mustRun("web-1")
			b.mustBe(apply.InSync)
			if by := b.loop.View().Ledger.Stops["web-2"].By; by != "root" {
				t.Errorf("web-2 was stopped by %q", by)
			}
		})
	}
}

// TestWhatIsGoneAltogetherIsMadeAnew: that everything was deleted is believed when it stays so.
func TestWhatIsGoneAltogetherIsMadeAnew(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		for _, name := range []string{"db-1", "web-1", "web-2"} {
			b.quiet()
			b.must(plan.StopInstance{Name: name, Grace: time.Second})
			b.must(plan.DeleteInstance{Name: name})
		}

		b.loop.Dirty()
		b.pass(time.Minute)
		b.mustRun("db-1", "web-1", "web-2")
		b.mustBe(apply.InSync)
	})
}
