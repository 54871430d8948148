package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// fields names the values of a ledger and where each stands in it.
func fields(l *plan.Ledger) map[string]any {
	return map[string]any{
		"project":    &l.Project,
		"generation": &l.Generation,
		"images":     &l.Images,
		"earlier":    &l.Earlier,
		"updates":    &l.Updates,
		"addresses":  &l.Addresses,
		"ports":      &l.Ports,
		"started":    &l.Started,
		"exits":      &l.Exits,
		"rootless":   &l.Rootless,
		"stops":      &l.Stops,
		"intents":    &l.Intents,
		"good":       &l.Good,
		"rollouts":   &l.Rollouts,
		"host":       &l.Host,
		"pin":        &l.Pin,
		"hurried":    &l.Hurried,
		"released":   &l.Released,
		"snapshots":  &l.Snapshots,
		"last":       &l.Last,
		"conditions": &l.Conditions,
		"removed":    &l.RemovedAt,
		"parked":     &l.Parked,
		"counted":    &l.CountedAt,
		"confirmed":  &l.Confirmed,
		"orphan":     &l.Orphan,
		"applied":    &l.AppliedAt,
	}
}

// Load returns what is remembered of a stack; with nothing remembered, only its name is set. Empty maps and
// lists come back nil, times without their monotonic part. A value that cannot be trusted is left out and
// listed by Dropped. The error is ErrDamaged.
func (db *DB) Load(stack string) (plan.Ledger, error) {
	l := plan.Ledger{Stack: stack}
	var dropped []Dropped
	err := db.view(func(tx *bolt.Tx) error {
		stacks := tx.Bucket(stacksBucket)
		roster, _ := decodeSeal(stacks, string(stacksBucket))
		l, dropped = read(stacks, roster, stack)
		return nil
	})
	if err != nil {
		return plan.Ledger{Stack: stack}, fmt.Errorf("load ledger of %s: %w", stack, err)
	}
	for _, d := range dropped {
		db.drop(d)
	}
	return l, nil
}

// Save makes a ledger durable in one transaction that writes the values that changed; when nothing changed
// there is none. After an error nothing of it is stored. The error is ErrDamaged, or tells that the disk, or
// the ledger's 64 MiB, are full: then a later Save may succeed.
func (db *DB) Save(l plan.Ledger) error {
	want, err := encodeLedger(&l)
	if err != nil {
		return fmt.Errorf("save ledger of %q: %w", l.Stack, err)
	}
	same := false
	err = db.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(stacksBucket).Bucket([]byte(l.Stack))
		same = b == nil && len(want) == 0 || b != nil && want.in(b)
		return nil
	})
	if err == nil && !same {
		err = db.update(func(tx *bolt.Tx) error { return put(tx, l.Stack, want) })
	}
	if err != nil {
		return fmt.Errorf("save ledger of %s: %w", l.Stack, err)
	}
	return nil
}

// Stacks returns the names of the stacks of which something is remembered, sorted.
func (db *DB) Stacks() ([]string, error) {
	var names []string
	err := db.view(func(tx *bolt.Tx) error {
		names = stackNames(tx.Bucket(stacksBucket))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list stacks: %w", err)
	}
	return names, nil
}

// Forget removes all that is remembered of a stack; nothing remembered is a success.
func (db *DB) Forget(stack string) error {
	return db.Save(plan.Ledger{Stack: stack})
}

// encodeLedger returns the values of a ledger; none when it is zero but for its name.
func encodeLedger(l *plan.Ledger) (values, error) {
	err := nameable(l.Stack)
	if err != nil {
		return nil, err
	}
	path, w := stackPath(l.Stack), values{}
	for name, field := range fields(l) {
		if empty(field) {
			continue
		}
		payload, err := json.Marshal(field)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		w[name] = encode(path+"/"+name, payload)
	}
	if len(w) > 0 {
		w.seal(path)
	}
	return w, nil
}

// nameable refuses what cannot be a key.
func nameable(name string) error {
	if name == "" || name == sealKey || len(name) > bolt.MaxKeySize {
		return fmt.Errorf("%.40q cannot be a name", name)
	}
	return nil
}

func empty(field any) bool {
	t, ok := field.(*time.Time)
	if ok {
		return t.IsZero()
	}
	v := reflect.ValueOf(field).Elem()
	return v.IsZero() || (v.Kind() == reflect.Map || v.Kind() == reflect.Slice) && v.Len() == 0
}

// put writes the values of a stack, or removes it when there are none, and renews the list of stacks.
func put(tx *bolt.Tx, stack string, want values) error {
	stacks := tx.Bucket(stacksBucket)
	if len(want) == 0 {
		err := stacks.DeleteBucket([]byte(stack))
		if err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
		err = forgetHistory(tx, stack)
		if err != nil {
			return err
		}
		return enroll(stacks)
	}
	b, err := stacks.CreateBucketIfNotExists([]byte(stack))
	if err != nil {
		return err
	}
	err = want.write(b)
	if err != nil {
		return err
	}
	return enroll(stacks)
}

// enroll renews the seal over the stacks: the checksum of each one's seal.
func enroll(stacks *bolt.Bucket) error {
	sums := map[string]uint32{}
	for _, name := range stackNames(stacks) {
		v := stacks.Bucket([]byte(name)).Get([]byte(sealKey))
		if len(v) >= header {
			sums[name] = sum(v)
		}
	}
	return stacks.Put([]byte(sealKey), encodeSeal(string(stacksBucket), sums))
}

// read returns what can be trusted of a stack. A roster that is nil says nothing.
func read(stacks *bolt.Bucket, roster map[string]uint32, stack string) (plan.Ledger, []Dropped) {
	l := plan.Ledger{Stack: stack}
	b := stacks.Bucket([]byte(stack))
	want, enrolled := roster[stack]
	if b == nil {
		if enrolled {
			return l, []Dropped{{Stack: stack, Reason: errMissing.Error()}}
		}
		return l, nil
	}
	path := stackPath(stack)
	payloads, bad := unseal(b, path)
	if roster != nil && bad[sealKey] == nil && (!enrolled || sum(b.Get([]byte(sealKey))) != want) {
		return l, []Dropped{{Stack: stack, Reason: errStale.Error()}}
	}
	known := fields(&l)
	for name, payload := range payloads {
		err := errCodec
		field, ok := known[name]
		if ok {
			err = json.Unmarshal(payload, field)
		}
		if err != nil && ok {
			reflect.ValueOf(field).Elem().SetZero()
		}
		if err != nil {
			bad[name] = err
		}
	}
	var dropped []Dropped
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		dropped = append(dropped, Dropped{Stack: stack, Value: name, Reason: bad[name].Error()})
	}
	return l, dropped
}

func stackNames(stacks *bolt.Bucket) []string {
	var names []string
	_ = stacks.ForEachBucket(func(k []byte) error {
		names = append(names, string(k))
		return nil
	})
	return names
}

func stackPath(stack string) string { return string(stacksBucket) + "/" + stack }
