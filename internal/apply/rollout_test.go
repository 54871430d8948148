package apply_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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

// good runs a stack until every service of it has proved well.
func (b *bench) good(p plan.Project) {
	b.t.Helper()
	b.edit(p)
	b.pass(2 * time.Minute)
	b.mustBe(apply.InSync)
	for _, s := range p.Services {
		if b.loop.View().Ledger.Good[s.Name].Hash != p.Hash {
			b.t.Fatalf("%s is not known to be good", s.Name)
		}
	}
}

// pass lets time go by.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// modes are the MODE that each instance of web has.
func (b *bench) modes() string {
	var out []string
	for _, n := range b.server.Instances("blog") {
		i, _ := b.server.Instance("blog", n)
		if strings.HasPrefix(n, "web-") {
			out = append(out, fmt.Sprint(i.Config["environment.MODE"], " ", i.Status))
		}
	}

	return strings.Join(out, ", ")
}

func (b *bench) mustHaveModes(want string) {
	b.t.Helper()
	if got := b.modes(); got != want {
		v := b.loop.View()
		b.t.Fatalf("the web instances are %q, want %q: %v\n%s", got, want, v.Ledger.Conditions, v.Plan)
	}
}

// exit ends an instance's program.
func (b *bench) exit(name string, code int) {
	b.t.Helper()
	err := b.server.Exit("blog", name, code)
	if err != nil {
		b.t.Fatal(err)
	}

	b.pass(time.Second)
}

// verdict does what the health daemon does when it has judged an instance.
func (b *bench) verdict(name, status string) {
	b.t.Helper()
	detail, err := json.Marshal(map[string]any{"since": time.Now(), "output": "said " + status})
	if err != nil {
		b.t.Fatal(err)
	}

	err = b.client.Do(b.t.Context(), "blog", plan.UpdateInstance{
		Name: name, Config: map[string]string{plan.KeyHealthStatus: status, plan.KeyHealthDetail: string(detail)},
	})
	if err != nil {
		b.t.Fatal(err)
	}

	b.loop.Dirty()
	b.pass(time.Second)
}

// condition returns the text of a condition; empty when there is none.
func (b *bench) condition(kind string) string {
	for _, c := range b.loop.View().Ledger.Conditions {
		if c.Type == kind {
			return c.Text
		}
	}

	return ""
}

// check gives web a health check, and has it stopped before it is changed.
func check(p *plan.Project) {
	p.Services[1].Config = map[string]string{"user.healthcheck.enabled": "true", "user.healthcheck.test": `["CMD","ok"]`}
	p.Services[1].Rollout.Order = plan.StopFirst
}

func policy(change func(*plan.Service)) func(*plan.Project) {
	return func(p *plan.Project) { change(&p.Services[1]) }
}

// TestUpdateOneAtATime: by default one instance changes at a time, and the next when it has run for 30 s.
func TestUpdateOneAtATime(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.mustHaveModes("b Running, a Running")
		b.mustBe(apply.Applying)
		b.pass(25 * time.Second)
		b.mustHaveModes("b Running, a Running")
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running, b Running")
		b.pass(time.Minute)
		b.mustBe(apply.InSync)
		if g := b.loop.View().Ledger.Good["web"]; g.Hash != "2" || len(b.loop.View().Ledger.Rollouts) > 0 {
			t.Errorf("good is %q; rollouts %v", g.Hash, b.loop.View().Ledger.Rollouts)
		}
	})
}

// TestUpdateWaitsForHealth: with a check the next one changes ten seconds after healthy, however long that takes.
func TestUpdateWaitsForHealth(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", check))
		b.verdict("web-1", "healthy")
		b.verdict("web-2", "healthy")
		b.pass(time.Minute)
		b.edit(blog("2", check, mode("b")))
		b.pass(time.Hour)
		b.mustHaveModes("b Running, a Running")
		if c := b.condition("Waiting"); !strings.Contains(c, "is ic-healthd running?") {
			t.Errorf("without a verdict: %q", c)
		}

		b.verdict("web-1", "starting")
		b.pass(time.Hour)
		b.mustHaveModes("b Running, a Running")
		b.verdict("web-1", "healthy")
		b.pass(5 * time.Second)
		b.mustHaveModes("b Running, a Running")
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running, b Running")
	})
}

// TestFailedUpdateGoesBackAndIsHeld: an instance that ends, or is restarted, or becomes unhealthy takes its update
// back; the other instances are never touched, and nothing is tried again until the file changes or a user asks.
func TestFailedUpdateGoesBackAndIsHeld(t *testing.T) {
	for _, c := range []struct {
		name, want string
		fail       func(*bench)
	}{
		{"it ends", "it ended with exit code 3", func(b *bench) { b.exit("web-1", 3) }},
		{"it ends, and Incus does not tell how at once", "it ended with exit code 3", func(b *bench) {
			b.server.Fail(incustest.Fault{Method: "GET", Path: "*/logs/lxc.log", Times: 8, Drop: true})
			b.exit("web-1", 3)
			b.pass(20 * time.Second)
		}},
		{"it is restarted", "was restarted", func(b *bench) {
			b.pass(5 * time.Second)
			b.quietly(func() { b.exit("web-1", 3) })
		}},
		{"it is unhealthy", "it is unhealthy: its probe said", func(b *bench) { b.verdict("web-1", "unhealthy") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.server.SetApp("blog", "web-1", incustest.App{Console: "first\nlast words\n"})
				b.edit(blog("1", check))
				b.verdict("web-1", "healthy")
				b.verdict("web-2", "healthy")
				b.pass(time.Minute)
				second, _ := b.server.Instance("blog", "web-2")
				b.edit(blog("2", check, mode("b")))
				b.mustHaveModes("b Running, a Running")
				c.fail(b)
				b.mustHaveModes("a Running, a Running")
				b.verdict("web-1", "healthy")
				b.mustBe(apply.Blocked)
				if text := b.condition(plan.TypeRolledBack); !strings.Contains(text, c.want) || !strings.Contains(text, "ic-agent retry blog/web") {
					t.Errorf("it says %q", text)
				}

				if e := b.loop.View().Ledger.Rollouts["web"].Evidence; !strings.Contains(e, "last words") {
					t.Errorf("kept of it: %q", e)
				}

				b.writes()
				b.pass(3 * time.Hour)
				b.end()
				b.begin()
				b.edit(blog("2", check, mode("b")))
				b.pass(3 * time.Hour)
				if w := b.writes(); len(w) > 0 {
					t.Errorf("held, and yet: %v", w)
				}

				after, _ := b.server.Instance("blog", "web-2")
				if !after.LastUsedAt.Equal(second.LastUsedAt) {
					t.Error("the other instance was restarted")
				}

				b.edit(blog("3", check, mode("c")))
				b.mustHaveModes("c Running, a Running")
			})
		})
	}
}

// quietly does something to Incus while the loop does not hear of it.
func (b *bench) quietly(do func()) {
	b.deaf()
	synctest.Wait()
	do()
	err := b.client.Do(b.t.Context(), "blog", plan.StartInstance{Name: "web-1"})
	if err != nil {
		b.t.Fatal(err)
	}

	b.loop.Dirty()
	b.pass(time.Second)
}

// TestRetryTriesAgain: a user's word ends the hold.
func TestRetryTriesAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.exit("web-1", 1)
		b.mustHaveModes("a Running, a Running")
		done := make(chan struct{})
		b.loop.Retry("web", "root", done)
		<-done
		b.mustHaveModes("b Running, a Running")
		b.pass(2 * time.Minute)
		b.mustHaveModes("b Running, b Running")
		b.mustBe(apply.InSync)
	})
}

// TestOutagesNeverCauseARollback: a registry, a network or an Incus that is away stops nothing, and reverts nothing.
func TestOutagesNeverCauseARollback(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.images.set(fmt.Errorf("no route: %w", image.ErrUnavailable))
		next := blog("2", mode("b"), policy(func(s *plan.Service) { s.Image.Ref = "web:2" }))
		b.edit(next)
		b.pass(time.Hour)
		b.mustHaveModes("a Running, a Running")
		b.images.set(nil)
		b.server.Fail(incustest.Fault{Method: "POST", Path: "/1.0/images", Times: -1, Status: 500, Message: "registry is down"})
		b.pass(time.Hour)
		b.mustHaveModes("a Running, a Running")
		b.server.Mend()
		b.server.Fail(incustest.Fault{Method: "PUT", Path: "/1.0/instances/web-1/state", Times: 20, Status: 503})
		b.pass(3 * time.Hour)
		b.mustHaveModes("b Running, b Running")
		b.mustBe(apply.InSync)
	})
}

// TestTimeWithoutSightDoesNotCount: what an instance did while Incus did not answer is not known to be good.
func TestTimeWithoutSightDoesNotCount(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.mustHaveModes("b Running, a Running")
		b.server.Fail(incustest.Fault{Method: "GET", Times: -1, Status: 503})
		for range 12 {
			b.loop.Dirty()
			b.pass(10 * time.Second)
		}

		b.server.Mend()
		b.loop.Dirty()
		b.pass(25 * time.Second)
		b.mustHaveModes("b Running, a Running")
		b.pass(time.Minute)
		b.mustHaveModes("b Running, b Running")
	})
}

// TestRefusedUpdateGoesBack: what Incus refuses to set leaves the service with what it had.
func TestRefusedUpdateGoesBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b"), policy(func(s *plan.Service) { s.XIncus = map[string]string{"limits.memory": "much"} })))
		b.pass(time.Minute)
		b.mustHaveModes("a Running, a Running")
		if text := b.condition(plan.TypeRolledBack); !strings.Contains(text, "Invalid value") {
			t.Errorf("it says %q", text)
		}
	})
}

// TestRollbackOfAHalfDoneUpdate: what had the new version already goes back, too.
func TestRollbackOfAHalfDoneUpdate(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.pass(35 * time.Second)
		b.mustHaveModes("b Running, b Running")
		b.exit("web-2", 1)
		b.pass(10 * time.Second)
		b.mustHaveModes("a Running, a Running")
		b.pass(time.Hour)
		b.mustHaveModes("a Running, a Running")
	})
}

// TestFailureActions: pause leaves a mix, continue goes on, a ratio is tolerated.
func TestFailureActions(t *testing.T) {
	for _, c := range []struct {
		name, want string
		set        func(*plan.Service)
	}{
		{"pause", "b Stopped, a Running", func(s *plan.Service) { s.Rollout.Action = plan.ActionPause }},
		{"continue", "b Stopped, b Running", func(s *plan.Service) { s.Rollout.Action = plan.ActionContinue }},
		{"ratio", "b Stopped, b Running", func(s *plan.Service) { s.Rollout.MaxFailureRatio = 0.5 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.good(blog("1", policy(c.set)))
				b.edit(blog("2", policy(c.set), mode("b")))
				b.exit("web-1", 1)
				b.pass(time.Hour)
				b.mustHaveModes(c.want)
			})
		})
	}
}

// TestParallelismAndDelay: as many at a time as the file says, and a pause between groups.
func TestParallelismAndDelay(t *testing.T) {
	inBubble(t, func(b *bench) {
		all := policy(func(s *plan.Service) {
			s.Replicas, s.Rollout = 4, plan.RolloutPolicy{Parallelism: 2, Monitor: 5 * time.Second, Delay: 20 * time.Second}
		})
		b.good(blog("1", all))
		b.edit(blog("2", all, mode("b")))
		b.mustHaveModes("b Running, b Running, a Running, a Running")
		b.pass(20 * time.Second)
		b.mustHaveModes("b Running, b Running, a Running, a Running")
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running, b Running, b Running, b Running")
	})
}

// TestFurtherEditSupersedes: an edit during an update is what is wanted from then on, and what is gone back to stays
// what did well.
func TestFurtherEditSupersedes(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.edit(blog("3", mode("c")))
		b.mustHaveModes("c Running, a Running")
		b.exit("web-1", 1)
		b.pass(time.Minute)
		b.mustHaveModes("a Running, a Running")
		if g := b.loop.View().Ledger.Good["web"]; g.Hash != "1" {
			t.Errorf("good is %q", g.Hash)
		}
	})
}

// TestDependantsAreGated: what depends on a service that is being updated is updated after it, and not at all when
// that went back.
func TestDependantsAreGated(t *testing.T) {
	both := func(p *plan.Project) { p.Services[0].Environment = map[string]string{"TUNE": "1"} }
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", both, mode("b")))
		b.mustHaveModes("a Running, a Running")
		b.pass(35 * time.Second)
		b.mustHaveModes("b Running, a Running")
		b.pass(2 * time.Minute)
		b.mustHaveModes("b Running, b Running")
		b.edit(blog("3", func(p *plan.Project) { p.Services[0].Environment = map[string]string{"TUNE": "2"} }, mode("c")))
		b.exit("db-1", 1)
		b.pass(time.Hour)
		b.mustHaveModes("b Running, b Running")
		b.mustRun("db-1", "web-1", "web-2")
	})
}

// TestStartInTheMiddleOfAChange: what somebody else starts between the stop and the new keys runs without them, and so
// is started again; the mark that keeps the health daemon from it is gone in the end.
func TestStartInTheMiddleOfAChange(t *testing.T) {
	healed := func(p *plan.Project) {
		p.Services[1].Replicas = 1
		p.Services[1].Config = map[string]string{"user.healthcheck.restart": "always"}
	}
	inBubble(t, func(b *bench) {
		b.good(blog("1", healed))
		web := "/1.0/instances/web-1"
		b.server.Fail(incustest.Fault{Method: "PATCH", Path: web, Nth: 2, Delay: 10 * time.Second}) // the first is the mark
		var started atomic.Bool
		var written time.Time
		go func() {
			time.Sleep(5 * time.Second)
			i, _ := b.server.Instance("blog", "web-1")
			if i.Status != "Stopped" || i.Config["user.healthcheck.stopped"] != "true" || i.Config[plan.KeyChanging] != "true" {
				t.Errorf("in the middle of its change it is %s with %v", i.Status, i.Config)
			}

			written = time.Now().Add(4 * time.Second) // they are later
			err := b.client.Do(b.t.Context(), "blog", plan.StartInstance{Name: "web-1"})
			started.Store(err == nil)
		}()
		b.edit(blog("2", healed, mode("b")))
		b.pass(time.Minute)
		if !started.Load() {
			t.Fatal("it was not started in the middle")
		}

		b.mustHaveModes("b Running")
		i, _ := b.server.Instance("blog", "web-1")
		if i.LastUsedAt.Before(written) {
			t.Errorf("it runs since %s, before its keys were written at %s", i.LastUsedAt, written)
		}

		if i.Config["user.healthcheck.stopped"] != "" || i.Config[plan.KeyChanging] != "" {
			t.Errorf("its marks are left: %v", i.Config)
		}
	})
}

// TestBackInOnePass: a version that ends at once is written and taken back by one pass, with the marks of its changes
// each time; nothing of that is Incus's doing.
func TestBackInOnePass(t *testing.T) {
	healed := func(p *plan.Project) {
		p.Services[1].Replicas = 1
		p.Services[1].Config = map[string]string{"user.healthcheck.restart": "always"}
	}
	inBubble(t, func(b *bench) {
		b.good(blog("1", healed))
		b.server.SetApp("blog", "web-1", incustest.App{Dies: func(c map[string]string) bool { return c["environment.MODE"] == "b" }})
		b.edit(blog("2", healed, mode("b")))
		b.pass(time.Minute)
		b.mustHaveModes("a Running")
		if text := b.condition("Unsettled"); text != "" {
			t.Error(text)
		}

		i, _ := b.server.Instance("blog", "web-1")
		if i.Config["user.healthcheck.stopped"] != "" || i.Config[plan.KeyChanging] != "" {
			t.Errorf("its marks are left: %v", i.Config)
		}
	})
}

// TestRebootIsNoFailure: that an updated instance was started again with its host says nothing against it.
func TestRebootIsNoFailure(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.boot = "first"
		b.end()
		b.begin()
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.end()
		b.boot = "second"
		for _, op := range []plan.Op{plan.StopInstance{Name: "web-1", Grace: time.Second}, plan.StartInstance{Name: "web-1"}} {
			err := b.client.Do(b.t.Context(), "blog", op)
			if err != nil {
				t.Fatal(err)
			}
		}

		b.begin()
		b.edit(blog("2", mode("b")))
		b.pass(2 * time.Minute)
		b.mustHaveModes("b Running, b Running")
	})
}

// TestLostLedgerKeepsTheHold: a version that failed is known to have from the instances themselves.
func TestLostLedgerKeepsTheHold(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.edit(blog("2", mode("b")))
		b.exit("web-1", 1)
		b.pass(time.Minute)
		b.end()
		b.path += ".new"
		b.begin()
		b.writes()
		b.edit(blog("2", mode("b")))
		b.pass(time.Hour)
		b.mustHaveModes("a Running, a Running")
		if w := b.writes(); len(w) > 0 {
			t.Errorf("writes: %v", w)
		}

		b.edit(blog("3", mode("c")))
		b.pass(time.Minute)
		b.mustHaveModes("c Running, c Running")
	})
}

// TestKilledDuringAnUpdate: whichever call of an update the agent dies in, the next one ends it properly, one instance
// at a time.
func TestKilledDuringAnUpdate(t *testing.T) {
	for n := 1; n <= 14; n++ {
		for _, fails := range []bool{false, true} {
			inBubble(t, func(b *bench) {
				b.good(blog("1"))
				b.quiet()
				b.server.Fail(incustest.Fault{Path: "/1.0/*", Nth: n, Hang: true})
				p := blog("2", mode("b"))
				b.files.Store(p.Hash, p)
				b.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
				b.pass(2 * time.Second)
				b.end()
				b.server.Mend()
				b.begin()
				b.edit(p)
				if fails && slices.Contains(strings.Split(b.modes(), ", "), "b Running") {
					b.exit("web-1", 1)
				}

				b.pass(10 * time.Minute)
				got := b.modes()
				if want := "b Running, b Running"; !fails && got != want {
					t.Errorf("call %d: %s, want %s", n, got, want)
				}

				if want := "a Running, a Running"; fails && got != want {
					t.Errorf("call %d, failing: %s, want %s: %v", n, got, want, b.loop.View().Ledger.Rollouts)
				}
			})
		}
	}
}

// TestGoingBackWritesTheOldValues, also where one pass wrote the new ones.
func TestGoingBackWritesTheOldValues(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		b.server.SetApp("blog", "web-1", incustest.App{Dies: func(c map[string]string) bool { return c["environment.MODE"] == "b" }})
		b.edit(blog("2", mode("b")))
		b.pass(time.Minute)
		b.mustHaveModes("a Running, a Running")
		if w := b.loop.View().Plan.Warnings; len(w) > 0 {
			t.Errorf("warnings: %v", w)
		}
	})
}

// first lets a candidate come first.
func first(p *plan.Project) {
	check(p)
	p.Services[1].Rollout.Order, p.Services[1].Replicas = "", 1
}

// TestCandidateComesFirst: a service with a health check and nothing exclusive is updated by a candidate beside it,
// which serves while the instance itself changes, and goes in the end.
func TestCandidateComesFirst(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", first))
		b.verdict("web-1", "healthy")
		b.pass(time.Minute)
		b.writes()
		b.edit(blog("2", first, mode("b")))
		b.mustHaveModes("a Running, b Running")
		b.verdict("web-2", "healthy")
		b.pass(5 * time.Second)
		b.mustHaveModes("a Running, b Running")
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running, b Running")
		b.verdict("web-1", "healthy")
		b.pass(10 * time.Second)
		b.mustHaveModes("b Running")
		b.mustBe(apply.InSync)
		if n := b.loop.View().Ledger.Good["web"].Hash; n != "2" {
			t.Errorf("good is %q", n)
		}
	})
}

// TestCandidateTakesNobodysName: where the name of a candidate is that of a replica there was once, which is parked, or a
// stranger's, the service is changed in place, and the other is left alone.
func TestCandidateTakesNobodysName(t *testing.T) {
	for _, parked := range []bool{true, false} {
		inBubble(t, func(b *bench) {
			b.edit(blog("1", first))
			b.verdict("web-1", "healthy")
			if parked {
				b.edit(blog("2", first, policy(func(s *plan.Service) { s.Replicas = 2 })))
				b.edit(blog("3", first))
			} else {
				b.must(plan.CreateInstance{
					Name: "web-2", Fingerprint: fingerprint("web:1"), Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}},
				})
			}

			b.pass(time.Minute)
			before, _ := b.server.Instance("blog", "web-2")
			if parked != (before.Config[plan.KeyParked] != "") {
				t.Fatalf("web-2 is %v", before.Config)
			}

			b.edit(blog("4", first, mode("b")))
			b.verdict("web-1", "healthy")
			b.pass(time.Minute)
			if web, _ := b.server.Instance("blog", "web-1"); web.Config["environment.MODE"] != "b" || web.Status != "Running" {
				t.Errorf("web-1 is %s with %v", web.Status, web.Config)
			}

			after, there := b.server.Instance("blog", "web-2")
			if !there || !maps.Equal(after.Config, before.Config) || after.Status != before.Status {
				t.Errorf("parked %v: there %v, %s, %v", parked, there, after.Status, after.Config)
			}
		})
	}
}

// TestRestartByHandIsNoFailure: neither of an updated instance nor of a candidate.
func TestRestartByHandIsNoFailure(t *testing.T) {
	for name, order := range map[string]string{"web-1": plan.StopFirst, "web-2": ""} {
		inBubble(t, func(b *bench) {
			one := func(p *plan.Project) {
				first(p)
				p.Services[1].Rollout.Order = order
			}
			b.edit(blog("1", one))
			b.verdict("web-1", "healthy")
			b.pass(time.Minute)
			b.edit(blog("2", one, mode("b")))
			b.pass(5 * time.Second)
			b.quiet()
			b.must(plan.StopInstance{Name: name, Grace: time.Second})
			b.must(plan.StartInstance{Name: name})
			b.loop.Touched(name)
			b.pass(time.Second)
			if ro := b.loop.View().Ledger.Rollouts["web"]; ro.Phase != "" || ro.Reason != "" {
				t.Errorf("%s was restarted by hand, and the update is %+v", name, ro)
			}
		})
	}
}

// TestAStartByHandEndsTheStopByHand, also of what ended again before the loop looked: the next version is started.
func TestAStartByHandEndsTheStopByHand(t *testing.T) {
	for _, again := range []bool{false, true} {
		inBubble(t, func(b *bench) {
			b.good(blog("1"))
			b.must(plan.StopInstance{Name: "web-1", Grace: time.Second})
			b.loop.StoppedBy("web-1", "root", time.Now())
			b.pass(time.Second)
			b.server.SetApp("blog", "web-1", incustest.App{Dies: func(c map[string]string) bool { return c["environment.MODE"] == "a" }})
			b.must(plan.StartInstance{Name: "web-1"})
			b.loop.Touched("web-1")
			want := "b Running, b Running"
			if again {
				b.loop.StoppedBy("web-1", "root", time.Now())
				want = "b Stopped, b Running"
			}

			b.pass(time.Second)
			b.edit(blog("2", mode("b")))
			b.pass(2 * time.Minute)
			b.mustHaveModes(want)
		})
	}
}

// TestFailedCandidateTouchesNothing that runs.
func TestFailedCandidateTouchesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", first))
		b.verdict("web-1", "healthy")
		b.pass(time.Minute)
		before, _ := b.server.Instance("blog", "web-1")
		b.server.SetApp("blog", "web-2", incustest.App{Dies: func(map[string]string) bool { return true }, Console: "no such key\n"})
		b.edit(blog("2", first, mode("b")))
		b.pass(time.Minute)
		b.mustHaveModes("a Running")
		after, _ := b.server.Instance("blog", "web-1")
		if !after.LastUsedAt.Equal(before.LastUsedAt) {
			t.Error("what ran was restarted")
		}

		if text := b.condition(plan.TypeRolledBack); !strings.Contains(text, "the candidate: it ended with exit code 1") {
			t.Errorf("it says %q", text)
		}

		if e := b.loop.View().Ledger.Rollouts["web"].Evidence; !strings.Contains(e, "no such key") {
			t.Errorf("kept of it: %q", e)
		}
	})
}

// TestKilledWithACandidate: whichever call the agent dies in, the candidate goes in the end and the update is done.
func TestKilledWithACandidate(t *testing.T) {
	for n := 1; n <= 10; n++ {
		inBubble(t, func(b *bench) {
			b.edit(blog("1", first))
			b.verdict("web-1", "healthy")
			b.pass(time.Minute)
			b.quiet()
			b.server.Fail(incustest.Fault{Path: "/1.0/*", Nth: n, Hang: true})
			p := blog("2", first, mode("b"))
			b.files.Store(p.Hash, p)
			b.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
			b.pass(2 * time.Second)
			b.end()
			b.server.Mend()
			b.begin()
			b.edit(p)
			b.pass(time.Minute)
			b.verdict("web-2", "healthy")
			b.pass(time.Minute)
			b.verdict("web-1", "healthy")
			b.pass(time.Minute)
			b.mustHaveModes("b Running")
		})
	}
}
