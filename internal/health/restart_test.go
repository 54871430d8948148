package health

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// up begins a life that runs.
func up(t *testing.T, config map[string]string) *life {
	l := newLife(t, config)
	l.start()
	l.log = nil

	return l
}

// restarted answers the restart at work: the instance runs again.
func (l *life) restarted() {
	l.start()
	l.step(Restarted{Gen: l.re.Gen})
}

func TestH16NoIsNeverRestarted(t *testing.T) {
	for _, config := range []map[string]string{checked(), checked(KeyRestart, "no")} {
		l := up(t, config)
		l.crash(1)
		l.pass(time.Hour)
		l.expect("stopped")
	}
}

func TestH16UnhealthyIsOnlyReportedWithoutAPolicy(t *testing.T) {
	l := up(t, checked())
	l.probes(1, Passed)
	l.probes(3, Failed)
	l.pass(time.Second)
	l.expect("healthy", "unhealthy")
}

func TestH17H18RestartedAfterAnyEndOfItsOwn(t *testing.T) {
	for _, policy := range []string{"always", "unless-stopped"} {
		for _, code := range []int{0, 1, 137} {
			l := up(t, keys(KeyRestart, policy))
			l.crash(code)
			l.pass(99 * time.Millisecond)
			l.expect("stopped")
			l.pass(time.Millisecond)
			l.expect("restart ended stop=false")
			l.restarted()
			l.expect("healthy")
		}
	}
}

func TestH17H18AManualStopStaysDown(t *testing.T) {
	for _, policy := range []string{"always", "unless-stopped", "on-failure"} {
		t.Run(policy, func(t *testing.T) {
			l := up(t, keys(KeyRestart, policy))
			l.stopBy("root")
			l.expect("stopped")
			l.again()
			l.seen(StateStopped, func(e *Seen) { e.Exit = Exit{Known: true, Code: 143} })
			l.pass(time.Hour)
			l.expect()
			l.start() // and somebody starts it
			l.crash(1)
			l.pass(time.Second)
			l.expect("healthy", "stopped", "restart ended stop=false")
		})
	}
}

// again is a restart of the daemon.
func (l *life) again() {
	l.Helper()
	b, err := json.Marshal(l.m.Saved())
	if err != nil {
		l.Fatal(err)
	}

	var s Saved
	err = json.Unmarshal(b, &s)
	if err != nil {
		l.Fatal(err)
	}

	if d := cmp.Diff(l.m.Saved(), s); d != "" {
		l.Fatalf("what is saved comes back changed:\n%s", d)
	}

	l.m = New(&s, func() float64 { return 0.5 })
}

func TestTheMarkerOfIncusComposeIsAManualStop(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	l.seen(StateStopped, func(e *Seen) { e.Told, e.Marked = true, true })
	l.pass(time.Hour)
	l.expect("stopped")
}

// A run that was too short to be seen ends what a stop by hand had said.
func TestACrashTooSoonToBeSeenRunning(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	l.stopBy("root")
	l.expect("stopped")
	l.crash(1)
	l.pass(time.Second)
	l.expect("restart ended stop=false")
	l.step(Restarted{Gen: l.re.Gen, Err: "no such thing"})
	l.pass(time.Minute)
	l.expect("note: the restart failed: no such thing", "restart ended stop=false")
}

func TestH19OnFailure(t *testing.T) {
	for _, c := range []struct {
		name string
		exit Exit
		want []string
	}{
		{"exit 0 stays down", Exit{Known: true}, []string{"stopped", "note: ended with exit code 0: done, as on-failure wants it"}},
		{"exit 3 is restarted", Exit{Known: true, Code: 3}, []string{"stopped", "restart ended stop=false"}},
		{"a signal is restarted", Exit{Known: true, Code: 139, Signal: "11"}, []string{"stopped", "restart ended stop=false"}},
		{"an unknown code counts as a failure", Exit{}, []string{"stopped", "restart ended stop=false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, keys(KeyRestart, "on-failure"))
			l.seen(StateStopped, func(e *Seen) { e.Told, e.Exit = true, c.exit })
			l.pass(time.Second)
			l.expect(c.want...)
		})
	}
}

func TestH19OnFailureTwiceGivesUpAndAManualStartBeginsAnew(t *testing.T) {
	l := up(t, keys(KeyRestart, "on-failure:2"))
	for range 2 {
		l.crash(3)
		l.pass(time.Second)
		l.expect("stopped", "restart ended stop=false")
		l.restarted()
		l.pass(time.Hour) // a good run gives the delay back, not the count
		l.log = nil
	}

	l.crash(3)
	l.pass(time.Hour)
	l.expect("stopped", "note: restarted 2 times, which is the limit: given up (ended by itself: exit code 3)")
	l.start()
	l.log = nil
	l.crash(3)
	l.pass(time.Second)
	l.expect("stopped", "restart ended stop=false")
}

func TestH21Backoff(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	want := 100 * time.Millisecond
	for range 14 {
		l.crash(1)
		got := l.m.Next().Sub(l.now)
		if got != want {
			t.Fatalf("delay %s, want %s", got, want)
		}

		want = min(2*want, 60*time.Second)
		l.pass(got)
		l.restarted()
		l.pass(9 * time.Second)
	}

	l.pass(time.Second) // ten seconds up
	l.crash(1)
	if got := l.m.Next().Sub(l.now); got != 100*time.Millisecond {
		t.Fatalf("delay %s after a good run", got)
	}
}

func TestH21OneSuccessALifeDoesNotResetTheDelay(t *testing.T) {
	l := up(t, checked(KeyRestart, "always"))
	for i := range 4 {
		l.probes(1, Passed)
		l.pass(5 * time.Second)
		l.crash(1)
		want := time.Duration(100<<i) * time.Millisecond
		if got := l.m.Next().Sub(l.now); got != want {
			t.Fatalf("delay %s, want %s", got, want)
		}

		l.pass(want)
		l.restarted()
	}

	l.probes(3, Passed) // healthy for 20 s
	l.crash(1)
	if got := l.m.Next().Sub(l.now); got != 100*time.Millisecond {
		t.Fatalf("delay %s after a healthy run", got)
	}
}

// A start that fails is seen for a moment as running, perhaps only after its failure was told: nobody else's start, so
// the delay goes on growing.
func TestH21FailedStartsBackOff(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	l.crash(1)
	l.pass(time.Minute)
	l.expect("stopped", "restart ended stop=false")
	for _, delay := range []time.Duration{200, 400, 800} {
		l.run = l.now // Incus notes the start
		l.pass(10 * time.Millisecond)
		l.step(Restarted{Gen: l.re.Gen, Err: "no such program"})
		l.seen(StateRunning)
		l.crash(0)
		l.log = nil
		l.pass(delay*time.Millisecond - time.Millisecond)
		l.expect()
		l.pass(time.Millisecond)
		l.expect("restart ended stop=false")
	}
}

func TestH21Jitter(t *testing.T) {
	for _, c := range []struct {
		step   int
		random float64
		want   time.Duration
	}{
		{0, 0, 90 * time.Millisecond}, {0, 1, 110 * time.Millisecond}, {30, 0, 54 * time.Second}, {math.MaxInt - 1, 1, 66 * time.Second},
	} {
		if got := (Policy{Mode: ModeAlways}).after(c.step, c.random); got != c.want {
			t.Errorf("step %d, random %v: %s, want %s", c.step, c.random, got, c.want)
		}
	}
}

func TestH22DeployRestartPolicy(t *testing.T) {
	l := up(t, keys(KeyRestart, "always", KeyRestartDelay, "5s", KeyRestartAttempts, "1", KeyRestartWindow, "1m"))
	l.crash(1)
	if got := l.m.Next().Sub(l.now); got != 5*time.Second {
		t.Fatalf("delay %s", got)
	}

	l.pass(5 * time.Second)
	l.restarted()
	l.pass(time.Minute) // the window: it succeeded
	l.log = nil
	l.crash(1)
	l.pass(5 * time.Second)
	l.expect("stopped", "restart ended stop=false")
	l.restarted()
	l.pass(time.Second)
	l.log = nil
	l.crash(1)
	l.pass(time.Hour)
	l.expect("stopped", "note: restarted 1 time…")
}

func TestH23UnhealthyReactions(t *testing.T) {
	for _, c := range []struct {
		name, policy, reaction string
		want                   []string
	}{
		{"restart where there is a policy", "always", "", []string{"unhealthy", "restart unhealthy stop=true"}},
		{"restart when asked for", "no", "restart", []string{"unhealthy", "restart unhealthy stop=true"}},
		{"none", "always", "none", []string{"unhealthy"}},
		{"stop", "always", "stop", []string{"unhealthy", "stop"}},
		{"notify", "always", "notify", []string{"unhealthy", "note: unhealthy: exit code 1: said so"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, checked(KeyRestart, c.policy, KeyOnUnhealthy, c.reaction))
			l.probes(1, Passed)
			l.log = nil
			l.probes(3, Failed)
			l.pass(time.Second)
			l.expect(c.want...)
		})
	}
}

func TestH23ASuccessInTimeCallsTheRestartOff(t *testing.T) {
	l := up(t, checked(KeyRestart, "always", KeyInterval, "100ms", KeyRestartDelay, "5s"))
	l.probes(1, Passed)
	l.probes(3, Failed)
	l.log = nil
	l.probes(1, Passed)
	l.expect("healthy")
	l.pass(50 * time.Millisecond)
	if l.m.Next().Sub(l.now) > time.Second {
		t.Fatal("it is still waited for the restart")
	}
}

func TestH23TheRestartOfAnUnhealthyInstance(t *testing.T) {
	l := up(t, checked(KeyRestart, "always"))
	l.probes(1, Passed)
	l.probes(3, Failed)
	l.pass(time.Second)
	l.log = nil
	l.seen(StateStopped, func(e *Seen) { e.Told, e.By, e.Ours = true, "ic-healthd", true })
	l.expect("stopped")
	l.pass(2 * time.Second)
	l.restarted()
	l.expect("starting")
	l.probes(1, Passed)
	l.expect("healthy")
	l.probes(3, Failed)
	if got := l.m.Next().Sub(l.now); got != 200*time.Millisecond {
		t.Fatalf("the second restart comes after %s", got)
	}
}

func TestH23ARestartThatFailsAfterItsStopIsTriedAgain(t *testing.T) {
	l := up(t, checked(KeyRestart, "always"))
	l.probes(1, Passed)
	l.probes(3, Failed)
	l.pass(time.Second)
	l.seen(StateStopped, func(e *Seen) { e.Told, e.By, e.Ours = true, "ic-healthd", true })
	l.log = nil
	l.step(Restarted{Gen: l.re.Gen, Err: "no space left"})
	l.pass(time.Second)
	l.expect("note: the restart failed: no space left", "restart ended stop=false")
}

func TestH24IncusRestartsItItself(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	l.seen(StateStopped, func(e *Seen) { e.Told, e.Autorestart = true, true })
	l.pass(time.Hour)
	l.expect("stopped", "note: Incus restarts it itself (boot.autorestart): left to it")
}

func TestH25ManualActionWins(t *testing.T) {
	t.Run("a start during the delay", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		l.crash(1)
		l.start()
		l.pass(time.Hour)
		l.expect("stopped", "healthy")
	})
	t.Run("a stop during our restart", func(t *testing.T) {
		l := up(t, checked(KeyRestart, "always"))
		l.probes(1, Passed)
		l.probes(3, Failed)
		l.pass(time.Second)
		l.log = nil
		l.stopBy("root")
		l.expect("stopped", "cancel restart")
		l.step(Restarted{Gen: l.re.Gen, Moot: true})
		l.pass(time.Hour)
		l.expect()
	})
	t.Run("a pause during the delay", func(t *testing.T) {
		l := up(t, checked(KeyRestart, "always"))
		l.probes(1, Passed)
		l.probes(3, Failed)
		l.log = nil
		l.seen(StateFrozen)
		l.pass(time.Hour)
		l.expect()
	})
}

func TestAnEndBeforeTheStartWasHeardOfIsNotLost(t *testing.T) {
	l := up(t, keys(KeyRestart, "always"))
	l.crash(1)
	l.pass(time.Second)
	l.log = nil
	l.start()
	l.crash(1) // at once, and the answer to our start is still on its way
	l.expect("healthy", "stopped")
	l.step(Restarted{Gen: l.re.Gen})
	l.pass(time.Second)
	l.expect("restart ended stop=false")
}

func TestH15AnEndNobodySaw(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Seen)
		want []string
	}{
		{"a crash is restarted", func(e *Seen) { e.Exit = Exit{Known: true, Code: 1} }, []string{"stopped", "restart ended stop=false"}},
		{"a clean end may have been wanted", func(e *Seen) { e.Exit = Exit{Known: true} }, []string{"stopped", "note: ended with exit code 0 while nobody watched…"}},
		{"the host went down: Incus comes first", func(e *Seen) { e.Powered = true }, []string{"stopped"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, keys(KeyRestart, "always"))
			l.again()
			l.seen(StateStopped, c.edit)
			l.pass(10 * time.Second)
			l.expect(c.want...)
		})
	}

	t.Run("what Incus does not start after a boot is started", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		l.again()
		l.seen(StateStopped, func(e *Seen) { e.Powered = true })
		l.pass(time.Minute)
		l.expect("stopped", "restart ended stop=false")
	})
	t.Run("Incus goes down: it told of the end, and comes first", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		l.seen(StateStopped, func(e *Seen) { e.Told, e.Powered = true, true })
		l.pass(59 * time.Second)
		l.expect("stopped")
		l.start()
		l.pass(time.Hour)
		l.expect("healthy")
	})
	t.Run("Incus goes down: seen only at the restart", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		l.crash(0)
		l.pass(time.Second)
		l.log = nil
		l.step(Restarted{Gen: l.re.Gen, Powered: true})
		l.pass(59 * time.Second)
		l.expect()
		l.pass(2 * time.Second)
		l.expect("restart ended stop=false")
		if !l.re.Patient || l.m.count != 1 {
			t.Errorf("%+v, %d counted", l.re, l.m.count)
		}
	})
	t.Run("what never ran is left alone", func(t *testing.T) {
		l := newLife(t, keys(KeyRestart, "always"))
		l.seen(StateStopped)
		l.pass(time.Hour)
		l.expect()
	})
}

func TestH32ADaemonRestartChangesNothing(t *testing.T) {
	t.Run("streak and verdict", func(t *testing.T) {
		l := up(t, checked())
		l.probes(1, Passed)
		l.probes(2, Failed)
		l.log = nil
		l.again()
		l.seen(StateRunning)
		l.expect()
		l.probes(1, Failed)
		l.expect("unhealthy")
	})
	t.Run("a restart that was due", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		for range 3 {
			l.crash(1)
			l.pass(time.Minute)
			l.restarted()
		}

		l.crash(1)
		l.log = nil
		l.again()
		l.pass(time.Hour) // nothing is begun before it was seen
		l.expect()
		l.seen(StateStopped, func(e *Seen) { e.Exit = Exit{Known: true, Code: 1} })
		if got := l.m.Next().Sub(l.now); got != 800*time.Millisecond {
			t.Fatalf("restart after %s", got)
		}
	})
	t.Run("a restart that Incus was left to", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "always"))
		down := func(e *Seen) { e.Powered = true }
		l.seen(StateStopped, down, func(e *Seen) { e.Told = true })
		l.log = nil
		l.again()
		l.seen(StateStopped, down)
		l.pass(bootGrace - time.Second)
		l.expect()
		l.pass(2 * time.Second)
		l.expect("restart ended stop=false")
	})
	t.Run("a done job stays done", func(t *testing.T) {
		l := up(t, keys(KeyRestart, "on-failure"))
		l.crash(0)
		l.log = nil
		l.again()
		l.seen(StateStopped, func(e *Seen) { e.Exit = Exit{Known: true} })
		l.pass(time.Hour)
		l.expect()
	})
	t.Run("a check that changed meanwhile", func(t *testing.T) {
		l := up(t, checked())
		l.probes(1, Passed)
		l.again()
		l.spec, _, _, _ = ParseSpec(checked(KeyTest, `["CMD","other"]`))
		l.seen(StateRunning)
		if l.m.passed {
			t.Error("the new check is said to have passed")
		}
	})
}

func TestH28AHeldRestartIsTriedAgainAndCostsNothing(t *testing.T) {
	l := up(t, checked(KeyRestart, "always"))
	l.probes(1, Passed)
	l.probes(3, Failed)
	l.pass(time.Second)
	l.log = nil
	l.step(Restarted{Gen: l.re.Gen, Held: true})
	l.pass(3 * time.Second)
	l.expect("restart unhealthy stop=true")
	if l.m.count != 1 {
		t.Errorf("%d restarts counted", l.m.count)
	}
}

func TestInfrastructureErrorsOfARestartDoNotCount(t *testing.T) {
	l := up(t, keys(KeyRestart, "on-failure:1"))
	l.crash(1)
	for range 5 {
		l.pass(time.Minute)
		l.step(Restarted{Gen: l.re.Gen, Err: "connection refused", Infra: true})
	}

	l.log = nil
	l.pass(time.Minute)
	l.expect("restart ended stop=false")
}
