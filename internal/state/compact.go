package state

import (
	"errors"
	"os"

	bolt "go.etcd.io/bbolt"
)

// compactSize is the size from which a file is compacted at start when more than half of it is free. bbolt
// reuses free pages and never gives them back.
const compactSize = 8 << 20

// wasteful says whether the file is worth compacting.
func (db *DB) wasteful() bool {
	size := int64(0)
	_ = db.bolt.View(func(tx *bolt.Tx) error {
		size = tx.Size()
		return nil
	})
	free := int64(db.bolt.Stats().FreePageN) * int64(db.bolt.Info().PageSize)
	return size > compactSize && free > size/2
}

// shrink compacts the file at path when it is worth it. That fails without harm when there is no room: the
// error is then logged, as the file is as good as before.
func (db *DB) shrink(path string, opts *bolt.Options) error {
	tmp := path + ".compact"
	_ = os.RemoveAll(tmp) // what a crash left
	if !db.wasteful() {
		return nil
	}
	err := protect(func() error { return db.copyTo(tmp, opts) })
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if errors.Is(err, errFault) {
		return err
	}
	if err != nil {
		_ = os.Remove(tmp)
		db.log.Warn("ledger not compacted", "err", err)
		return nil
	}
	// The old file is locked until here, the new one from here on.
	err = db.bolt.Close()
	if err != nil {
		return err
	}
	return db.openFile(path, opts)
}

// copyTo writes all buckets and values to a new file, durably.
func (db *DB) copyTo(path string, opts *bolt.Options) error {
	dst, err := bolt.Open(path, 0o600, opts)
	if err != nil {
		return err
	}
	dst.AllocSize = growth
	return errors.Join(bolt.Compact(dst, db.bolt, 1<<20), dst.Close())
}
