package health

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An idle daemon sleeps to its next deadline, and is late for none: not for a check, a resync or the keeping of what changed.
func TestTheLoopSleepsToItsNextDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(150 * time.Millisecond)}
		f.add("a", 1, checked(KeyInterval, "1h"))
		f.run(t, 50*time.Second, func(r *Runner) {
			synctest.Wait()
			if idle := r.Idle(time.Now()); idle < 48*time.Second {
				t.Errorf("with nothing to do it turned %s ago", idle)
			}
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			if late := r.Late(time.Now()); late > 0 {
				t.Errorf("it is %s late", late)
			}
			at := f.begun[f.list[0].ID]
			if len(at) != 4 || at[3].Sub(at[2]) != time.Hour+150*time.Millisecond {
				t.Errorf("the checks were made at %v", at)
			}
		})
	})
}

// counted is a fleet whose listings and keepings are counted.
type counted struct {
	*fleet
	lists atomic.Int32
	away  atomic.Bool
}

func (c *counted) List(ctx context.Context) ([]Instance, map[string]string, error) {
	c.lists.Add(1)
	if c.away.Load() {
		return nil, nil, errors.New("away")
	}
	return c.fleet.List(ctx)
}

// All that waits for a time alone has it: the loop has no other beat.
func TestWhatWaitsForATimeIsDoneInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{fleet: &fleet{probe: takes(0)}}
		c.add("a", 1, checked(KeyInterval, "1h"))
		c.away.Store(true)
		var saves, changes atomic.Int32
		opt := Options{
			Instances: c, Hands: c, Prober: c, Changed: func() { changes.Add(1) },
			Save: func(map[ID]Saved) error { saves.Add(1); return nil },
		}
		c.runAs(t, opt, 0, func(*Runner) { c.comesBack(t, &saves, &changes) })
	})
}

// comesBack lets time pass, and Incus come back.
func (c *counted) comesBack(t *testing.T, saves, changes *atomic.Int32) {
	t.Helper()
	var got []int32
	for _, d := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second} {
		time.Sleep(d)
		synctest.Wait()
		got = append(got, c.lists.Load())
	}
	if want := []int32{1, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("while Incus is away it is asked %v times, want %v", got, want)
	}
	if n := changes.Load(); n != 1 {
		t.Errorf("that it is away is told %d times", n)
	}
	c.away.Store(false)
	time.Sleep(4 * time.Second)
	synctest.Wait()
	if n := saves.Load(); n != 0 {
		t.Errorf("what did not change is kept %d times", n)
	}
	time.Sleep(saveAfter)
	synctest.Wait()
	if saves.Load() != 1 || changes.Load() < 2 || c.lists.Load() != 5 {
		t.Errorf("when it is back it keeps %d times, tells %d times, asks %d times", saves.Load(), changes.Load(), c.lists.Load())
	}
	time.Sleep(resyncEvery)
	synctest.Wait()
	if n := c.lists.Load(); n != 6 {
		t.Errorf("after five minutes it has asked %d times", n)
	}
}

// A loop that is at one thing for long is late, and one that rests is not.
func TestH41ALoopThatHangsIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(0)}
		f.run(t, 30*time.Second, func(r *Runner) {
			free := make(chan struct{})
			r.post(t.Context(), func(time.Time) { <-free })
			time.Sleep(11 * time.Second)
			if late := r.Late(time.Now()); late != 11*time.Second {
				t.Errorf("it hangs and is %s late", late)
			}
			close(free)
			synctest.Wait()
			if late := r.Late(time.Now()); late > 0 {
				t.Errorf("it rests and is %s late", late)
			}
		})
	})
}

// refusing is a fleet whose first writes fail.
type refusing struct {
	*fleet
	left int // of the writes that fail
	at   []time.Time
}

func (f *refusing) Write(context.Context, ID, string, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = append(f.at, time.Now())
	f.left--
	if f.left >= 0 {
		return errors.New("database is locked")
	}
	return nil
}

func TestH29AWriteThatFailedIsRepeatedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &refusing{fleet: &fleet{probe: takes(0)}, left: 2}
		f.add("a", 1, checked(KeyInterval, "1h", KeyStatus, "unknown"))
		begun := time.Now()
		f.runAs(t, Options{Instances: f, Hands: f, Prober: f}, 5*time.Second, nil)
		var got []time.Duration
		for _, at := range f.at {
			got = append(got, at.Sub(begun))
		}
		if want := []time.Duration{0, firstRetry, 3 * firstRetry}; !slices.Equal(got[:min(3, len(got))], want) {
			t.Errorf("it is written after %v, want %v", got, want)
		}
	})
}

// What is more than the budget has at once waits for it, and no longer.
func TestH28RestartsBeyondTheBudgetFollowAsItFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{probe: takes(0)}
		f.add("a", budgetBurst+10, map[string]string{KeyEnabled: "true", KeyRestart: "always"})
		saved := map[ID]Saved{}
		for n := range f.list {
			i := &f.list[n]
			i.State = StateStopped
			saved[i.ID] = Saved{Run: i.Started, Status: Stopped, Ran: true, Pending: true, Reason: "ended by itself"}
		}
		f.runAs(t, Options{Instances: f, Hands: f, Prober: f, Saved: saved}, sureAfter+time.Second, func(*Runner) {
			started := func() int {
				synctest.Wait()
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.starts
			}
			if n := started(); n < budgetBurst || n > budgetBurst+5 {
				t.Errorf("a second after they were found %d are restarted", n)
			}
			time.Sleep(2 * time.Second)
			if n := started(); n != budgetBurst+10 {
				t.Errorf("after three %d are", n)
			}
		})
	})
}
