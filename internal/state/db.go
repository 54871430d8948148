package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The kinds of errors of this package.
var (
	// ErrLocked says that another process holds the ledger. ExitLocked is the exit code for it.
	ErrLocked = errors.New("the ledger is in use by another ic-agent")
	// ErrDamaged says that the file cannot be trusted or used: from Open and Check, that it is to be renamed
	// away (see OpenOrRebuild); from any other method, that the agent has to end and be started again, which
	// then checks the file.
	ErrDamaged = errors.New("the ledger is damaged")
	// ErrNotChecked says that the check of the file could not be made, which tells nothing about the file.
	ErrNotChecked = errors.New("the ledger could not be checked")
)

// errFault is the ErrDamaged that broke off whatever bbolt was doing.
var errFault = fmt.Errorf("%w: fault while using it", ErrDamaged)

// The exit codes of a process that says so (sysexits.h, EX_DATAERR and EX_TEMPFAIL).
const (
	ExitDamaged = 65
	ExitLocked  = 75
)

// schema is the version of the layout of buckets that this version reads and writes.
const schema = 1

const (
	lockTimeout = 3 * time.Second
	maxSize     = 64 << 20
	// growth is by how much the file grows; bbolt's own 16 MiB are for larger ones.
	growth = 256 << 10
	// mapSize is mapped ahead of the file's size, so that growing does not wait for readers.
	mapSize = 16 << 20
)

var (
	metaBucket    = []byte("meta")
	schemaKey     = []byte("schema")
	stacksBucket  = []byte("stacks")
	subnetsBucket = []byte("subnets")
)

// DB is the open ledger. Its methods may be called from any goroutine.
type DB struct {
	bolt *bolt.DB
	log  *slog.Logger
	// fresh is set once, by open.
	fresh bool
	// broken is set when the file turned out to be damaged or a write failed in a way that leaves its
	// state unknown; nothing is read or written from then on.
	broken atomic.Bool

	// reserve keeps reservations of subnets apart from each other.
	reserve sync.Mutex

	mu      sync.Mutex
	dropped []Dropped
}

// Open opens the ledger at path, making it when there is none. Values that cannot be trusted are dropped,
// logged and listed by Dropped. The errors are ErrLocked after three seconds, ErrDamaged for a file that has
// to be replaced (see OpenOrRebuild, which does it), or those of the file system.
func Open(path string, log *slog.Logger) (*DB, error) {
	return open(path, log, options())
}

func options() *bolt.Options {
	return &bolt.Options{
		Timeout:         lockTimeout,
		FreelistType:    bolt.FreelistMapType,
		InitialMmapSize: mapSize,
		MaxSize:         maxSize,
	}
}

func open(path string, log *slog.Logger, opts *bolt.Options) (*DB, error) {
	err := openable(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	db := &DB{log: log}
	err = db.begin(path, opts)
	if err != nil {
		// After a fault, locks inside the handle may be held for ever: it is left to the end of the process.
		if db.bolt != nil && !errors.Is(err, errFault) {
			_ = db.bolt.Close()
		}
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	return db, nil
}

func (db *DB) begin(path string, opts *bolt.Options) error {
	err := db.openFile(path, opts)
	if err != nil {
		return err
	}
	err = db.do(func() error {
		err := db.bolt.View(func(tx *bolt.Tx) error { return whole(tx, path) })
		if err != nil {
			return err
		}
		err = db.bolt.Update(db.prepare)
		if err != nil {
			return err
		}
		return db.repair(path)
	})
	if err != nil {
		return err
	}
	err = db.shrink(path, opts)
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// openFile opens and locks the file.
func (db *DB) openFile(path string, opts *bolt.Options) error {
	err := protect(func() error {
		var err error
		db.bolt, err = bolt.Open(path, 0o600, opts)
		return err
	})
	if err != nil {
		return openError(err)
	}
	db.bolt.AllocSize = growth
	return nil
}

// prepare checks the layout, and makes it in a new file.
func (db *DB) prepare(tx *bolt.Tx) error {
	buckets := 0
	_ = tx.ForEach(func([]byte, *bolt.Bucket) error { buckets++; return nil })
	if buckets > 0 {
		return known(tx)
	}
	db.fresh = true
	for _, name := range [][]byte{metaBucket, stacksBucket, subnetsBucket} {
		_, err := tx.CreateBucket(name)
		if err != nil {
			return err
		}
	}
	for _, name := range [][]byte{stacksBucket, subnetsBucket} {
		w := values{}
		w.seal(string(name))
		err := w.write(tx.Bucket(name))
		if err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(schemaKey, []byte(strconv.Itoa(schema)))
}

// known says whether the layout is the one of this version.
func known(tx *bolt.Tx) error {
	for _, name := range [][]byte{metaBucket, stacksBucket, subnetsBucket} {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: it has no bucket %q", ErrDamaged, name)
		}
	}
	v := tx.Bucket(metaBucket).Get(schemaKey)
	number, err := strconv.Atoi(string(v))
	if err == nil && number > schema {
		return fmt.Errorf("%w for this version: a newer ic-agent wrote it (schema %d; known here is %d)", ErrDamaged, number, schema)
	}
	if number != schema {
		return fmt.Errorf("%w: its schema is %q, this version knows %d", ErrDamaged, v, schema)
	}
	return nil
}

// Close closes the file. After ErrDamaged it does nothing: the end of the process closes it.
func (db *DB) Close() error {
	if db.broken.Load() {
		return nil
	}
	err := db.bolt.Close()
	if err != nil {
		return fmt.Errorf("close ledger: %w", err)
	}
	return nil
}

// Fresh says that Open made the file: nothing is known of earlier runs. It is true at the very first start
// and after damage.
func (db *DB) Fresh() bool { return db.fresh }

// Dropped lists the values that could not be trusted since Open, in the order they were found.
func (db *DB) Dropped() []Dropped {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.Clone(db.dropped)
}

// drop records and logs a dropped value, once.
func (db *DB) drop(d Dropped) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if slices.Contains(db.dropped, d) {
		return
	}
	db.dropped = append(db.dropped, d)
	if d.newer() {
		return // it is told once, of all of them
	}
	db.log.Warn("ledger value dropped", "stack", d.Stack, "value", d.Value, "reason", d.Reason)
}

func (db *DB) view(f func(*bolt.Tx) error) error {
	return db.do(func() error { return db.bolt.View(f) })
}

func (db *DB) update(f func(*bolt.Tx) error) error {
	return db.do(func() error { return db.bolt.Update(f) })
}

// do runs f unless the handle is broken, and breaks it when f finds damage or fails to write for another
// reason than a full disk: what is on the disk is not known then.
func (db *DB) do(f func() error) error {
	if db.broken.Load() {
		return ErrDamaged
	}
	err := protect(f)
	switch {
	case err == nil, full(err), errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		return err
	case !errors.Is(err, ErrDamaged):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	db.broken.Store(true)
	return err
}

// full says whether a write found no room. bbolt rolls back, and later writes succeed.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, bolterrors.ErrMaxSizeReached)
}

// protect turns the faults and panics that a damaged file causes in bbolt into ErrDamaged.
func protect(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		p := recover()
		if p != nil {
			err = fmt.Errorf("%w: %v", errFault, p)
		}
	}()
	return f()
}

// openable refuses what must not be opened: opening a FIFO, or reading from a device, may block for ever.
func openable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrDamaged, path)
	}
	return nil
}

// openError sorts the errors of bolt.Open.
func openError(err error) error {
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, fs.ErrPermission):
		// The directory is ours: a file in it that we may not open was put there by somebody else.
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case fileSystem(err):
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// fileSystem says whether an error tells of the file system and not of the file's contents.
func fileSystem(err error) bool {
	for _, e := range []error{fs.ErrNotExist, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOTDIR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// syncDir makes the entries of a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
