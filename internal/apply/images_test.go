package apply_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// revise makes every image of the registry another one.
func (r *registry) revise(revision string) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.revision = revision
}

func (r *registry) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()

	return r.asks
}

// checking gives all services an update policy.
func checking(u plan.UpdatePolicy) func(*plan.Project) {
	return func(p *plan.Project) {
		for i := range p.Services {
			p.Services[i].ServiceExtension.Update = u
		}
	}
}

func (b *bench) update(ref string) plan.Update { return b.loop.View().Ledger.Updates[ref] }

func (b *bench) runs(instance string) string {
	i, _ := b.server.Instance("blog", instance)
	return i.Config[plan.KeyImage]
}

func TestNewerImageIsNoticedAndLeft(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", checking(plan.UpdatePolicy{Check: "daily"})))
		ref := b.loop.View().Project.Services[0].Image.Ref
		before := b.runs("db-1")
		b.images.revise("new")
		asked := b.images.asked()
		time.Sleep(20 * time.Hour)
		if n := b.images.asked() - asked; n > 2 {
			t.Errorf("asked %d times in less than a day", n)
		}

		time.Sleep(28 * time.Hour)
		synctest.Wait()
		u := b.update(ref)
		if u.Digest == "" || u.Seen.IsZero() || u.Next.Before(time.Now()) {
			t.Errorf("update = %+v", u)
		}

		if b.runs("db-1") != before {
			t.Errorf("it runs %s now", b.runs("db-1"))
		}
	})
}

func TestNewerImageIsTakenWhenItIsOldEnough(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", checking(plan.UpdatePolicy{Check: "hourly", Mode: "apply", MinAge: 12 * time.Hour})))
		before := b.runs("db-1")
		b.images.revise("new")
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		if b.runs("db-1") != before {
			t.Fatalf("after ten hours it runs %s", b.runs("db-1"))
		}

		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if b.runs("db-1") == before {
			t.Errorf("after 15 hours it still runs %s; %+v", before, b.loop.View().Ledger.Updates)
		}

		b.mustBe(apply.InSync)
	})
}

func TestPullPolicyDailyTakesWhatIsNewer(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", func(p *plan.Project) {
			for i := range p.Services {
				p.Services[i].Image.Every = 24 * time.Hour
			}
		}))
		before := b.runs("db-1")
		b.images.revise("new")
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if b.runs("db-1") != before {
			t.Fatal("it did not wait for a day")
		}

		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if b.runs("db-1") == before {
			t.Error("a day later it runs what it ran")
		}
	})
}

func TestChecksBackOffWhileTheRegistryIsAway(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", checking(plan.UpdatePolicy{Check: "*:*:0/10", Mode: "apply"})))
		before := b.runs("db-1")
		b.images.set(fmt.Errorf("%w: down", image.ErrUnavailable))
		time.Sleep(time.Minute)
		asked := b.images.asked()
		b.writes()
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		if n := b.images.asked() - asked; n > 20 { // two images: 5, 10, 20 … minutes
			t.Errorf("asked %d times in six hours", n)
		}

		if w := b.writes(); len(w) > 0 || b.runs("db-1") != before {
			t.Errorf("writes: %v", w)
		}

		b.mustBe(apply.InSync)
	})
}

func TestSomebodysWordTakesWhatIsNewer(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1"))
		ref := b.loop.View().Project.Services[0].Image.Ref
		before := b.runs("db-1")
		b.images.revise("new")
		ask := func(take bool) {
			done := make(chan struct{})
			b.loop.Refresh(take, "alice", done)
			<-done
			synctest.Wait()
		}
		ask(false)
		if b.update(ref).Digest == "" || b.runs("db-1") != before {
			t.Errorf("asked: update %+v, it runs %s", b.update(ref), b.runs("db-1"))
		}

		ask(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if b.update(ref).Digest != "" || b.runs("db-1") == before {
			t.Errorf("taken: update %+v, it runs %s", b.update(ref), b.runs("db-1"))
		}
	})
}

func TestNeverFetchesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", func(p *plan.Project) {
			for i := range p.Services {
				p.Services[i].Image.Pull = "never"
			}
		}))
		b.mustBe(apply.Blocked)
		for _, w := range b.writes() {
			if strings.Contains(w, "POST /1.0/images") {
				t.Error("an image was fetched")
			}
		}
	})
}
