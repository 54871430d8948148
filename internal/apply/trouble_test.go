package apply_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestRollbackAndARegistryThatLimits: after going back, a newer image is found and cannot be fetched.
func TestRollbackAndARegistryThatLimits(t *testing.T) {
	inBubble(t, func(b *bench) {
		daily := func(p *plan.Project) { p.Services[1].Image.Every = 24 * time.Hour }
		b.good(blog("1", daily))
		b.good(blog("2", daily, mode("b")))
		b.loop.Rollback(1, "root", nil)
		b.pass(5 * time.Minute)
		b.mustHaveModes("a Running, a Running")
		b.quiet() // two days of pings take their time
		b.images.revise("new")
		b.images.mu.Lock()
		b.images.manifests = fmt.Errorf("too many requests: %w", image.ErrUnavailable)
		b.images.mu.Unlock()
		b.pass(50 * time.Hour)
		b.mustHaveModes("a Running, a Running")
		b.images.mu.Lock()
		b.images.manifests = nil
		b.images.mu.Unlock()
		b.pass(time.Hour)
		if got := b.runs("web-1"); !strings.HasSuffix(got, "web1new") {
			t.Errorf("it runs %s", got)
		}
	})
}

// TestDestroyOfWhatWasNeverRead is refused: a file that was never understood, and is gone, left nothing.
func TestDestroyOfWhatWasNeverRead(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "broken"})
		done := make(chan error, 1)
		b.loop.Gone(nil)
		go func() {
			_, err := b.loop.Destroy(b.t.Context(), false, false)
			done <- err
		}()
		err := <-done
		if !errors.Is(err, apply.ErrInForce) {
			t.Errorf("got %v", err)
		}
	})
}

// TestWhatAnOutageBrokeOffGoesOnAtOnce when Incus is back, however long it was away.
func TestWhatAnOutageBrokeOffGoesOnAtOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.server.Fail(incustest.Fault{Method: http.MethodPut, Path: "*/web-1/state", Drop: true, Times: 2})
		b.edit(blog("2", mode("b")))
		b.server.Down()
		b.pass(time.Hour)
		b.server.Up()
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running, a Running")
		b.pass(2 * time.Minute)
		b.mustHaveModes("b Running, b Running")
		b.mustBe(apply.InSync)
	})
}

// TestAddressesOutliveARefusedSubnet: what a network has handed out is not forgotten while its subnet is refused.
func TestAddressesOutliveARefusedSubnet(t *testing.T) {
	inBubble(t, func(b *bench) {
		allow := func(p *plan.Project) { p.Allow = []string{"network-recreate"} }
		late := func(p *plan.Project) { p.Services[0].Replicas = 0 }
		b.edit(blog("1", allow, late)) // web has the first addresses
		b.edit(blog("2", allow))
		taken := netip.MustParsePrefix("10.99.0.0/24")
		_, err := b.db.Reserve("other", func(map[string]netip.Prefix) (netip.Prefix, error) { return taken, nil })
		if err != nil {
			t.Fatal(err)
		}

		b.writes()
		b.edit(blog("3", allow, func(p *plan.Project) { p.Networks[0].Subnet = taken }))
		b.mustBe(apply.Blocked)
		b.edit(blog("4", allow))
		b.mustBe(apply.InSync)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes:\n%s", strings.Join(w, "\n"))
		}
	})
}

// TestRemovalIsNotRetriedByEvents: what cannot be removed is tried again with a growing pause, however many events come.
func TestRemovalIsNotRetriedByEvents(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.server.Fail(incustest.Fault{Method: http.MethodDelete, Path: "/1.0/networks/*", Times: -1, Status: 400, Message: "it does not want to"})
		b.loop.Gone(nil)
		b.pass(65 * time.Second)
		b.writes()
		for range 100 {
			b.loop.Dirty()
			time.Sleep(3 * time.Second)
		}

		tries := len(b.writes())
		if tries < 2 || tries > 12 {
			t.Errorf("%d attempts in five minutes", tries)
		}

		b.server.Mend()
		b.pass(10 * time.Minute)
		b.mustBe(apply.Parked)
	})
}
