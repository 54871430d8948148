package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func generationOf(n uint64) plan.Generation {
	return plan.Generation{
		Number: n, At: time.Date(2026, 1, 1, 0, 0, int(n), 0, time.UTC), Hash: fmt.Sprint("h", n), Who: "root", Why: "the file changed",
		Plan: "nothing to do", Digests: map[string]string{"web": "sha256:1"},
		Files:   []plan.KeptFile{{Path: "/etc/blog.yaml", Content: fmt.Appendf(nil, "n: %d", n)}, {Path: "/etc/pw", Omitted: "it holds a secret"}},
		Project: &plan.Project{Stack: "blog", Hash: fmt.Sprint("h", n)},
		Images:  map[string]plan.Image{"web": {Ref: "web", Digest: "sha256:1"}},
	}
}

// TestGenerationsComeBack as they were, also after the file was opened anew; what becomes of them is added.
func TestGenerationsComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	for n := range uint64(3) {
		mustDo(t, db.Record("blog", generationOf(n+1)))
	}

	mustDo(t, db.Amend("blog", 2, func(g *plan.Generation) { g.Outcome = "did well" }))
	mustDo(t, db.Close())
	db = mustOpen(t, path)
	defer db.Close()
	want := generationOf(2)
	want.Outcome = "did well"
	got, err := db.Generation("blog", 2)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	list, err := db.Generations("blog")
	if err != nil || len(list) != 3 || list[1].Outcome != "did well" || list[2].Files[0].Content != nil {
		t.Errorf("the list is %+v, %v", list, err)
	}

	_, err = db.Generation("blog", 9)
	if err == nil {
		t.Error("a generation that is not kept is found")
	}
}

// TestHistoryIsBounded in number and in bytes; what runs and what ran before stay.
func TestHistoryIsBounded(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	defer db.Close()
	for n := range uint64(60) {
		mustDo(t, db.Record("blog", generationOf(n+1), 1))
	}

	list, err := db.Generations("blog")
	if err != nil || len(list) != 50 || list[0].Number != 1 || list[1].Number != 12 {
		t.Errorf("%d are kept, from %d and %d on: %v", len(list), list[0].Number, list[1].Number, err)
	}

	for n := range uint64(8) {
		g := generationOf(100 + n)
		g.Files[0].Content = make([]byte, 200<<10)
		for i := range g.Files[0].Content {
			g.Files[0].Content[i] = byte(rand.Uint32())
		}

		mustDo(t, db.Record("blog", g, 1))
	}

	list, err = db.Generations("blog")
	if err != nil || len(list) > 4 || list[0].Number != 1 {
		t.Errorf("%d large ones are kept, the first is %d: %v", len(list), list[0].Number, err)
	}
}

// TestDamagedGenerationIsDroppedAlone: the others, and the ledger, stay.
func TestDamagedGenerationIsDroppedAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	mustDo(t, db.Save(plan.Ledger{Stack: "blog", Generation: 3}))
	for n := range uint64(3) {
		mustDo(t, db.Record("blog", generationOf(n+1)))
	}

	mustDo(t, db.Close())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	// Old pages of the file hold the value, too: which of them is in force is bbolt's affair.
	key := []byte("g/00000000000000000002")
	for hit := bytes.Index(raw, key); hit >= 0; {
		for i := range 3 {
			raw[hit+60+i] ^= 0xff
		}

		next := bytes.Index(raw[hit+1:], key)
		if next < 0 {
			break
		}

		hit += 1 + next
	}

	mustDo(t, os.WriteFile(path, raw, 0o600))
	db = mustOpen(t, path)
	defer db.Close()
	list, err := db.Generations("blog")
	led, lerr := db.Load("blog")
	if err != nil || lerr != nil || len(list) != 2 || led.Generation != 3 {
		t.Errorf("%d generations, ledger %d: %v %v", len(list), led.Generation, err, lerr)
	}
}

// TestForgottenStackHasNoHistory.
func TestForgottenStackHasNoHistory(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	defer db.Close()
	mustDo(t, db.Save(plan.Ledger{Stack: "blog", Generation: 3}))
	mustDo(t, db.Record("blog", generationOf(1)))
	mustDo(t, db.Forget("blog"))
	list, err := db.Generations("blog")
	if err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMovedStackKeepsAll: under its new name a stack has its ledger and its generations; under the old one nothing.
func TestMovedStackKeepsAll(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	defer db.Close()
	want := generationOf(2)
	want.Outcome, want.Evidence = "web went back", "it ended"
	mustDo(t, db.Record("shop", generationOf(1)))
	mustDo(t, db.Record("shop", want))
	led := plan.Ledger{Stack: "shop", Generation: 2, Good: map[string]plan.Version{"web": {Generation: 1}}, Project: &plan.Project{Stack: "shop"}}
	mustDo(t, db.Save(led))
	mustDo(t, db.Save(plan.Ledger{Stack: "store", Generation: 1, Host: "stays not"}))
	mustDo(t, db.Move("shop", "store"))
	got, err := db.Generation("store", 2)
	mustDo(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	now, err := db.Load("store")
	mustDo(t, err)
	led.Stack = "store"
	if diff := cmp.Diff(led, now); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	old, err := db.Generations("shop")
	mustDo(t, err)
	stacks, err := db.Stacks()
	mustDo(t, err)
	if len(old) > 0 || len(stacks) != 1 {
		t.Errorf("left: %v of %v", old, stacks)
	}
}
