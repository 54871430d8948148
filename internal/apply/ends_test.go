package apply_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
