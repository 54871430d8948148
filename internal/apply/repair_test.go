package apply_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// settles waits, an hour at most, until the stack is in sync.
func (b *bench) settles() {
	b.t.Helper()
	for range 360 {
		synctest.Wait()
		if b.loop.View().State == apply.InSync {
			return
		}

		time.Sleep(10 * time.Second)
	}

	b.mustBe(apply.InSync)
}

// An instance whose root filesystem was lost runs again, rebuilt or made anew, with its address; its volume is not
// touched.
func TestLostRootFilesystemIsMadeAnew(t *testing.T) {
	for name, gone := range map[string]bool{"rebuilt": false, "made anew": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.edit(blog("1"))
				before, _ := b.server.Instance("blog", "db-1")
				b.server.LoseRoot("blog", "db-1", gone)
				b.writes()
				b.edit(blog("2", func(p *plan.Project) { p.Services[0].Environment = map[string]string{"A": "b"} }))
				b.settles()
				b.mustRun("db-1", "web-1", "web-2")
				after, _ := b.server.Instance("blog", "db-1")
				if a, c := before.Devices["eth0"]["ipv4.address"], after.Devices["eth0"]["ipv4.address"]; a != c {
					t.Errorf("db-1 moved from %s to %s", a, c)
				}

				for _, w := range b.writes() {
					if w == "DELETE /1.0/storage-pools/default/volumes/custom/vol-data" {
						t.Error("its volume was deleted")
					}
				}

				if led := b.loop.View().Ledger; len(led.Rootless) > 0 {
					t.Errorf("still remembered: %v", led.Rootless)
				}
			})
		})
	}
}

// A rebuild that was broken off by a kill of agent and Incus is done again, although the file went back to the image
// that Incus still names.
func TestBrokenRebuildIsRepeated(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.server.Fail(incustest.Fault{Method: http.MethodPost, Path: "/1.0/instances/db-1/rebuild", Times: -1, Status: http.StatusInternalServerError, Message: "unexpected EOF"})
		b.edit(blog("2", func(p *plan.Project) { p.Services[0].Image = plan.ImageRef{Ref: "pg:2"} }))
		b.end()
		b.server.Mend()
		b.begin()
		b.writes()
		b.edit(blog("1"))
		b.settles()
		b.mustRun("db-1", "web-1", "web-2")
		rebuilt := false
		for _, w := range b.writes() {
			rebuilt = rebuilt || w == "POST /1.0/instances/db-1/rebuild"
		}

		if !rebuilt {
			t.Error("half of a root filesystem was started")
		}
	})
}

// What Incus left behind of a broken rebuild is named with the command that removes it, until somebody did: then the
// instance is made anew.
func TestLeftDirectoryIsNamedUntilItIsGone(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.mustRun("db-1", "web-1", "web-2")
		const left = `Failed rebuilding instance from image: Failed creating instance from image: Volume path "/var/lib/incus/storage-pools/default/containers/blog_db-1" already exists`
		b.server.Fail(incustest.Fault{Method: http.MethodPost, Path: "/1.0/instances/db-1/rebuild", Times: 1, Status: http.StatusInternalServerError, Message: "unexpected EOF"})
		b.server.Fail(incustest.Fault{Method: http.MethodPost, Path: "/1.0/instances/db-1/rebuild", Times: -1, Op: left})
		b.server.Fail(incustest.Fault{Method: http.MethodPatch, Path: "/1.0/instances/db-1", Times: -1, Status: http.StatusNotFound, Message: "Failed to write backup file: Failed getting instance pool: Instance storage pool not found"})
		b.edit(blog("2", func(p *plan.Project) { p.Services[0].Image = plan.ImageRef{Ref: "pg:2"} }))
		b.server.LoseRoot("blog", "db-1", true)
		b.pass(20 * time.Minute)
		if c := b.condition("Failed"); !strings.Contains(c, "rm -r /var/lib/incus/storage-pools/default/containers/blog_db-1") {
			t.Errorf("the conditions say: %v", b.loop.View().Ledger.Conditions)
		}

		b.server.Mend()
		b.pass(20 * time.Minute)
		b.mustRun("db-1", "web-1", "web-2")
		b.mustBe(apply.InSync)
		if !slices.Contains(b.writes(), "DELETE /1.0/instances/db-1") {
			t.Error("it was not made anew")
		}
	})
}

// A network that Incus was interrupted in making is made anew: the stack runs without a hand.
func TestPendingNetworkIsMadeAnew(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.server.SlowNetworks(time.Second)
		time.AfterFunc(500*time.Millisecond, b.server.Restart)
		b.edit(blog("1"))
		b.settles()
		b.mustRun("db-1", "web-1", "web-2")
		if !slices.Contains(b.writes(), "DELETE /1.0/networks/blog-default") {
			t.Error("no network was left pending")
		}
	})
}
