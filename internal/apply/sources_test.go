package apply_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A directory that the volume lacks holds its service and no other; once made, the service runs, and nothing is asked
// again.
func TestMissingSubpathHoldsItsService(t *testing.T) {
	inBubble(t, func(b *bench) {
		var asked atomic.Int32
		var there atomic.Bool
		b.host.Within = func(_ context.Context, project, pool, volume, path string) (bool, error) {
			if asked.Add(1) > 0 && (project != "blog" || pool != "default" || volume != "vol-data" || path != "a/b") {
				t.Errorf("asked for %s/%s/%s/%s", project, pool, volume, path)
			}

			return there.Load(), nil
		}
		b.edit(blog("1", func(p *plan.Project) {
			p.Services[1].Mounts = []plan.Mount{{Type: plan.MountVolume, Source: "data", Target: "/x", Subpath: "a/b"}}
		}))
		b.mustBe(apply.Blocked)
		b.mustRun("db-1")
		there.Store(true)
		time.Sleep(10 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		before := asked.Load()
		time.Sleep(time.Hour)
		if n := asked.Load(); n != before {
			t.Errorf("asked %d times more", n-before)
		}
	})
}
