//go:build bench

// Package health measures the health daemon's scheduler in real time against instances that do nothing but answer. It
// prints figures and asserts nothing about seconds:
//
//	go test -tags bench -count=1 -v ./bench/health
package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	ours "github.com/incus-compose/ic-agent/internal/health"
)

const (
	interval = 10 * time.Second
	takes    = 150 * time.Millisecond
)

// fleet is an Incus of instances that run, until one is told to end.
type fleet struct {
	mu      sync.Mutex
	list    []ours.Instance
	ended   map[ours.ID]time.Time // of the last probe
	late    []time.Duration
	probes  int
	quick   bool // a check takes no time and is only counted
	hint    func(ours.Hint)
	started chan time.Time
}

func (f *fleet) List(context.Context) ([]ours.Instance, map[string]string, error) {
	return slices.Clone(f.list), nil, nil
}

func (f *fleet) Look(_ context.Context, id ours.ID) (ours.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.list {
		if i.ID == id {
			return i, nil
		}
	}

	return ours.Instance{}, ours.ErrGone
}

func (f *fleet) Exit(context.Context, ours.ID) (ours.Exit, error) {
	return ours.Exit{Known: true, Code: 1}, nil
}
func (f *fleet) Write(context.Context, ours.ID, string, string) error { return nil }
func (f *fleet) Stop(context.Context, ours.ID, time.Duration) error   { return nil }
func (f *fleet) Start(context.Context, ours.ID) error                 { f.started <- time.Now(); return nil }

func (f *fleet) hints(ctx context.Context, on func(ours.Hint)) error {
	f.mu.Lock()
	f.hint = on
	f.mu.Unlock()
	on(ours.Hint{All: true})
	<-ctx.Done()

	return ctx.Err()
}

func (f *fleet) Probe(ctx context.Context, i ours.Instance, _ ours.Spec) (ours.Result, func() bool) {
	at := time.Now()
	if f.quick {
		f.mu.Lock()
		f.probes++
		f.mu.Unlock()

		return ours.Result{Verdict: ours.Passed, At: at, Output: "ok"}, nil
	}

	f.mu.Lock()
	last, known := f.ended[i.ID]
	if known {
		f.late = append(f.late, at.Sub(last)-interval)
	}

	f.probes++
	f.mu.Unlock()
	t := time.NewTimer(takes)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}

	f.mu.Lock()
	f.ended[i.ID] = time.Now()
	f.mu.Unlock()

	return ours.Result{Verdict: ours.Passed, At: at, Took: takes}, nil
}

// run starts a runner over n instances.
func run(t *testing.T, n int) (*fleet, *ours.Runner) {
	t.Helper()
	f := newFleet(n)

	return f, f.run(t)
}

func newFleet(n int) *fleet {
	f := &fleet{ended: map[ours.ID]time.Time{}, started: make(chan time.Time, 1)}
	for i := range n {
		f.list = append(f.list, ours.Instance{
			ID: ours.ID{Project: fmt.Sprintf("p%d", i%50), Name: fmt.Sprintf("i%d", i)}, State: ours.StateRunning, Started: time.Now().Add(-time.Hour),
			Config: map[string]string{
				ours.KeyEnabled: "true", ours.KeyTest: `["CMD","true"]`, ours.KeyInterval: interval.String(), ours.KeyRestart: "always", ours.KeyStatus: "healthy",
			},
		})
	}

	return f
}

func (f *fleet) run(t *testing.T) *ours.Runner {
	t.Helper()
	r := ours.NewRunner(ours.Options{Instances: f, Hands: f, Prober: f, Hints: f.hints, Random: rand.Float64})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	return r
}

func (f *fleet) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()

	return f.probes
}

// wait lets the fleet live for a time.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	if err != nil {
		t.Fatal(err)
	}

	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

func rss(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}

	_, after, _ := strings.Cut(string(b), "VmRSS:")
	line, _, _ := strings.Cut(after, "\n")

	return strings.TrimSpace(line)
}

// TestThousand is the memory of a fleet of a thousand.
func TestThousand(t *testing.T) {
	run(t, 1000)
	wait(t, 25*time.Second)
	t.Logf("1,000 instances: %s resident, the fake included", rss(t))
}

// TestFiveThousand is lateness, processor, memory and goroutines of a fleet of five thousand.
func TestFiveThousand(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	before := heap()
	f, r := run(t, 5000)
	wait(t, 3*interval) // all are spread, and in their stride
	f.mu.Lock()
	f.late, f.probes = nil, 0
	f.mu.Unlock()
	began, used := time.Now(), cpu(t)
	most := 0
	for time.Since(began) < 3*interval {
		most = max(most, runtime.NumGoroutine()-goroutines)
		wait(t, 100*time.Millisecond)
	}

	wall, spent := time.Since(began), cpu(t)-used
	f.mu.Lock()
	late, probes := slices.Clone(f.late), f.probes
	f.mu.Unlock()
	slices.Sort(late)
	each := (int64(heap()) - int64(before)) / 5000
	s, err := r.Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	t.Logf("5,000 instances every %s, checks of %s: %d checks in %s", interval, takes, probes, wall.Round(time.Millisecond))
	t.Logf("lateness: median %s, p99 %s, most %s (goal: p99 50 ms)", late[len(late)/2], late[len(late)*99/100], late[len(late)-1])
	t.Logf("processor: %.3f cores, the fake's included (goal: 0.5)", spent.Seconds()/wall.Seconds())
	t.Logf("memory: %d bytes an instance, the fake's included (goal: 4096); goroutines: %d at most (goal: workers + constant); %s", each, most, s)
}

// TestADay is 24 hours of virtual time with a hundred checks a second: what remains of them.
func TestADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(1000)
		f.quick = true
		r := f.run(t)
		wait(t, time.Hour)
		synctest.Wait()
		goroutines, before, began := runtime.NumGoroutine(), heap(), f.count()
		used := cpu(t)
		wait(t, 24*time.Hour)
		synctest.Wait()
		after := heap()
		s, err := r.Summary(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		t.Logf("%d checks in 24 hours of virtual time, %s of processor time each, the fake's included; %s", f.count()-began, (cpu(t)-used)/time.Duration(max(1, f.count()-began)), s)
		t.Logf("goroutines: %d before, %d after; heap: %d KB before, %d KB after", goroutines, runtime.NumGoroutine(), before>>10, after>>10)
		if runtime.NumGoroutine() > goroutines+2 || after > before+1<<20 {
			t.Error("it grows")
		}
	})
}

// TestCrash is the time from the event of a crash to the call that starts the instance.
func TestCrash(t *testing.T) {
	f, _ := run(t, 1000)
	wait(t, 2*time.Second)
	var took []time.Duration
	for i := range 20 {
		f.mu.Lock()
		f.list[i].State = ours.StateStopped
		id, hint := f.list[i].ID, f.hint
		f.mu.Unlock()
		at := time.Now()
		hint(ours.Hint{ID: id, Ended: true})
		took = append(took, (<-f.started).Sub(at))
	}

	slices.Sort(took)
	t.Logf("from the event to the call: median %s, most %s (goal: 200 ms; 100 ms of it is the policy's delay)", took[10], took[19])
}
