package healthd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/health"
)

// teller is a loop that is asked how it is.
type teller struct {
	mu    sync.Mutex
	sum   health.Summary
	late  time.Duration
	asked int
	said  []string
}

func (l *teller) Summary(context.Context) (health.Summary, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return l.sum, nil
}

func (l *teller) Late(time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late
}

func (l *teller) Resync(context.Context) {}

// is makes the loop be in a state.
func (l *teller) is(unhealthy int, late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Unhealthy, l.late = unhealthy, late
}

// took returns what was said to systemd since the last call.
func (l *teller) took() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	said := l.said
	l.said = nil
	return said
}

// systemd is told at once what changed, once a second at most, and nothing while nothing does but that we live.
func TestH41SystemdIsToldWhatChangedAndThatWeLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &teller{sum: health.Summary{Ready: true, Checks: 1}}
		changed := make(chan struct{}, 1)
		conf := Config{Watchdog: time.Minute, Log: slog.New(slog.DiscardHandler), Notify: func(s string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.said = append(l.said, s)
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); tell(ctx, conf, l, changed) }()
		for n, c := range []struct {
			change func()
			after  time.Duration
			want   []string
		}{
			{func() {}, time.Second, []string{"READY=1\nSTATUS=waiting for Incus"}},
			{func() { changed <- struct{}{} }, 0, []string{"STATUS=1 check, 0 unhealthy, 0 broken"}},
			{func() { l.is(1, 0); changed <- struct{}{} }, 999 * time.Millisecond, nil},
			{func() {}, time.Millisecond, []string{"STATUS=1 check, 1 unhealthy, 0 broken"}},
			{func() {}, 12 * time.Second, nil},
			{func() {}, 30 * time.Second, []string{"WATCHDOG=1", "WATCHDOG=1"}},
			{func() { l.is(1, 11*time.Second) }, 30 * time.Second, nil},
		} {
			c.change()
			time.Sleep(c.after)
			if got := l.took(); !slices.Equal(got, c.want) {
				t.Errorf("step %d: it says %q, want %q", n, got, c.want)
			}
		}
		if l.asked != 6 {
			t.Errorf("the loop was asked %d times", l.asked)
		}
		cancel()
		<-ended
	})
}

// Where the kernel cannot be heard any more all is closed, and nothing is opened again.
func TestEndsThatCannotBeHeardLeaveNothingOpen(t *testing.T) {
	x, err := newExits(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	id, waker, yes := health.ID{Project: "blog", Name: "web"}, x.waker, func() bool { return true }
	err = x.follow(id, time.Unix(5, 0), os.Getpid(), yes)
	if err != nil {
		t.Fatal(err)
	}
	fd := x.byID[id].fd
	file, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Dup3(int(file.Fd()), x.epoll, unix.O_CLOEXEC) // a file is nothing to wait with
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	epoll := x.epoll
	if x.hear(t.Context()) == nil {
		t.Error("it does not say so")
	}
	for name, fd := range map[string]int{"the process": fd, "the waker": waker, "the wait": epoll} {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil {
			t.Errorf("%s is still open", name)
		}
	}
	err = x.follow(id, time.Unix(6, 0), os.Getpid(), yes)
	if err == nil || x.knows(id, time.Unix(6, 0)) || len(x.byFD) != 0 {
		t.Errorf("it follows on: %v", err)
	}
	x.wake()
}

// The kernel is asked when it matters, and not more often than it takes its averages.
func TestPressureIsReadWhenAskedFor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := pressure{dir: dir}
		for n, c := range []struct {
			cpu   string
			after time.Duration
			want  bool
		}{{"99.00", 0, true}, {"1.00", time.Second, true}, {"1.00", time.Second, false}, {"99.00", time.Hour, true}} {
			err := os.WriteFile(filepath.Join(dir, "cpu"), []byte("some avg10="+c.cpu+" avg60=1.00 avg300=1.00 total=1\n"), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.after)
			if p.now() != c.want {
				t.Errorf("step %d: %v", n, !c.want)
			}
		}
	})
}
