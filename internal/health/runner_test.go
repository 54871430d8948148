package health

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet is an Incus of many instances that always run; what their probes do is in probe.
type fleet struct {
	list  []Instance
	probe func(ctx context.Context, i Instance) Result
	stop  func(ctx context.Context, id ID) // what a stop does; nil for nothing

	mu       sync.Mutex
	writes   int
	starts   int
	begun    map[ID][]time.Time
	busy     int
	mostBusy int
}

func (f *fleet) List(context.Context) ([]Instance, map[string]string, error) { return f.list, nil, nil }

func (f *fleet) Look(_ context.Context, id ID) (Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.list, func(i Instance) bool { return i.ID == id })
	if at < 0 {
		return Instance{}, ErrGone
	}
	return f.list[at], nil
}

func (f *fleet) Exit(context.Context, ID) (Exit, error) { return Exit{}, nil }

func (f *fleet) Write(context.Context, ID, string, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	return nil
}

func (f *fleet) Start(context.Context, ID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	return nil
}

func (f *fleet) Stop(ctx context.Context, id ID, _ time.Duration) error {
	if f.stop != nil {
		f.stop(ctx, id)
	}
	return nil
}

func (f *fleet) Probe(ctx context.Context, i Instance, _ Spec) (Result, func() bool) {
	at := time.Now()
	f.mu.Lock()
	f.begun[i.ID] = append(f.begun[i.ID], at)
	f.busy++
	f.mostBusy = max(f.mostBusy, f.busy)
	f.mu.Unlock()
	r := f.probe(ctx, i)
	f.mu.Lock()
	f.busy--
	f.mu.Unlock()
	r.At, r.Took = at, time.Since(at)
	return r, nil
}

// takes is a probe that takes so long and passes.
func takes(d time.Duration) func(context.Context, Instance) Result {
	return func(ctx context.Context, _ Instance) Result {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return Result{Verdict: Passed}
		case <-ctx.Done():
			return Result{Verdict: NoAnswer}
		}
	}
}

// add makes n instances of a project, which have run for an hour.
func (f *fleet) add(project string, n int, config map[string]string) {
	for i := range n {
		c := map[string]string{KeyStatus: "healthy"}
		maps.Copy(c, config)
		f.list = append(f.list, Instance{
			ID: ID{project, fmt.Sprintf("i%d", i)}, State: StateRunning, Started: time.Now().Add(-time.Hour), Config: c,
		})
	}
}

// run runs a Runner over the fleet for a time; the hints are a first one for all.
func (f *fleet) run(t *testing.T, d time.Duration, more func(r *Runner)) *Runner {
	return f.runAs(t, Options{Instances: f, Hands: f, Prober: f}, d, more)
}

// runAs is run with options of its own, but for the hints and the randomness.
func (f *fleet) runAs(t *testing.T, opt Options, d time.Duration, more func(r *Runner)) *Runner {
	f.begun = map[ID][]time.Time{}
	opt.Random = rand.New(rand.NewPCG(1, 2)).Float64
	opt.Hints = func(ctx context.Context, on func(Hint)) error {
		on(Hint{All: true})
		<-ctx.Done()
		return ctx.Err()
	}
	r := NewRunner(opt)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	time.Sleep(d)
	if more != nil {
		more(r)
	}
	cancel()
	<-done
	return r
}

func TestH37FiveThousandInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(150 * time.Millisecond)}
		f.add("a", 5000, checked())
		before := runtime.NumGoroutine()
		r := f.run(t, time.Minute, func(*Runner) {
			if n := runtime.NumGoroutine() - before; n > defaultWorkers+10 {
				t.Errorf("%d goroutines", n)
			}
		})
		late := 0
		for id, at := range f.begun {
			for n := 1; n < len(at); n++ {
				if at[n].Sub(at[n-1]) > 10*time.Second+200*time.Millisecond {
					late++
				}
				if at[n].Sub(at[n-1]) < 10*time.Second+150*time.Millisecond {
					t.Fatalf("%s: two probes within %s", id, at[n].Sub(at[n-1]))
				}
			}
		}
		if late > 5000*5/100 {
			t.Errorf("%d probes were more than 50 ms late", late)
		}
		if len(f.begun) != 5000 || f.mostBusy > defaultWorkers || f.writes != 0 {
			t.Errorf("%d instances probed, %d at once, %d writes", len(f.begun), f.mostBusy, f.writes)
		}
		if r.count.Checks[Passed] < 5000*4 {
			t.Errorf("%d probes in a minute", r.count.Checks[Passed])
		}
	})
}

func TestH37MemoryOfAnInstance(t *testing.T) {
	const n = 5000
	var list []*Machine
	var before, after runtime.MemStats
	spec, _, _, _ := ParseSpec(checked())
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		m := New(nil, func() float64 { return 0 })
		m.Step(Seen{Spec: spec, State: StateRunning, Started: epoch}, epoch)
		for k := range 6 {
			m.Step(Tick{}, epoch.Add(time.Duration(k)*time.Hour))
			m.Step(Probed{Gen: uint64(k + 1), Result: Result{Verdict: Passed}}, epoch)
			m.Step(Freed{Gen: uint64(k + 1)}, epoch)
		}
		list = append(list, m)
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(list)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	if each > 4096 || each < 100 {
		t.Errorf("%d bytes for each of %d", each, len(list))
	}
}

func TestH27HangingProbesOfOneProjectDelayNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: func(ctx context.Context, i Instance) Result {
			if i.ID.Project == "bad" {
				return takes(30*time.Second)(ctx, i)
			}
			return takes(50*time.Millisecond)(ctx, i)
		}}
		f.add("bad", 1000, checked())
		f.add("good", 20, checked())
		f.run(t, 5*time.Minute, nil)
		for id, at := range f.begun {
			if id.Project == "bad" {
				continue
			}
			for n := 1; n < len(at); n++ {
				if d := at[n].Sub(at[n-1]); d > 11*time.Second+50*time.Millisecond {
					t.Fatalf("%s waited %s", id, d)
				}
			}
			if len(at) < 28 {
				t.Errorf("%s: %d probes in five minutes", id, len(at))
			}
		}
	})
}

func TestH27AProjectIsNotHeldBackWhileWorkersAreIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: func(ctx context.Context, i Instance) Result {
			if i.ID.Project == "p0" && i.ID.Name < "i5" {
				return takes(time.Minute)(ctx, i)
			}
			return takes(5*time.Second)(ctx, i)
		}}
		f.add("p0", 8, checked())
		for n := range 60 {
			f.add(fmt.Sprintf("p%d", n+1), 3, checked())
		}
		f.run(t, 5*time.Minute, nil)
		for id, at := range f.begun {
			for n := 1; !(id.Project == "p0" && id.Name < "i5") && n < len(at); n++ {
				if d := at[n].Sub(at[n-1]); d > 15*time.Second+100*time.Millisecond {
					t.Fatalf("%s waited %s", id, d)
				}
			}
		}
	})
}

func TestH14AStopCancelsTheProbeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan time.Time, 1)
		f := &fleet{probe: func(ctx context.Context, _ Instance) Result {
			<-ctx.Done()
			cancelled <- time.Now()
			return Result{Verdict: NoAnswer}
		}}
		f.add("a", 1, checked(KeyTimeout, "1h"))
		f.run(t, 15*time.Second, func(r *Runner) {
			f.mu.Lock()
			f.list[0].State = StateStopped
			f.mu.Unlock()
			began := time.Now()
			r.post(t.Context(), func(now time.Time) { r.hint(Hint{ID: f.list[0].ID, Ended: true, By: "root"}, now) })
			if at := <-cancelled; at.Sub(began) > time.Second {
				t.Errorf("after %s", at.Sub(began))
			}
		})
	})
}

func TestH28AStormOfFailuresPausesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick bool
		var mu sync.Mutex
		f := &fleet{probe: func(context.Context, Instance) Result {
			mu.Lock()
			defer mu.Unlock()
			if sick {
				return Result{Verdict: Failed, Code: 1}
			}
			return Result{Verdict: Passed}
		}}
		f.add("a", 100, checked(KeyRestart, "always", KeyRetries, "1"))
		f.run(t, 30*time.Second, func(r *Runner) {
			mu.Lock()
			sick = true
			mu.Unlock()
			time.Sleep(40 * time.Second)
			s, err := r.Summary(t.Context())
			if err != nil || !s.Paused || s.Unhealthy != 100 {
				t.Errorf("%+v, %v", s, err)
			}
			if f.starts > 20 {
				t.Errorf("%d of 100 were restarted", f.starts)
			}
		})
	})
}

// ic-agent changes an instance that is unhealthy, and so about to be restarted: it is the agent's to start.
func TestARestartLeavesWhatIsBeingChanged(t *testing.T) {
	fails := func(context.Context, Instance) Result { return Result{Verdict: Failed, Code: 1} }
	change := func(i *Instance) { i.Config = checked(KeyRestart, "always", KeyRetries, "1", KeyStopped, "true") }
	healthy := func(t *testing.T, r *Runner, id ID) { // or its check would count as broken
		done := make(chan struct{})
		r.post(t.Context(), func(time.Time) { r.entries[id].m.passed = true; close(done) })
		<-done
	}
	t.Run("before it is stopped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			stops := 0
			f := &fleet{probe: fails, stop: func(context.Context, ID) { stops++ }}
			f.add("a", 1, checked(KeyRestart, "always", KeyRetries, "1"))
			f.run(t, time.Second, func(r *Runner) {
				healthy(t, r, f.list[0].ID)
				f.turn(t, r, 0, change, Hint{})
				time.Sleep(time.Minute)
				if n := f.started(); n != 0 || stops != 0 {
					t.Errorf("%d stops, %d starts", stops, n)
				}
				f.turn(t, r, 0, func(i *Instance) { i.Config = checked(KeyRestart, "always", KeyRetries, "1") }, Hint{})
				time.Sleep(time.Minute)
				if f.started() == 0 {
					t.Error("not restarted when the change was given up")
				}
			})
		})
	})
	t.Run("while it is being stopped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{probe: fails}
			f.add("a", 1, checked(KeyRestart, "always", KeyRetries, "1"))
			f.stop = func(context.Context, ID) {
				f.mu.Lock()
				defer f.mu.Unlock()
				change(&f.list[0])
				f.list[0].State = StateStopped
			}
			f.run(t, time.Second, func(r *Runner) {
				healthy(t, r, f.list[0].ID)
				time.Sleep(time.Minute)
				if s := f.list[0].State; s != StateStopped || f.started() != 0 {
					t.Errorf("it is %s, %d starts", s, f.started())
				}
			})
		})
	})
}

// started is how many starts there were.
func (f *fleet) started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

// turn changes an instance, and a hint says so.
func (f *fleet) turn(t *testing.T, r *Runner, at int, change func(i *Instance), h Hint) {
	t.Helper()
	f.mu.Lock()
	change(&f.list[at])
	h.ID = f.list[at].ID
	f.mu.Unlock()
	r.post(t.Context(), func(now time.Time) { r.hint(h, now) })
	time.Sleep(time.Millisecond)
}

func TestH26IncusThatIsStillStartingWhatRanIsLeftToIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(time.Millisecond)}
		f.add("a", 10, keys(KeyRestart, "always"))
		f.run(t, 10*time.Second, func(r *Runner) {
			for i := range f.list {
				f.turn(t, r, i, func(i *Instance) {
					i.State, i.Config = StateStopped, keys(KeyRestart, "always", "volatile.last_state.power", "RUNNING")
				}, Hint{Ended: true})
			}
			for i := range f.list[1:] { // one each 20 s: three minutes
				time.Sleep(20 * time.Second)
				f.turn(t, r, i+1, func(i *Instance) { i.State, i.Started = StateRunning, time.Now() }, Hint{})
			}
			if n := f.started(); n != 0 {
				t.Errorf("%d were started while Incus was at it", n)
			}
			time.Sleep(stillStarting + 2*holdFor)
			if n := f.started(); n != 1 {
				t.Errorf("%d starts, want that of the one which Incus forgot", n)
			}
		})
	})
}

func TestX6TheBudgetOfRestarts(t *testing.T) {
	var g guard
	now := epoch
	n := 0
	for range 1000 {
		if g.take(false, now) {
			n++
		}
		now = now.Add(10 * time.Millisecond)
	}
	if want := budgetBurst + 10*int(budgetRefill); n < want-1 || n > want+1 {
		t.Errorf("%d restarts in ten seconds, want %d", n, want)
	}
}

func TestH39NothingGrowsInADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(time.Millisecond)}
		f.add("a", 5, checked())
		f.run(t, time.Minute, func(r *Runner) {
			before := runtime.NumGoroutine()
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			if n := runtime.NumGoroutine(); n > before+2 {
				t.Errorf("%d goroutines, %d before", n, before)
			}
			if len(r.queue.projects) > 1 || len(r.dirty) > 0 || len(r.unwritten) > 0 || r.times.Len() > 20 {
				t.Errorf("left: %d projects, %d dirty, %d unwritten, %d times", len(r.queue.projects), len(r.dirty), len(r.unwritten), r.times.Len())
			}
		})
	})
}

func TestX5AStopSeenBeforeItsEventIsNotTakenForACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(time.Millisecond)}
		f.add("a", 1, keys(KeyRestart, "always"))
		f.run(t, 5*time.Second, func(r *Runner) {
			id := f.list[0].ID
			f.mu.Lock()
			f.list[0].State = StateStopped
			f.mu.Unlock()
			r.post(t.Context(), func(now time.Time) { r.hint(Hint{ID: id}, now) }) // some other event
			time.Sleep(time.Second)
			r.post(t.Context(), func(now time.Time) { r.hint(Hint{ID: id, Ended: true, By: "root"}, now) })
			time.Sleep(time.Minute)
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.starts != 0 {
				t.Errorf("%d starts", f.starts)
			}
		})
	})
}

func TestX6OneThatFlapsIsNoStorm(t *testing.T) {
	var g guard
	for n := range 30 {
		g.status(ID{"a", "web"}, SetStatus{Status: Unhealthy}, epoch.Add(time.Duration(n)*time.Second))
	}
	if now := epoch.Add(30 * time.Second); g.storm(3, now) {
		t.Error("one instance makes a storm")
	}
	for n := range 5 {
		g.status(ID{"a", fmt.Sprint(n)}, SetStatus{Status: Unhealthy}, epoch.Add(30*time.Second))
	}
	if !g.storm(20, epoch.Add(31*time.Second)) || g.storm(20, epoch.Add(95*time.Second)) {
		t.Error("six of twenty are a storm, for a minute")
	}
}
