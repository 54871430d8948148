package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// life is a machine with a clock, in which things happen; it writes down what the machine asks for.
type life struct {
	*testing.T
	m    *Machine
	now  time.Time
	spec Spec
	run  time.Time // start of the current run
	last RunProbe
	re   Restart
	log  []string
}

// newLife is an instance with keys, never seen before. Randomness is always in the middle: no jitter.
func newLife(t *testing.T, config map[string]string) *life {
	t.Helper()
	spec, watched, why, err := ParseSpec(config)
	if err != nil || !watched {
		t.Fatalf("spec: watched %v, %s, %v", watched, why, err)
	}

	return &life{T: t, m: New(nil, func() float64 { return 0.5 }), now: epoch, spec: spec}
}

func keys(more ...string) map[string]string {
	c := map[string]string{KeyEnabled: "true"}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}

	return c
}

// checked are the keys of a check every 10 s, 3 retries.
func checked(more ...string) map[string]string {
	return keys(append([]string{KeyTest, `["CMD","true"]`, KeyInterval, "10s", KeyTimeout, "1s"}, more...)...)
}

func (l *life) step(ev Event) {
	for _, a := range l.m.Step(ev, l.now) {
		switch a := a.(type) {
		case RunProbe:
			l.last = a
			l.say("probe")
		case CancelProbe:
			l.say("cancel")
		case SetStatus:
			l.say("%s", a.Status)
		case Restart:
			l.re = a
			l.say("restart %s stop=%v", a.Kind, a.Stop)
		case CancelRestart:
			l.say("cancel restart")
		case StopIt:
			l.say("stop")
		case Note:
			l.say("note: %s", a.Text)
		}
	}
}

func (l *life) say(format string, args ...any) { l.log = append(l.log, fmt.Sprintf(format, args...)) }

// expect compares what was asked for since the last time.
func (l *life) expect(want ...string) {
	l.Helper()
	for i, w := range want {
		prefix, cut := strings.CutSuffix(w, "…")
		if cut && i < len(l.log) && strings.HasPrefix(l.log[i], prefix) {
			want[i] = l.log[i]
		}
	}

	if d := cmp.Diff(want, l.log); d != "" && (len(want) > 0 || len(l.log) > 0) {
		l.Fatalf("at +%s (-want +got):\n%s", l.now.Sub(epoch), d)
	}

	l.log = nil
}

// pass lets time go by, and every tick happen.
func (l *life) pass(d time.Duration) {
	end := l.now.Add(d)
	for next := l.m.Next(); !next.IsZero() && !next.After(end); next = l.m.Next() {
		if next.After(l.now) {
			l.now = next
		}

		before := len(l.log)
		l.step(Tick{})
		if len(l.log) == before && l.m.Next().Equal(next) {
			l.Fatalf("a tick at +%s does nothing, for ever", next.Sub(epoch))
		}
	}

	l.now = end
}

func (l *life) seen(s State, more ...func(*Seen)) {
	e := Seen{Spec: l.spec, State: s, Started: l.run}
	for _, f := range more {
		f(&e)
	}

	l.step(e)
}

func (l *life) start() {
	l.run = l.now
	l.seen(StateRunning)
}

// crash is an end that nobody asked for.
func (l *life) crash(code int) {
	l.seen(StateStopped, func(e *Seen) { e.Told, e.Exit = true, Exit{Known: true, Code: code} })
}

func (l *life) stopBy(who string) {
	l.seen(StateStopped, func(e *Seen) { e.Told, e.By = true, who })
}

// answer ends the probe at work.
func (l *life) answer(v Verdict, code int) {
	l.step(Probed{Gen: l.last.Gen, Result: Result{Verdict: v, Code: code, At: l.now, Output: "said so\nmore"}})
	l.step(Freed{Gen: l.last.Gen})
}

// probes makes n probes that end so, each waited for.
func (l *life) probes(n int, v Verdict) {
	l.Helper()
	for range n {
		for range 100 {
			if slices.Contains(l.log, "probe") {
				break
			}

			l.pass(time.Second)
		}

		at := slices.Index(l.log, "probe")
		if at < 0 {
			l.Fatalf("no probe within 100 s; log %q", l.log)
		}

		l.log = slices.Delete(l.log, at, at+1)
		code := 0
		if v == Failed {
			code = 1
		}

		l.answer(v, code)
	}
}

func TestH04NextProbeIsOneIntervalAfterTheEndOfTheLast(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.expect("starting")
	var ends []time.Time
	for range 10_000 {
		due := l.m.Next()
		l.pass(due.Sub(l.now))
		l.expect("probe")
		if n := len(ends); n > 0 && l.now.Sub(ends[n-1]) != 10*time.Second {
			t.Fatalf("probe %d came %s after the end of the last", n, l.now.Sub(ends[n-1]))
		}

		l.pass(700 * time.Millisecond) // it runs, and there is no second one
		l.answer(Passed, 0)
		l.log = nil
		ends = append(ends, l.now)
	}
}

func TestH04NeverTwoProbesAtOnce(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.pass(10 * time.Second)
	l.expect("starting", "probe")
	l.step(Probed{Gen: l.last.Gen, Result: Result{Verdict: TimedOut, Code: -1, At: l.now}})
	l.pass(time.Hour)
	l.expect() // what it left behind is still there
	l.step(Freed{Gen: l.last.Gen})
	l.pass(time.Second)
	l.pass(10 * time.Second)
	l.expect("probe")
}

func TestH05FirstProbe(t *testing.T) {
	for _, c := range []struct {
		name   string
		config map[string]string
		want   time.Duration
	}{
		{"after an interval", checked(), 10 * time.Second},
		{"after a start interval within a start period", checked(KeyStartPeriod, "1m"), 5 * time.Second},
		{"after its own start interval", checked(KeyStartPeriod, "1m", KeyStartInterval, "300ms"), 300 * time.Millisecond},
		{"early when asked for", checked(KeyEarly, "true"), 100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLife(t, c.config)
			l.start()
			if got := l.m.Next().Sub(l.now); got != c.want {
				t.Fatalf("first probe after %s, want %s", got, c.want)
			}
		})
	}
}

func TestH05AnEarlyFailureDoesNotCount(t *testing.T) {
	l := newLife(t, checked(KeyEarly, "true", KeyRetries, "1"))
	l.start()
	l.pass(time.Second)
	l.expect("starting", "probe")
	l.answer(Failed, 1)
	l.expect()
	l.probes(1, Failed)
	l.expect("unhealthy", "note: the check looks broken…")
}

func TestH06StartPeriod(t *testing.T) {
	t.Run("failures inside do not count, whatever their number", func(t *testing.T) {
		l := newLife(t, checked(KeyStartPeriod, "1m"))
		l.start()
		l.probes(11, Failed)
		l.expect("starting")
	})
	t.Run("it is judged by the start of the probe", func(t *testing.T) {
		l := newLife(t, checked(KeyStartPeriod, "6s", KeyRetries, "1"))
		l.start()
		l.pass(5 * time.Second)
		at := l.now
		l.pass(30 * time.Second)
		l.log = nil
		l.step(Probed{Gen: l.last.Gen, Result: Result{Verdict: Failed, Code: 1, At: at}})
		l.expect()
	})
	t.Run("one success ends it for good", func(t *testing.T) {
		l := newLife(t, checked(KeyStartPeriod, "1h"))
		l.start()
		l.probes(1, Passed)
		l.expect("starting", "healthy")
		if got := l.m.Next().Sub(l.now); got != 10*time.Second {
			t.Fatalf("still at the start interval: %s", got)
		}

		l.probes(3, Failed)
		l.expect("unhealthy")
	})
	t.Run("it is measured from the start of the instance, also by a later daemon", func(t *testing.T) {
		l := newLife(t, checked(KeyStartPeriod, "1m", KeyRetries, "1"))
		l.run = l.now.Add(-2 * time.Minute)
		l.seen(StateRunning)
		l.probes(1, Failed)
		l.expect("starting", "unhealthy", "note: the check looks broken…")
	})
}

func TestH07StatusMachine(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.expect("starting")
	l.probes(1, Passed)
	l.expect("healthy")
	l.probes(2, Failed)
	l.expect()
	l.probes(1, Passed)
	l.probes(2, Failed)
	l.expect() // the streak began anew
	l.probes(1, Failed)
	l.expect("unhealthy")
	l.probes(4, Failed)
	l.expect()
	if l.m.streak != 7 {
		t.Errorf("the streak stopped growing at %d", l.m.streak)
	}

	l.probes(1, Passed)
	l.expect("healthy")
}

func TestH07UnhealthyFromStarting(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.probes(3, Failed)
	l.expect("starting", "unhealthy", "note: the check looks broken, so nothing is done about its verdict: it has never passed: exit code 1: said so")
	if !l.m.Broken() {
		t.Error("a check that never passed is not called broken")
	}
}

func TestH11WhatIsNotTheInstancesFaultIsNoFailure(t *testing.T) {
	for _, v := range []Verdict{NoAnswer, NoAgent} {
		l := newLife(t, checked(KeyRestart, "always", KeyStartPeriod, "5m"))
		l.start()
		l.probes(1, Passed)
		l.expect("starting", "healthy")
		n := 60
		if v == NoAgent {
			n = 25 // until the start period is over
		}

		l.probes(n, v)
		l.expect()
	}
}

func TestH12CommandMissingIsABrokenCheck(t *testing.T) {
	for code, words := range map[int]string{126: "126 (not executable)", 127: "127 (command not found)"} {
		l := newLife(t, checked(KeyRestart, "always", KeyRetries, "1"))
		l.start()
		l.probes(1, Passed)
		l.log = nil
		l.pass(10 * time.Second)
		l.log = nil
		l.answer(Failed, code)
		l.expect("unhealthy", fmt.Sprintf("note: the check looks broken, so nothing is done about its verdict: its command cannot be run: exit code %s: said so", words))
		l.probes(1, Passed)
		l.expect("healthy")
	}
}

func TestH13FreezeSuspends(t *testing.T) {
	l := newLife(t, checked(KeyRestart, "always"))
	l.start()
	l.probes(1, Passed)
	l.pass(10 * time.Second)
	l.expect("starting", "healthy", "probe")
	l.seen(StateFrozen)
	l.expect("cancel")
	l.answer(Failed, 137) // stale
	l.pass(time.Hour)
	l.expect()
	l.seen(StateRunning)
	if got := l.m.Next().Sub(l.now); got != 10*time.Second {
		t.Fatalf("next probe after %s", got)
	}

	l.expect()
}

func TestH14StopCancelsAndStartBeginsAnew(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.probes(1, Passed)
	l.probes(2, Failed)
	l.pass(10 * time.Second)
	l.expect("starting", "healthy", "probe")
	l.stopBy("root")
	l.expect("cancel", "stopped")
	l.answer(Failed, 1)
	l.pass(time.Minute)
	l.expect()
	l.start()
	l.expect("starting")
	l.probes(2, Failed)
	l.expect()
}

func TestH14RestartSeenOnlyByItsNewStart(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.probes(1, Passed)
	l.expect("starting", "healthy")
	l.pass(time.Second)
	l.start()
	l.expect("starting")
}

func TestRestartOnlyInstanceIsHealthyWhileItRuns(t *testing.T) {
	l := newLife(t, keys(KeyRestart, "always"))
	l.start()
	l.expect("healthy")
	l.stopBy("root")
	l.expect("stopped")
}

func TestH26FirstProbesOfManyAreSpread(t *testing.T) {
	spec, _, _, _ := ParseSpec(checked(KeyInterval, "1m"))
	roll := rand.New(rand.NewPCG(1, 2))
	var buckets [10]int
	const n = 5000
	for range n {
		m := New(nil, roll.Float64)
		m.Step(Seen{Spec: spec, State: StateRunning, Started: epoch.Add(-time.Hour)}, epoch)
		d := m.Next().Sub(epoch)
		if d < 0 || d >= maxSpread {
			t.Fatalf("first probe after %s", d)
		}

		buckets[d*10/maxSpread]++
	}

	for i, b := range buckets {
		if b < n/10*8/10 || b > n/10*12/10 {
			t.Errorf("bucket %d has %d of %d: %v", i, b, n, buckets)
		}
	}
}

func TestH31ConfigChangeInFlight(t *testing.T) {
	t.Run("a new test", func(t *testing.T) {
		l := newLife(t, checked())
		l.start()
		l.probes(1, Passed)
		l.probes(2, Failed)
		l.pass(10 * time.Second)
		l.log = nil
		l.spec, _, _, _ = ParseSpec(checked(KeyTest, `["CMD","other"]`))
		l.seen(StateRunning)
		l.expect("cancel")
		l.answer(Failed, 1) // of the old test
		l.pass(time.Second)
		l.expect("probe")
		if l.m.streak != 0 || l.m.passed {
			t.Errorf("what the old test said is still believed")
		}
	})
	t.Run("a shorter interval", func(t *testing.T) {
		l := newLife(t, checked(KeyInterval, "1h"))
		l.start()
		l.probesAfter(time.Hour, Passed)
		l.pass(time.Minute)
		l.log = nil
		l.spec, _, _, _ = ParseSpec(checked(KeyInterval, "1s"))
		l.seen(StateRunning)
		l.pass(time.Second)
		l.expect("probe")
	})
	t.Run("no check any more", func(t *testing.T) {
		l := newLife(t, checked())
		l.start()
		l.log = nil
		l.spec, _, _, _ = ParseSpec(keys(KeyRestart, "always"))
		l.seen(StateRunning)
		l.expect("healthy")
		l.pass(time.Hour)
		l.expect()
	})
	t.Run("a check that was added", func(t *testing.T) {
		l := newLife(t, keys(KeyRestart, "always"))
		l.start()
		l.log = nil
		l.spec, _, _, _ = ParseSpec(checked())
		l.seen(StateRunning)
		l.pass(time.Second)
		l.expect("starting", "probe")
	})
}

// probesAfter waits for one probe.
func (l *life) probesAfter(d time.Duration, v Verdict) {
	l.pass(d)
	l.answer(v, 0)
}

func TestH33ClockJumpsAndSuspend(t *testing.T) {
	t.Run("the wall clock is asked for the age of a run only once", func(t *testing.T) {
		l := newLife(t, checked(KeyStartPeriod, "1m"))
		l.run = l.now.Add(time.Hour) // the wall clock was set back
		l.seen(StateRunning)
		l.probes(3, Failed)
		l.expect("starting")
		l.pass(2 * time.Minute)
	})
	t.Run("after a suspend one probe each, later, and no verdict", func(t *testing.T) {
		l := newLife(t, checked())
		l.start()
		l.probes(1, Passed)
		l.log = nil
		l.now = l.now.Add(time.Hour)
		l.step(Tick{})
		l.expect()
		if got := l.m.Next().Sub(l.now); got != 5*time.Second {
			t.Fatalf("next probe after %s", got)
		}

		l.pass(5 * time.Second)
		l.expect("probe")
	})
}

func TestH28TimeoutsOfAStarvedHostDoNotCount(t *testing.T) {
	l := newLife(t, checked(KeyRetries, "1"))
	l.start()
	l.probes(1, Passed)
	l.pass(10 * time.Second)
	l.log = nil
	l.step(Probed{Gen: l.last.Gen, Starved: true, Result: Result{Verdict: TimedOut, Code: -1, At: l.now}})
	l.step(Freed{Gen: l.last.Gen})
	l.expect()
	l.probes(1, TimedOut)
	l.expect("unhealthy")
}

func TestX8SuccessesInARow(t *testing.T) {
	l := newLife(t, checked(KeySuccesses, "3", KeyRetries, "1"))
	l.start()
	l.probes(1, Passed)
	l.expect("starting", "healthy")
	l.probes(1, Failed)
	l.expect("unhealthy")
	l.probes(2, Passed)
	l.probes(1, Failed)
	l.probes(2, Passed)
	l.expect()
	l.probes(1, Passed)
	l.expect("healthy")
}

func TestX9ALongHealthyCheckIsStretchedOnAStarvedHost(t *testing.T) {
	l := newLife(t, checked(KeyStretch, "3"))
	l.start()
	next := func(v Verdict, starved bool, want time.Duration) {
		t.Helper()
		l.pass(l.m.Next().Sub(l.now))
		l.step(Probed{Gen: l.last.Gen, Result: Result{Verdict: v, At: l.now}, Starved: starved})
		l.step(Freed{Gen: l.last.Gen})
		if got := l.m.Next().Sub(l.now); got != want {
			t.Fatalf("at +%s the next comes %s later, want %s", l.now.Sub(epoch), got, want)
		}
	}
	for range longHealthy {
		next(Passed, true, 10*time.Second)
	}
	next(Passed, true, 30*time.Second)
	next(Passed, false, 10*time.Second)
	next(TimedOut, true, 30*time.Second) // which says nothing there
	next(Failed, true, 10*time.Second)
	next(Passed, true, 30*time.Second)
}

func TestX10LastFiveResultsAreKept(t *testing.T) {
	l := newLife(t, checked())
	l.start()
	l.probes(7, Failed)
	l.crash(3)
	if len(l.m.results) != 5 || l.m.exit.Code != 3 {
		t.Fatalf("%d results, exit %v", len(l.m.results), l.m.exit)
	}
}
