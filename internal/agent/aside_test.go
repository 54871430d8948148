package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/state"
)

// The copy of a ledger that cannot be written knows what the ledger knew, is told of, outlives a restart, and is
// brought back when the ledger can be written again.
func TestLedgerGoesOnAside(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "state.db")
	good := func(context.Context, string) error { return nil }
	db, err := state.Open(path, quiet())
	if err != nil {
		t.Fatal(err)
	}

	err = db.Save(plan.Ledger{Stack: "shop", Generation: 3})
	if err != nil {
		t.Fatal(err)
	}

	err = db.Close()
	if err != nil {
		t.Fatal(err)
	}

	a := &Agent{conf: Config{StateDir: dir, APISocket: filepath.Join(run, "api.sock")}, log: quiet()}
	for _, want := range []uint64{3, 4} {
		db, _, err = a.openAside(t.Context(), path, good)
		if err != nil {
			t.Fatal(err)
		}

		led, err := db.Load("shop")
		if err != nil || led.Generation != want {
			t.Fatalf("the copy knows generation %d, want %d: %v", led.Generation, want, err)
		}

		led.Generation++
		err = db.Save(led)
		if err != nil {
			t.Fatal(err)
		}

		err = db.Close()
		if err != nil {
			t.Fatal(err)
		}
	}

	said := strings.Join(a.stateProblems(), "\n")
	if !strings.Contains(said, dir) || !strings.Contains(said, "read-only") {
		t.Errorf("it says %q", said)
	}

	bad := func(context.Context, string) error { return errors.New("damaged") }
	a.bringBack(t.Context(), path, bad)
	known := func() uint64 {
		t.Helper()
		db, err := state.Open(path, quiet())
		if err != nil {
			t.Fatal(err)
		}

		defer func() { _ = db.Close() }()
		led, err := db.Load("shop")
		if err != nil {
			t.Fatal(err)
		}

		return led.Generation
	}
	if g := known(); g != 3 {
		t.Errorf("a damaged copy is brought back: generation %d", g)
	}

	for range 2 {
		a.bringBack(t.Context(), path, good)
		if g := known(); g != 5 {
			t.Errorf("the ledger knows generation %d, want that of the copy", g)
		}
	}

	_, err = os.Stat(filepath.Join(run, "state.db"))
	if !os.IsNotExist(err) {
		t.Errorf("the copy stays: %v", err)
	}
}
