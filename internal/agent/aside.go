package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/incus-compose/ic-agent/internal/state"
)

// openAside opens a copy of the ledger beside the API socket, which lies in memory: the file system of the state
// directory cannot be written, as after an error of its disk, and names and services are needed all the same. The copy
// of an earlier start in the same state is newer than the ledger, and goes on.
func (a *Agent) openAside(ctx context.Context, path string, check func(context.Context, string) error) (*state.DB, bool, error) {
	aside := a.asidePath(path)
	_, err := os.Stat(aside)
	if errors.Is(err, fs.ErrNotExist) {
		err = copyFile(path, aside)
	}

	if err != nil {
		return nil, false, fmt.Errorf("copy it to %s, for its own file system is read-only: %w", aside, err)
	}

	db, rebuilt, err := state.OpenOrRebuild(ctx, aside, check, a.log)
	if err != nil {
		return nil, false, err
	}

	a.aside = fmt.Sprintf("the file system of %s is read-only: what is learned is kept in %s until the host goes down; make it writable and restart ic-agent", a.conf.StateDir, aside)
	a.log.ErrorContext(ctx, "the ledger cannot be written: going on with a copy in memory", "dir", a.conf.StateDir, "copy", aside)

	return db, rebuilt, nil
}

func (a *Agent) asidePath(path string) string {
	return filepath.Join(filepath.Dir(a.conf.APISocket), filepath.Base(path))
}

// forgetAside removes the copy of a time that is over.
func (a *Agent) forgetAside(path string) {
	aside := a.asidePath(path)
	if aside != path {
		_ = os.Remove(aside)
	}
}

// copyFile copies what is there; a ledger that is not there yet begins empty.
func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	if err != nil {
		return err
	}

	return os.WriteFile(to, content, 0o600)
}

// stateProblems are what is to be said of the ledger's place.
func (a *Agent) stateProblems() []string {
	if a.aside == "" {
		return nil
	}

	return []string{a.aside}
}
