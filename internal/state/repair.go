package state

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// contents is all that can be trusted of a ledger file, and what cannot.
type contents struct {
	ledgers []plan.Ledger
	subnets map[string]netip.Prefix
	dropped []Dropped
}

// readAll reads every value of the file.
func readAll(tx *bolt.Tx) contents {
	stacks := tx.Bucket(stacksBucket)
	var c contents
	roster, err := decodeSeal(stacks, string(stacksBucket))
	if err != nil {
		roster = nil
		c.dropped = append(c.dropped, Dropped{Value: sealKey, Reason: err.Error()})
	}
	names := stackNames(stacks)
	for name := range maps.Keys(roster) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		l, dropped := read(stacks, roster, name)
		c.ledgers = append(c.ledgers, l)
		c.dropped = append(c.dropped, dropped...)
	}
	subnets, dropped := readSubnets(tx.Bucket(subnetsBucket))
	c.subnets, c.dropped = subnets, append(c.dropped, dropped...)
	return c
}

// repair reads everything once and, when something has to be dropped, writes the rest anew, so that it is
// dropped and reported only once. What a newer version wrote is kept before in a copy of the file.
func (db *DB) repair(path string) error {
	var c contents
	err := db.bolt.View(func(tx *bolt.Tx) error {
		c = readAll(tx)
		return nil
	})
	if err != nil || len(c.dropped) == 0 {
		return err
	}
	for _, d := range c.dropped {
		db.drop(d)
	}
	if slices.ContainsFunc(c.dropped, Dropped.newer) {
		db.keepNewer(path)
	}
	return db.bolt.Update(c.rewrite)
}

// keepNewer copies the file to "<path>.newer-<time>", of which the newest three are kept. When there is no room, the
// values are lost all the same: nothing runs by them.
func (db *DB) keepNewer(path string) {
	prefix := path + ".newer-"
	kept := prefix + stamp(time.Now())
	err := db.bolt.View(func(tx *bolt.Tx) error { return tx.CopyFile(kept, 0o600) })
	if err == nil {
		err = trim(prefix)
	}
	if err != nil {
		_ = os.Remove(kept)
		db.log.Warn("ledger of a newer ic-agent could not be kept", "err", err)
		return
	}
	db.log.Warn("ledger was written by a newer ic-agent: what this version does not know is left out, and kept in a copy", "kept", kept)
}

// rewrite replaces everything but the schema.
func (c contents) rewrite(tx *bolt.Tx) error {
	for _, name := range [][]byte{stacksBucket, subnetsBucket} {
		err := tx.DeleteBucket(name)
		if err != nil {
			return err
		}
		_, err = tx.CreateBucket(name)
		if err != nil {
			return err
		}
	}
	for _, l := range c.ledgers {
		want, err := encodeLedger(&l)
		if err != nil {
			return err
		}
		err = put(tx, l.Stack, want)
		if err != nil {
			return err
		}
	}
	err := enroll(tx.Bucket(stacksBucket))
	if err != nil {
		return err
	}
	return encodeSubnets(c.subnets).write(tx.Bucket(subnetsBucket))
}
