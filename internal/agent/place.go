package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/files"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/state"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// Place puts the configs and secrets of all stacks where Incus mounts them from. It is for the boot, when the tmpfs is
// empty, the agent not there yet, and Incus about to start what ran before; so it asks nobody and knows instances and
// their users from the ledger. What it cannot do is logged, and left to the agent. An agent that runs already is no
// error: it has done all this.
func Place(ctx context.Context, conf Config) error {
	path := filepath.Join(conf.StateDir, "state.db")
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever made
	}

	db, err := state.Open(path, conf.Log)
	if errors.Is(err, state.ErrLocked) {
		return nil
	}

	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}

	defer db.Close()

	key, err := sealKey(conf.StateDir)
	if err != nil {
		return err
	}

	names, err := db.Stacks()
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}

	store := files.Store{Dir: conf.Files, Chown: conf.Chown}
	for _, name := range names {
		led, err := db.Load(name)
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}

		if led.Project == nil {
			continue
		}

		p := conf.presentProject(ctx, led, conf.loader(key))
		for _, at := range plan.Placements(p, led) {
			err = store.Place(p.Incus, at.Instance, at.Files, at.Hash)
			if err != nil {
				conf.Log.WarnContext(ctx, "files not placed", "stack", name, "instance", at.Instance, "err", err)
			}
		}
	}

	return nil
}

// presentProject is a stack as its files say now; where they cannot be loaded, as the ledger knows it, which is
// without the contents of secrets.
func (c Config) presentProject(ctx context.Context, led plan.Ledger, load apply.Loader) plan.Project {
	st, err := watch.Find(led.Project.Source)
	if err == nil && st.Err != nil {
		err = errors.New(st.Err.String())
	}

	var p plan.Project
	if err == nil {
		p, err = load(ctx, apply.Source{Stack: led.Stack, Dir: st.Dir, Files: st.Files, Env: st.Env})
	}

	if err != nil || p.Incus != led.Project.Incus {
		c.Log.WarnContext(ctx, "stack not loaded", "stack", led.Stack, "err", err)
		return *led.Project
	}

	if led.Pin != nil { // Somebody went back to an earlier generation: that is what runs.
		pinned := *led.Project
		pinned.Unlock(p)

		return pinned
	}

	return p
}
