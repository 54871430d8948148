package apply_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const data = "default/vol-data"

// saved has a snapshot taken of the database's volume before each update; version is in its environment.
func saved(version string) func(*plan.Project) {
	return func(p *plan.Project) {
		p.Services[0].Snapshot = true
		p.Services[0].Environment = map[string]string{"VERSION": version}
	}
}

func (b *bench) version() string {
	i, _ := b.server.Instance("blog", "db-1")

	return i.Config["environment.VERSION"] + " " + i.Status
}

// TestUpdateTakesASnapshotFirst: once the service is stopped and before its new version starts; the newest three of ours
// are kept, and of others all.
func TestUpdateTakesASnapshotFirst(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1", saved("1")))
		foreign := plan.Snapshot{Pool: "default", Volume: "vol-data", Name: "by-hand"}
		err := b.client.Do(b.t.Context(), "blog", plan.SnapshotVolume{Snapshot: foreign})
		if err != nil {
			t.Fatal(err)
		}

		b.writes()
		b.edit(blog("2", saved("2")))
		b.pass(2 * time.Minute)
		b.mustBe(apply.InSync)
		var order []string
		for _, w := range b.writes() {
			switch {
			case strings.HasSuffix(w, "/snapshots"):
				order = append(order, "snapshot")
			case strings.Contains(w, "PUT") && strings.HasSuffix(w, "db-1/state"):
				order = append(order, "state")
			}
		}

		if got := strings.Join(order, " "); got != "state snapshot state" {
			t.Errorf("the order is %q", got)
		}

		for n := 3; n <= 6; n++ {
			b.edit(blog(fmt.Sprint(n), saved(fmt.Sprint(n))))
			b.pass(2 * time.Minute)
		}

		b.mustBe(apply.InSync)
		if got := b.server.Snapshots("blog", data); len(got) != 4 || got[0] != "by-hand" || !strings.HasPrefix(got[1], "ic-agent-2000010") {
			t.Errorf("the snapshots are %v", got)
		}

		if kept := b.loop.View().Ledger.Snapshots; len(kept) != 3 || kept[0].Generation != 4 || kept[0].Service != "db" {
			t.Errorf("remembered: %+v", kept)
		}

		// A change that interrupts nothing, or another service's, is none to take one for.
		b.edit(blog("7", saved("6"), mode("b")))
		b.pass(3 * time.Minute)
		if got := b.loop.View().Ledger.Snapshots; len(got) != 3 || got[2].Generation != 6 {
			t.Errorf("remembered: %+v", got)
		}
	})
}

// TestNoSnapshotNoUpdate: where it cannot be taken the version before runs on, and it is tried again.
func TestNoSnapshotNoUpdate(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1", saved("1")))
		b.server.Fail(incustest.Fault{Method: "POST", Path: "*/snapshots", Times: 1, Op: "no space left on device"})
		b.edit(blog("2", saved("2")))
		b.pass(time.Minute)
		if got := b.version(); got != "1 Running" {
			t.Errorf("it is %s", got)
		}

		if c := b.condition("Waiting"); !strings.Contains(c, "no space left") {
			t.Errorf("conditions: %v", b.loop.View().Ledger.Conditions)
		}

		b.pass(12 * time.Minute)
		if got := b.version(); got != "2 Running" {
			t.Errorf("later it is %s", got)
		}
		b.mustBe(apply.InSync)
	})
}

// TestPoolThatRestoresTheNewestOnly: as zfs does. Nothing is lost, what ran runs on, and it is said what can be done.
func TestPoolThatRestoresTheNewestOnly(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1", saved("1")))
		b.edit(blog("2", saved("2")))
		b.pass(2 * time.Minute)
		taken := b.server.Snapshots("blog", data)
		b.server.Fail(incustest.Fault{
			Method: "PUT", Path: "*/volumes/custom/vol-data", Times: -1, Status: 500,
			Message: "Snapshot \"x\" cannot be restored due to subsequent snapshot(s). Set zfs.remove_snapshots to override",
		})
		_, err := b.loop.RollbackWithData(b.t.Context(), 1, "root")
		want := "incus storage volume copy default/vol-data/" + taken[0] + " default/vol-data-then --project blog"
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "remove_snapshots") {
			t.Errorf("it says %v", err)
		}

		b.server.Mend()
		b.pass(time.Minute)
		if got := b.version(); got != "2 Running" {
			t.Errorf("it is %s", got)
		}

		kept := b.loop.View().Ledger
		if now := b.server.Snapshots("blog", data); len(now) != 2 || now[0] != taken[0] || len(kept.Snapshots) != 2 || kept.Pin != nil {
			t.Errorf("the snapshots are %v, remembered %+v, pinned %v", now, kept.Snapshots, kept.Pin)
		}
	})
}

// TestDataGoesBackByAWord: a rollback leaves the data as it is, unless somebody says so; then what there was is kept.
func TestDataGoesBackByAWord(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.good(blog("1", saved("1")))
		_, err := b.loop.RollbackWithData(b.t.Context(), 1, "root")
		if !errors.Is(err, apply.ErrNoData) {
			t.Errorf("without a snapshot: %v", err)
		}

		b.edit(blog("2", saved("2")))
		b.pass(2 * time.Minute)
		kept, err := b.loop.RollbackWithData(b.t.Context(), 1, "root")
		if err != nil || len(kept) != 1 {
			t.Fatalf("kept %+v, %v", kept, err)
		}

		b.pass(2 * time.Minute)
		if got := b.version(); got != "1 Running" {
			t.Errorf("it is %s", got)
		}

		got, back := b.server.Snapshots("blog", data), b.server.Restored()
		if len(got) < 2 || len(back) != 1 || back[0] != data+"/"+got[0] || got[1] != kept[0].Name {
			t.Errorf("of %v, restored %v", got, back)
		}

		for n := 3; n <= 7; n++ {
			b.edit(blog(fmt.Sprint(n), saved(fmt.Sprint(n))))
			b.pass(2 * time.Minute)
		}

		if got := b.server.Snapshots("blog", data); len(got) != 4 || !slices.Contains(got, kept[0].Name) {
			t.Errorf("later there are %v, without %s", got, kept[0].Name)
		}
	})
}
