package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// child runs dbcheck in a process of its own.
func child(t *testing.T) func(context.Context, string) error {
	t.Helper()
	return CheckChild("/usr/bin/env", childEnv+"=dbcheck", raceEnv, os.Args[0])
}

func TestWhatCannotBeALedgerIsPutAside(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
	}{
		{"text", func(path string) error { return os.WriteFile(path, []byte("hello"), 0o600) }},
		{"a page of text", func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("hello ", 10_000)), 0o600)
		}},
		{"zeros", func(path string) error { return os.WriteFile(path, make([]byte, 64<<10), 0o600) }},
		{"a directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a fifo", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"somebody else's database", func(path string) error {
			return with(path, func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
		}},
		{"a newer schema", func(path string) error {
			db, err := Open(path, quiet())
			if err != nil {
				return err
			}
			return errors.Join(db.Close(), with(path, func(tx *bolt.Tx) error { return tx.Bucket(metaBucket).Put(schemaKey, []byte("2")) }))
		}},
		{"a bucket short", func(path string) error {
			db, err := Open(path, quiet())
			if err != nil {
				return err
			}
			return errors.Join(db.Close(), with(path, func(tx *bolt.Tx) error { return tx.DeleteBucket(subnetsBucket) }))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(ram(t), "state.db")
			err := c.make(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(path, quiet())
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("Open: %v", err)
			}
			err = child(t)(t.Context(), path)
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("the check: %v", err)
			}
			db, rebuilt, err := OpenOrRebuild(t.Context(), path, child(t), quiet())
			if err != nil || !rebuilt || !db.Fresh() {
				t.Fatal(rebuilt, err)
			}
			defer db.Close()
			mustSave(t, db, fullLedger("blog"))
			aside, _ := filepath.Glob(path + ".bad-*")
			if len(aside) != 1 {
				t.Error("put aside:", aside)
			}
		})
	}
}

func with(path string, f func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(f), db.Close())
}

func TestASoundLedgerStays(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(path string) error
		fresh bool
	}{
		{"none yet", func(string) error { return nil }, true},
		{"an empty file", func(path string) error { return os.WriteFile(path, nil, 0o600) }, true},
		{"made and never used", func(path string) error { return with(path, func(*bolt.Tx) error { return nil }) }, true},
		{"with a stack", func(path string) error {
			db, err := Open(path, quiet())
			if err != nil {
				return err
			}
			return errors.Join(db.Save(fullLedger("blog")), db.Close())
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(ram(t), "state.db")
			err := c.make(path)
			if err != nil {
				t.Fatal(err)
			}
			db, rebuilt, err := OpenOrRebuild(t.Context(), path, child(t), quiet())
			if err != nil || rebuilt || db.Fresh() != c.fresh {
				t.Fatalf("rebuilt %v, %v", rebuilt, err)
			}
			_ = db.Close()
			fi, err := os.Stat(path)
			if err != nil || fi.Mode() != 0o600 {
				t.Error(fi.Mode(), err)
			}
		})
	}
}

func TestASecondAgentIsTold(t *testing.T) {
	t.Parallel() // the child waits three seconds for the lock
	path := filepath.Join(ram(t), "state.db")
	first := mustOpen(t, path)
	mustSave(t, first, fullLedger("blog"))
	opts := options()
	opts.Timeout = 1
	_, err := open(path, quiet(), opts)
	if !errors.Is(err, ErrLocked) {
		t.Errorf("Open: %v", err)
	}
	_, _, err = OpenOrRebuild(t.Context(), path, child(t), quiet())
	if !errors.Is(err, ErrLocked) {
		t.Errorf("OpenOrRebuild: %v", err)
	}
	mustSave(t, first, plan.Ledger{Stack: "blog"})
}

func TestThreeDamagedFilesAreKept(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	for n := range 5 {
		err := os.WriteFile(path, fmt.Append(nil, "junk ", n), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		db, rebuilt, err := OpenOrRebuild(t.Context(), path, nil, quiet())
		if err != nil || !rebuilt {
			t.Fatal(rebuilt, err)
		}
		_ = db.Close()
	}
	aside, _ := filepath.Glob(path + ".bad-*")
	if len(aside) != 3 {
		t.Fatal(aside)
	}
	oldest, _ := os.ReadFile(aside[0])
	if string(oldest) != "junk 2" {
		t.Errorf("the oldest kept is %q", oldest)
	}
}

func TestACheckThatCannotBeMadeCostsNothing(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	mustSave(t, db, fullLedger("blog"))
	_ = db.Close()
	for _, command := range [][]string{{"/nonexistent/ic-agent", "dbcheck"}, {"/bin/sh", "-c", "echo no memory >&2; exit 1"}} {
		db, rebuilt, err := OpenOrRebuild(t.Context(), path, CheckChild(command...), quiet())
		if err != nil || rebuilt {
			t.Fatal(command, rebuilt, err)
		}
		_ = db.Close()
	}

	// A stop while the child runs is no verdict either.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := OpenOrRebuild(ctx, path, child(t), quiet())
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, err = os.Stat(path)
	if err != nil {
		t.Error(err)
	}
}

func TestACheckThatFailsIsDamageWhateverItSays(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	_ = mustOpen(t, path).Close()
	check := func(context.Context, string) error { return errors.New("signal: segmentation fault") }
	db, rebuilt, err := OpenOrRebuild(t.Context(), path, check, quiet())
	if err != nil || !rebuilt {
		t.Fatal(rebuilt, err)
	}
	_ = db.Close()
	for _, end := range []string{"kill -SEGV $$", "exit 65", "exit 2"} { // a Go program that crashes exits with 2
		err = CheckChild("/bin/sh", "-c", end)(t.Context(), path)
		if !errors.Is(err, ErrDamaged) {
			t.Error(end, err)
		}
	}
}

func TestADirectoryThatIsNotThereIsNoDamage(t *testing.T) {
	_, _, err := OpenOrRebuild(t.Context(), filepath.Join(t.TempDir(), "no", "state.db"), nil, quiet())
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestAFullLedgerTakesSmallerWritesAgain(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	opts := options()
	opts.MaxSize, opts.InitialMmapSize = 128<<10, 0
	db, err := open(path, quiet(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	small, big := fullLedger("blog"), fullLedger("blog")
	mustSave(t, db, small)
	big.Project.Hash = strings.Repeat("x", 200<<10)
	err = db.Save(big)
	if err == nil || errors.Is(err, ErrDamaged) {
		t.Fatal("a write beyond the limit:", err)
	}
	small.Generation++
	mustSave(t, db, small)
	if l := mustLoad(t, db, "blog"); l.Generation != small.Generation || l.Project.Hash != small.Project.Hash {
		t.Error("the small write is not there")
	}
}

func TestAFileThatIsMostlyFreeIsCompactedAtStart(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	big := fullLedger("big")
	big.Project.Hash = strings.Repeat("x", 20<<20)
	mustSave(t, db, big)
	mustSave(t, db, fullLedger("blog"))
	err := db.Forget("big")
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	err = os.WriteFile(path+".compact", []byte("left by a crash"), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	db = mustOpen(t, path)
	fi, err := os.Stat(path)
	if err != nil || fi.Size() > 1<<20 || fi.Mode() != 0o600 {
		t.Errorf("%d bytes, mode %s, %v", fi.Size(), fi.Mode(), err)
	}
	diff := cmp.Diff(fullLedger("blog"), mustLoad(t, db, "blog"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
	if diff != "" || db.Fresh() || len(db.Dropped()) > 0 {
		t.Error(db.Fresh(), db.Dropped(), diff)
	}
	mustSave(t, db, fullLedger("web"))
	opts := options()
	opts.Timeout = 1
	_, err = open(path, quiet(), opts)
	if !errors.Is(err, ErrLocked) {
		t.Error("the compacted file is not locked:", err)
	}
	_, err = os.Stat(path + ".compact")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the copy is there still:", err)
	}
}

func TestAFailedWriteEndsTheUseOfTheLedger(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	var file *os.File
	opts := options()
	opts.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		file, err = os.OpenFile(name, flag, mode)
		return file, err
	}
	db, err := open(path, quiet(), opts)
	if err != nil {
		t.Fatal(err)
	}
	mustSave(t, db, plan.Ledger{Stack: "blog", Generation: 1})
	_ = file.Close() // every write fails from here on
	err = db.Save(plan.Ledger{Stack: "blog", Generation: 2})
	if !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	_, err = db.Load("blog")
	if !errors.Is(err, ErrDamaged) {
		t.Error("still in use:", err)
	}
	err = db.Close()
	if err != nil {
		t.Error(err)
	}
}

func TestFaultsUnderARunningLedgerAreErrors(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	l := fullLedger("blog")
	l.Project.Hash = strings.Repeat("x", 100<<10)
	mustSave(t, db, l)
	err := os.Truncate(path, page) // reading beyond raises SIGBUS
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Load("blog")
	if !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}
