package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// keepBad is how many files of a kind are kept that were damaged or too new.
const keepBad = 3

// OpenOrRebuild opens the ledger at path after check has found it sound (nil: without a check). A file that is
// damaged, or in an unknown layout, is renamed to "<path>.bad-<time>", of which the newest three are kept, and
// an empty ledger takes its place: rebuilt is true then, and the caller fills it from Incus. The errors are
// ErrLocked, the context's, and those of a file system that lets no ledger be made at all.
func OpenOrRebuild(ctx context.Context, path string, check func(ctx context.Context, path string) error, log *slog.Logger) (db *DB, rebuilt bool, err error) {
	return openOrRebuild(ctx, path, check, log, options())
}

func openOrRebuild(ctx context.Context, path string, check func(context.Context, string) error, log *slog.Logger, opts *bolt.Options) (*DB, bool, error) {
	db, err := openChecked(ctx, path, check, log, opts)
	switch {
	case err == nil:
		return db, false, nil
	case !errors.Is(err, ErrDamaged):
		return nil, false, err
	}
	bad, moveErr := quarantine(path, time.Now())
	if moveErr != nil {
		return nil, false, fmt.Errorf("put damaged ledger aside: %w", errors.Join(moveErr, err))
	}
	log.ErrorContext(ctx, "ledger put aside, begun anew", "kept", bad, "reason", err)
	db, err = open(path, log, opts)
	if err != nil {
		return nil, false, err
	}
	return db, true, nil
}

func openChecked(ctx context.Context, path string, check func(context.Context, string) error, log *slog.Logger, opts *bolt.Options) (*DB, error) {
	err := openable(path)
	if err == nil && check != nil {
		err = check(ctx, path)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrNotChecked):
		log.WarnContext(ctx, "ledger opened without a check", "reason", err)
	case errors.Is(err, ErrLocked), fileSystem(err):
		return nil, err
	case !errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	default:
		return nil, err
	}
	return open(path, log, opts)
}

// quarantine renames a damaged file away, removes the oldest of its kind, and returns the new name.
func quarantine(path string, now time.Time) (string, error) {
	prefix := path + ".bad-"
	bad := prefix + stamp(now)
	err := os.Rename(path, bad)
	if err == nil {
		err = trim(prefix)
	}
	return bad, err
}

// stamp ends the names of files that are kept: by name is by age.
func stamp(now time.Time) string { return now.UTC().Format("20060102T150405.000000000Z") }

// trim removes all but the newest files whose paths begin so.
func trim(prefix string) error {
	dir := filepath.Dir(prefix)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var all []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	for _, name := range all[:max(0, len(all)-keepBad)] {
		err := os.RemoveAll(name)
		if err != nil {
			return err
		}
	}
	return syncDir(dir)
}
