package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/state"
)

// The copy of a ledger that cannot be written knows what the ledger knew, is told of, outlives a restart, and is
// forgotten when the ledger can be written again.
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

	a.forgetAside(path)
	_, err = os.Stat(filepath.Join(run, "state.db"))
	if !os.IsNotExist(err) {
		t.Errorf("the copy stays: %v", err)
	}
}
