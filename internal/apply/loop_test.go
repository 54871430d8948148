package apply_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestNewStackRuns(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		source := b.loop.View().Observed.Instances["web-2"].Devices[plan.File{Target: "/conf"}.HostPath()]["source"]
		content, err := os.ReadFile(source)
		if err != nil || string(content) != "a" {
			t.Errorf("the config file %s holds %q: %v", source, content, err)
		}
	})
}

// TestConvergedPassWritesNothing: a look at a stack that is as it should be makes no change, and few reads.
func TestConvergedPassWritesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.server.ForgetCalls()
		asks := b.images.asks
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "1"})
		reads := len(b.server.Calls())
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		if reads == 0 || reads > 6 {
			t.Errorf("%d reads, want 1 to 6", reads)
		}

		if b.images.asks != asks {
			t.Errorf("the registry was asked %d times", b.images.asks-asks)
		}
	})
}

func TestEditTouchesOnlyItsService(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		b.edit(blog("2", mode("b")))
		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		for _, w := range b.writes() {
			if strings.Contains(w, "db-1") {
				t.Errorf("the database was touched: %s", w)
			}
		}

		i, _ := b.server.Instance("blog", "web-2")
		if i.Config["environment.MODE"] != "b" {
			t.Errorf("MODE is %q", i.Config["environment.MODE"])
		}
	})
}

func TestBrokenEditKeepsLastGood(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "broken"})
		b.mustBe(apply.Invalid)
		b.mustRun("db-1", "web-1", "web-2")
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		c := b.loop.View().Ledger.Conditions
		if len(c) != 1 || c[0].Type != "Invalid" || c[0].Text != "blog.yaml:1: broken" {
			t.Errorf("conditions: %+v", c)
		}

		// The last good one is still kept right, also by an agent that has been started since.
		b.end()
		b.server.Exit("blog", "db-1", 0) //nolint:errcheck // it is running
		b.begin()
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "broken"})
		b.mustBe(apply.Invalid)
		b.edit(blog("2", mode("b")))
		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
	})
}

// TestBrokenOffAtEveryCall: whatever call the connection breaks at, before or after Incus has acted on it, and
// whatever call the agent dies in, the next one finishes the work, makes nothing twice, and starts nothing again.
func TestBrokenOffAtEveryCall(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault incustest.Fault
	}{
		{"cut before", incustest.Fault{Drop: true}},
		{"cut after", incustest.Fault{DropAnswer: true}},
		{"hangs", incustest.Fault{Hang: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := countCalls(t)
			if calls < 20 {
				t.Fatalf("only %d calls", calls)
			}

			for n := 1; n <= calls; n++ {
				fault := c.fault
				fault.Path, fault.Nth = "/1.0/*", n
				breakOff(t, fault)
			}
		})
	}
}

// countCalls is how many calls it takes to run the stack.
func countCalls(t *testing.T) (n int) {
	t.Helper()
	inBubble(t, func(b *bench) {
		b.quiet()
		b.server.ForgetCalls()
		b.edit(blog("1"))
		n = len(b.server.Calls())
	})

	return n
}

func breakOff(t *testing.T, fault incustest.Fault) {
	t.Helper()
	inBubble(t, func(b *bench) {
		b.quiet()
		b.server.Fail(fault)
		p := blog("1")
		b.files.Store(p.Hash, p)
		b.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
		time.Sleep(2 * time.Second)
		b.end()
		b.server.Mend()
		b.begin()
		b.edit(p)
		time.Sleep(10 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		for _, w := range b.writes() {
			if strings.HasPrefix(w, "DELETE /1.0/instances") {
				b.t.Errorf("call %d: %s", fault.Nth, w)
			}
		}
	})
}

func TestIncusAwayIsWaitedFor(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.server.Down()
		b.edit(blog("1"))
		b.mustBe(apply.Waiting)
		time.Sleep(time.Hour)
		b.server.Up()
		time.Sleep(6 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		b.writes()
		b.server.Restart()
		time.Sleep(time.Hour)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("a restart of Incus led to %v", w)
		}
	})
}

func TestRegistryAwayKeepsWhatRuns(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		b.images.set(fmt.Errorf("ask docker.io: %w", image.ErrUnavailable))
		b.edit(blog("2", func(p *plan.Project) { p.Services[1].Image.Ref = "web:2" }))
		b.mustBe(apply.Blocked)
		b.mustRun("db-1", "web-1", "web-2")
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		b.images.set(nil)
		time.Sleep(10 * time.Minute)
		b.mustBe(apply.InSync)
		i, _ := b.server.Instance("blog", "web-1")
		if i.Config["volatile.base_image"] != fingerprint("web:2") {
			t.Errorf("web-1 runs %s", i.Config["volatile.base_image"])
		}
	})
}

func TestRemovedStackStopsAfterItsGraceAndComesBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		before, _ := b.server.Instance("blog", "db-1")
		b.loop.Gone(nil)
		time.Sleep(59 * time.Second)
		b.mustBe(apply.Removed)
		b.mustRun("db-1", "web-1", "web-2")
		time.Sleep(5 * time.Second)
		b.mustBe(apply.Parked)
		b.mustRun()
		_, ok := b.server.Volume("blog", "default", "vol-data")
		if !ok {
			t.Fatal("the volume is gone")
		}

		b.edit(blog("1"))
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
		after, _ := b.server.Instance("blog", "db-1")
		if !after.CreatedAt.Equal(before.CreatedAt) || after.Devices["eth0"]["ipv4.address"] != before.Devices["eth0"]["ipv4.address"] {
			t.Error("the database is not the same instance at the same address")
		}

		b.loop.Gone(nil)
		b.quiet() // a week of pings takes its time
		time.Sleep(8 * 24 * time.Hour)
		if n := b.server.Instances("blog"); len(n) > 0 {
			t.Errorf("kept for longer than a week: %v", n)
		}

		_, ok = b.server.Volume("blog", "default", "vol-data")
		if !ok {
			t.Fatal("the volume is gone")
		}
	})
}

func TestRemovalWithinGraceChangesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		b.loop.Gone(nil)
		time.Sleep(30 * time.Second)
		b.edit(blog("1"))
		b.mustBe(apply.InSync)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}
	})
}

func TestStoppedByHandStaysStopped(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		err := b.client.Do(b.t.Context(), "blog", plan.StopInstance{Name: "web-1", Grace: time.Second})
		if err != nil {
			t.Fatal(err)
		}

		b.loop.StoppedBy("web-1", "root", time.Now())
		time.Sleep(time.Hour)
		b.mustRun("db-1", "web-2")
		b.end()
		b.begin()
		b.edit(blog("1"))
		b.mustRun("db-1", "web-2")
		if s := b.loop.View().Ledger.Stops["web-1"]; s.By != "root" {
			t.Errorf("stopped by %q", s.By)
		}
	})
}

// TestStoppedByHandWhileItsStopFails: the loop is stopping what it stops for as long as it tries, and no longer; a
// user's stop of it is then remembered, the change is made, and it stays stopped.
func TestStoppedByHandWhileItsStopFails(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		synctest.Wait()
		var tried atomic.Bool
		b.host.Publish = func() {
			if b.loop.View().Stops["web-1"] {
				tried.Store(true)
			}
		}
		b.server.Fail(incustest.Fault{Method: http.MethodPut, Path: "*/web-1/state", Times: -1, Status: 500, Message: "it is busy"})
		b.edit(blog("2", mode("b")))
		v := b.loop.View()
		if !tried.Load() || v.Plan.Empty() || v.Stops != nil {
			t.Fatalf("tried: %v; now %v of\n%s", tried.Load(), v.Stops, v.Plan)
		}

		b.pass(10 * time.Minute)
		b.pass(time.Until(b.loop.View().Next) + time.Second) // the next try is more than a minute away
		b.server.Mend()
		err := b.client.Do(b.t.Context(), "blog", plan.StopInstance{Name: "web-1"})
		if err != nil {
			t.Fatal(err)
		}

		b.loop.StoppedBy("web-1", "root", time.Now())
		b.pass(time.Hour)
		b.mustHaveModes("b Stopped, b Running")
	})
}

func TestLostLedgerRestartsNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		before, _ := b.server.Instance("blog", "web-1")
		b.end()
		b.path += ".new"
		b.begin()
		b.writes()
		b.edit(blog("1"))
		b.mustBe(apply.InSync)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		after, _ := b.server.Instance("blog", "web-1")
		if after.Devices["eth0"]["ipv4.address"] != before.Devices["eth0"]["ipv4.address"] {
			t.Error("the address changed")
		}
	})
}

// TestFailedStepStopsOnlyItsDependants: the web servers wait for a database that does not start; others run.
func TestFailedStepStopsOnlyItsDependants(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.server.Fail(incustest.Fault{Method: http.MethodPost, Path: "/1.0/instances", Times: 1 << 20, Status: 400, Message: "no space left on device"})
		b.edit(blog("1"))
		b.mustBe(apply.Blocked)
		b.mustRun()
		b.server.Mend()
		time.Sleep(6 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
	})
}

// TestFailureIsNotRetriedByItsOwnEvents: what fails is tried again with a growing pause, however many events come.
func TestFailureIsNotRetriedByItsOwnEvents(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.server.SetApp("blog", "web-1", incustest.App{StartError: "no such file"})
		b.edit(blog("2", mode("b")))
		b.writes()
		for range 100 {
			b.server.Emit("blog", "instance-updated", "/1.0/instances/web-1")
			time.Sleep(3 * time.Second)
		}

		starts := 0
		for _, w := range b.writes() {
			if strings.HasPrefix(w, "PUT /1.0/instances/web-1/state") {
				starts++
			}
		}

		if starts < 2 || starts > 12 {
			t.Errorf("%d attempts in five minutes", starts)
		}

		b.mustRun("db-1", "web-2")
		b.server.SetApp("blog", "web-1", incustest.App{})
		time.Sleep(10 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
	})
}

// TestProjectRenamedInPlace is refused: what runs would be left behind without anybody who looks after it.
func TestProjectRenamedInPlace(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		b.edit(blog("2", func(p *plan.Project) { p.Name, p.Incus = "journal", "journal" }))
		b.mustBe(apply.Invalid)
		b.mustRun("db-1", "web-1", "web-2")
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		b.edit(blog("1"))
		b.mustBe(apply.InSync)
	})
}

func TestHoldChangesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		b.writes()
		p := blog("2", mode("b"))
		b.files.Store("2", p)
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "2", Hold: true})
		b.mustBe(apply.Held)
		if b.loop.View().Plan.Empty() {
			t.Error("what is held back is not shown")
		}

		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "2"})
		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
	})
}

// TestEventsLostDoubledReordered: the outcome does not depend on them.
func TestEventsLostDoubledReordered(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.server.FaultEvents(incustest.EventFaults{Seed: 1, Drop: 0.3, Duplicate: 0.3, Reorder: 0.3})
		b.edit(blog("1"))
		for i := range 5 {
			b.edit(blog(fmt.Sprint(i+2), mode(fmt.Sprint(i))))
		}

		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("db-1", "web-1", "web-2")
	})
}
