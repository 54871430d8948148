package incus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// heard is a collection of hints.
type heard struct {
	mu   sync.Mutex
	list []incus.Hint
	slow time.Duration
}

func (h *heard) on(hint incus.Hint) {
	h.mu.Lock()
	h.list = append(h.list, hint)
	h.mu.Unlock()
	time.Sleep(h.slow)
}

// take returns what was heard since the last take, after everything has come to rest.
func (h *heard) take() []string {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []string{}
	for _, x := range h.list {
		if x.Resync {
			list = append(list, "resync")
			continue
		}
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s/%s/%s %s", x.Action, x.Kind, x.Project, x.Name, x.User)))
	}
	h.list = nil
	return list
}

// listen starts Hints and stops it at the end of the test.
func (s *stage) listen(h *heard) {
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- s.c.Hints(ctx, h.on) }()
	s.Cleanup(func() {
		cancel()
		err := <-done
		if !errors.Is(err, context.Canceled) {
			s.Errorf("Hints ended with %v", err)
		}
	})
}

func (s *stage) wantHints(h *heard, want ...string) {
	s.Helper()
	d := cmp.Diff(append([]string{}, want...), h.take())
	if d != "" {
		s.Error(d)
	}
}

func TestHintsTellWhatHappenedToWhat(t *testing.T) {
	inBubble(t, incustest.Options{User: "alice"}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		s.wantHints(h, "resync")
		s.do(plan.CreateProject{Name: "shop"}, plan.CreateNetwork{Name: "shop-net", Config: map[string]string{"ipv6.address": "none"}}, plan.CreateVolume{Pool: "default", Name: "data"})
		s.wantHints(h, "project-created project/shop/shop alice", "network-created network/default/shop-net alice", "storage-volume-created storage-volume/blog/data alice")
		s.do(web(true), plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "1"}}, plan.StopInstance{Name: "web"})
		s.wantHints(h, "instance-created instance/blog/web alice", "instance-started instance/blog/web alice", "instance-updated instance/blog/web",
			"instance-paused instance/blog/web alice", "instance-stopped instance/blog/web alice")
		s.do(plan.StartInstance{Name: "web"})
		h.take()
		err := s.srv.Exit("blog", "web", 3)
		if err != nil {
			s.Fatal(err)
		}
		s.wantHints(h, "instance-shutdown instance/blog/web")
	})
}

func TestLookingIsNotHinted(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		h.take()
		for _, action := range []string{"instance-exec", "instance-console", "instance-log-retrieved", "instance-file-retrieved", "instance-console-retrieved"} {
			s.srv.Emit("blog", action, "/1.0/instances/web")
		}
		s.wantHints(h)
	})
}

func TestARestartOfIncusIsOneRelistAndNoWrite(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		s.wantHints(h, "resync")
		time.Sleep(time.Hour)
		s.wantHints(h)
		s.srv.Restart()
		time.Sleep(5 * time.Second)
		s.wantHints(h, "resync")
		if w := s.writes(); len(w) > 0 {
			s.Errorf("wrote %v", w)
		}
	})
}

func TestAnIncusThatIsDownForAnHour(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		h.take()
		s.srv.Down()
		time.Sleep(time.Hour)
		s.wantHints(h)
		s.srv.Up()
		time.Sleep(5 * time.Second)
		s.wantHints(h, "resync")
	})
}

func TestAClosedStreamIsTakenUpAgain(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		h.take()
		time.Sleep(time.Minute)
		s.srv.CutEvents()
		s.do(web(false)) // nobody hears of it
		time.Sleep(5 * time.Second)
		s.wantHints(h, "resync")
		s.do(plan.StartInstance{Name: "web"})
		s.wantHints(h, "instance-started instance/blog/web root")
	})
}

func TestAHalfOpenStreamIsNoticedWithinAMinute(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		h.take()
		time.Sleep(time.Hour) // pings keep a silent stream open
		s.wantHints(h)
		s.srv.FreezeEvents(true)
		time.Sleep(61 * time.Second)
		s.srv.FreezeEvents(false)
		time.Sleep(5 * time.Second)
		s.wantHints(h, "resync")
	})
}

func TestAFloodIsBoundedAndEndsInARelist(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{slow: time.Second}
		s.listen(h)
		time.Sleep(2 * time.Second)
		h.take()
		for batch := range 100 { // ten seconds of a thousand a second
			for i := range 100 {
				s.srv.Emit("other", "instance-updated", fmt.Sprintf("/1.0/instances/i%d-%d", batch, i))
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Hour)
		list := h.take()
		resyncs := 0
		for _, x := range list {
			if x == "resync" {
				resyncs++
			}
		}
		if len(list) > 3000 || resyncs == 0 {
			s.Errorf("%d hints, %d of them resync", len(list), resyncs)
		}
	})
}

func TestEqualHintsAreMergedWhileOneIsHandled(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{slow: time.Second}
		s.listen(h)
		time.Sleep(2 * time.Second)
		h.take()
		for range 500 {
			s.srv.Emit("other", "instance-updated", "/1.0/instances/noisy")
		}
		time.Sleep(10 * time.Second)
		s.wantHints(h, "instance-updated instance/other/noisy root", "instance-updated instance/other/noisy root")
	})
}

func TestBadLuckWithEventsIsSurvived(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		h := &heard{}
		s.listen(h)
		h.take()
		s.srv.FaultEvents(incustest.EventFaults{Drop: 0.3, Duplicate: 0.3, Reorder: 0.3, Seed: 1})
		for i := range 200 {
			s.srv.Emit("blog", "instance-updated", fmt.Sprintf("/1.0/instances/i%d", i))
		}
		time.Sleep(time.Second)
		list := h.take()
		if len(list) < 100 || len(list) > 250 {
			s.Errorf("%d hints", len(list))
		}
	})
}

func FuzzEventsNeverPanic(f *testing.F) {
	f.Add([]byte(`{"type":"lifecycle","metadata":{"action":"instance-started","source":"/1.0/instances/web?project=p","name":"web","requestor":null},"project":"p"}`))
	f.Add([]byte(`{"type":"lifecycle","metadata":{"action":"","source":":%zz"}}`))
	f.Add([]byte(`{"type":"lifecycle","metadata":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, ok := incus.ParseHint(data)
		if ok && h.Resync {
			t.Error("an event cannot ask for a resync")
		}
	})
}
