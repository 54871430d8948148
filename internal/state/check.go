package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// checkTimeout is how long CheckChild waits. A check takes milliseconds; one that takes this long waits for a
// disk, which says nothing about the file.
const checkTimeout = 60 * time.Second

// Check reads the whole file at path, its structure and its values, and changes nothing. It is the body of
// "ic-agent dbcheck": a damaged file may kill the process that reads it (a fault in a goroutine of bbolt, a
// recursion without end), so that it belongs into a child with limits. A file that is missing or empty is
// sound, and values with wrong checksums are left for Open to drop. The errors are ErrLocked, ErrDamaged, or
// those of the file system.
func Check(ctx context.Context, path string) error {
	err := openable(path)
	if err != nil {
		return fmt.Errorf("check ledger: %w", err)
	}
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() == 0 {
		return nil
	}
	opts := options()
	opts.ReadOnly, opts.PreLoadFreelist = true, true
	var db *bolt.DB
	err = protect(func() error {
		db, err = bolt.Open(path, 0o600, opts)
		return err
	})
	if err != nil {
		return fmt.Errorf("check ledger %s: %w", path, openError(err))
	}
	err = protect(func() error {
		return db.View(func(tx *bolt.Tx) error {
			err := whole(tx, path)
			if err != nil {
				return err
			}
			return checkAll(ctx, tx)
		})
	})
	if !errors.Is(err, errFault) {
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		return fmt.Errorf("check ledger %s: %w", path, err)
	}
	return nil
}

// whole says whether the file at path is as long as its pages need, so that reading them does not fault.
func whole(tx *bolt.Tx, path string) error {
	fi, err := os.Stat(path)
	if err == nil && fi.Size() < tx.Size() {
		err = fmt.Errorf("%w: it is cut off at %d of %d bytes", ErrDamaged, fi.Size(), tx.Size())
	}
	return err
}

func checkAll(ctx context.Context, tx *bolt.Tx) error {
	var first error
	for err := range tx.Check() { // to its end: its goroutine holds the transaction
		if first == nil {
			first = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if first != nil {
		return first
	}
	buckets := 0
	_ = tx.ForEach(func([]byte, *bolt.Bucket) error { buckets++; return nil })
	if buckets == 0 {
		return ctx.Err()
	}
	err := known(tx)
	if err != nil {
		return err
	}
	readAll(tx)
	return ctx.Err()
}

// CheckChild returns a check that runs "command… path" and reads how it ended: 0 is sound, ExitLocked is
// ErrLocked, 1 is a check that failed for reasons of its own: ErrNotChecked, as when the command cannot be run
// or does not end within a minute. ExitDamaged and any other end, such as a crash, are ErrDamaged.
func CheckChild(command ...string) func(ctx context.Context, path string) error {
	return func(ctx context.Context, path string) error {
		timed, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		cmd := exec.CommandContext(timed, command[0], append(command[1:], path)...)
		cmd.WaitDelay = time.Second
		out := &firstLine{}
		cmd.Stderr = out
		err := cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case timed.Err() != nil, !errors.As(err, &exit):
			return fmt.Errorf("%w: %w", ErrNotChecked, err)
		case exit.ExitCode() == ExitLocked:
			return ErrLocked
		case exit.ExitCode() == 1:
			return fmt.Errorf("%w: %s", ErrNotChecked, out)
		}
		return fmt.Errorf("%w: %w: %s", ErrDamaged, err, out)
	}
}

// firstLine keeps the first line written to it, up to 200 bytes: of a Go program that dies, the line that says why.
type firstLine struct{ b []byte }

func (f *firstLine) Write(p []byte) (int, error) {
	f.b = append(f.b, p[:min(len(p), 200-len(f.b))]...)
	return len(p), nil
}

func (f *firstLine) String() string {
	line, _, _ := strings.Cut(string(f.b), "\n")
	return line
}
