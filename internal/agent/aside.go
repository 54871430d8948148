package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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

// bringBack puts the copy in the ledger's place once that can be written again: it is newer. A copy that is damaged, or
// cannot be brought back yet, stays where it is.
func (a *Agent) bringBack(ctx context.Context, path string, check func(context.Context, string) error) {
	aside := a.asidePath(path)
	content, err := os.ReadFile(aside)
	if aside == path || errors.Is(err, fs.ErrNotExist) {
		return
	}

	if err == nil {
		err = check(ctx, aside)
	}

	if err == nil {
		err = writeDurably(path, content)
	}

	switch {
	case errors.Is(err, syscall.EROFS):
	case err != nil:
		a.log.WarnContext(ctx, "the copy of the ledger in memory cannot be brought back", "copy", aside, "err", err)
	default:
		a.log.InfoContext(ctx, "the ledger can be written again: what was learned meanwhile is in it", "dir", a.conf.StateDir)
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
