package apply_test

import (
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestReleaseIsTheReverseOfAdopt: a released stack is nobody's, runs on, is left alone whatever its file says or whether it
// goes, also by the next agent; adopting it is its old state again, without a restart.
func TestReleaseIsTheReverseOfAdopt(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1"))
		before, _ := b.server.Instance("blog", "web-1")
		b.writes()
		dry, err := b.loop.Release(b.t.Context(), true)
		if err != nil || len(dry.Marks.Steps) != 6 || len(dry.Notes) != 1 || !strings.Contains(dry.Notes[0], "blog-default") {
			t.Errorf("it would be %+v, %v", dry, err)
		}

		if w := b.writes(); len(w) > 0 {
			t.Errorf("a dry run wrote %v", w)
		}

		_, err = b.loop.Release(b.t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}

		b.pass(time.Second)
		b.mustBe(apply.Released)
		b.mustRun("db-1", "web-1", "web-2")
		i, _ := b.server.Instance("blog", "web-1")
		if i.Config[plan.KeyOwner] != "" || i.Config[plan.KeyStack] != "blog" {
			t.Errorf("its owner is %q, its stack %q", i.Config[plan.KeyOwner], i.Config[plan.KeyStack])
		}

		b.writes()
		b.end()
		b.begin()
		b.edit(blog("2", mode("b")))
		b.pass(time.Hour)
		b.mustBe(apply.Released)
		if w := b.writes(); len(w) > 0 {
			t.Errorf("written to what is not ours: %v", w)
		}

		b.edit(blog("1"))
		got, err := b.loop.Adopt(b.t.Context(), false, false, false)
		if err != nil || !got.Done {
			t.Fatalf("adoption: %+v, %v", got, err)
		}

		b.pass(time.Second)
		b.mustBe(apply.InSync)
		after, _ := b.server.Instance("blog", "web-1")
		if !after.LastUsedAt.Equal(before.LastUsedAt) || after.Config[plan.KeyAdopted] != "" {
			t.Errorf("restarted at %s, adopted %q", after.LastUsedAt, after.Config[plan.KeyAdopted])
		}

		_, err = b.loop.Release(b.t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}

		b.loop.Gone(nil)
		b.pass(10 * 24 * time.Hour)
		b.mustRun("db-1", "web-1", "web-2")
		if led, err := b.db.Load("blog"); err != nil || led.Project != nil {
			t.Errorf("the ledger still knows it: %v", err)
		}
	})
}
