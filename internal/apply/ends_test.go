package apply_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A crash loop is told once, and again after a while with a count; not each time.
func TestCrashLoopIsToldOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		var out bytes.Buffer
		b.end()
		b.log = slog.New(slog.NewTextHandler(&out, nil))
		b.begin()
		b.edit(blog("1"))
		for range 40 {
			err := b.server.Exit("blog", "db-1", 3)
			if err != nil {
				t.Fatal(err)
			}

			time.Sleep(30 * time.Second)
			synctest.Wait()
			err = b.client.Do(b.t.Context(), "blog", plan.StartInstance{Name: "db-1"})
			if err != nil {
				t.Fatal(err)
			}

			time.Sleep(time.Second)
			synctest.Wait()
		}

		said := strings.Count(out.String(), `msg="instance ended"`)
		if said < 2 || said > 4 || !strings.Contains(out.String(), "times=") {
			t.Errorf("told %d times:\n%s", said, out.String())
		}
	})
}

// A ledger that cannot be written is said, once; services run on, and it is written when that is possible again.
func TestFullDiskIsSaidAndOutlived(t *testing.T) {
	inBubble(t, func(b *bench) {
		var out bytes.Buffer
		b.end()
		b.log = slog.New(slog.NewTextHandler(&out, nil))
		b.begin()
		full := &fullDisk{Ledger: b.db}
		full.err.Store(true)
		synctest.Wait()
		b.host.Ledger = full
		b.edit(blog("1"))
		b.edit(blog("2", mode("b")))
		b.pass(2 * time.Minute)
		b.mustRun("db-1", "web-1", "web-2")
		conditions := b.loop.View().Ledger.Conditions
		if len(conditions) != 1 || conditions[0].Type != "StateNotPersisted" || !strings.Contains(conditions[0].Text, "no space left") {
			t.Errorf("the conditions are %v", conditions)
		}

		full.err.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		led, err := b.db.Load("blog")
		if err != nil || led.Started["web-1"] == "" || len(led.Conditions)+len(b.loop.View().Ledger.Conditions) > 0 {
			t.Errorf("the ledger holds %v, %v: %v", led.Started, led.Conditions, err)
		}

		if n := strings.Count(out.String(), "ledger not saved"); n != 1 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// fullDisk is a ledger that cannot be written while err is set.
type fullDisk struct {
	apply.Ledger

	err atomic.Bool
}

func (f *fullDisk) Save(l plan.Ledger) error {
	if f.err.Load() {
		return syscall.ENOSPC
	}

	return f.Ledger.Save(l)
}
