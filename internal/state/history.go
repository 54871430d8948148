package state

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The bounds of a stack's history: what is beyond is dropped, the oldest first.
const (
	maxGenerations = 50
	maxHistory     = 512 << 10 // stored bytes of a stack
	maxKept        = 1 << 20   // of one file before compression
)

// historyBucket holds, in a bucket for each stack, the generations under "g/<number>" and what they consist of,
// compressed, under "b/<sha256 of the content>": equal contents are stored once.
var historyBucket = []byte("history")

// entry is how a generation is stored: its contents are named by their hashes.
type entry struct {
	plan.Generation
	Paths   []path
	Project string `json:"ProjectSum"`
	Images  string `json:"ImagesSum"`
}

type path struct{ Path, Sum, Omitted string }

// sums lists the contents an entry needs.
func (e entry) sums() []string {
	out := []string{e.Project, e.Images}
	for _, p := range e.Paths {
		out = append(out, p.Sum)
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// Record keeps a generation, replacing one of the same number, and drops the oldest that are too many; those in keep,
// and it itself, stay. The error is ErrDamaged, or tells that there is no room: then what was kept stays.
func (db *DB) Record(stack string, g plan.Generation, keep ...uint64) error {
	err := nameable(stack)
	if err != nil {
		return fmt.Errorf("record generation: %w", err)
	}
	blobs := map[string][]byte{}
	e := entry{Generation: g}
	e.Generation.Files, e.Generation.Project, e.Generation.Images = nil, nil, nil
	for _, f := range g.Files {
		if len(f.Content) > maxKept {
			f.Content, f.Omitted = nil, fmt.Sprintf("it has %d bytes", len(f.Content))
		}
		p := path{Path: f.Path, Omitted: f.Omitted}
		if f.Omitted == "" {
			p.Sum = blob(blobs, f.Content)
		}
		e.Paths = append(e.Paths, p)
	}
	for to, v := range map[*string]any{&e.Project: g.Project, &e.Images: g.Images} {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("record generation %d of %s: %w", g.Number, stack, err)
		}
		*to = blob(blobs, b)
	}
	err = db.update(func(tx *bolt.Tx) error {
		b, err := stackHistory(tx, stack)
		if err != nil {
			return err
		}
		err = putEntry(b, stack, e)
		if err != nil {
			return err
		}
		for sum, content := range blobs {
			key := "b/" + sum
			if b.Get([]byte(key)) != nil {
				continue
			}
			err = b.Put([]byte(key), encode(historyPath(stack, key), content))
			if err != nil {
				return err
			}
		}
		return db.trim(b, stack, append(keep, g.Number))
	})
	if err != nil {
		return fmt.Errorf("record generation %d of %s: %w", g.Number, stack, err)
	}
	return nil
}

// Amend changes what is kept about a generation, but not its contents. One that is not kept is left alone.
func (db *DB) Amend(stack string, number uint64, change func(*plan.Generation)) error {
	var e entry
	var was, now []byte
	err := db.view(func(tx *bolt.Tx) error {
		b := historyOf(tx, stack)
		if b == nil {
			return nil
		}
		var err error
		e, err = getEntry(b, stack, entryKey(number))
		if err != nil {
			return nil //nolint:nilerr // it is dropped by the next list
		}
		was, _ = json.Marshal(e)
		change(&e.Generation)
		now, _ = json.Marshal(e)
		return nil
	})
	if err == nil && !bytes.Equal(was, now) {
		err = db.update(func(tx *bolt.Tx) error {
			b, err := stackHistory(tx, stack)
			if err != nil {
				return err
			}
			return putEntry(b, stack, e)
		})
	}
	if err != nil {
		return fmt.Errorf("amend generation %d of %s: %w", number, stack, err)
	}
	return nil
}

// Generations lists what is kept of a stack, the oldest first, without contents. What cannot be trusted is left out,
// each by itself.
func (db *DB) Generations(stack string) ([]plan.Generation, error) {
	var out []plan.Generation
	var dropped []Dropped
	err := db.view(func(tx *bolt.Tx) error {
		out, dropped = nil, nil
		b := historyOf(tx, stack)
		if b == nil {
			return nil
		}
		all, bad := entries(b, stack)
		dropped = bad
		for _, e := range all {
			for _, p := range e.Paths {
				e.Generation.Files = append(e.Generation.Files, plan.KeptFile{Path: p.Path, Omitted: p.Omitted})
			}
			out = append(out, e.Generation)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list generations of %s: %w", stack, err)
	}
	for _, d := range dropped {
		db.drop(d)
	}
	return out, nil
}

// Generation returns a generation with its contents; a file whose content cannot be trusted is marked as omitted. The
// error tells that it is not kept, or that its project cannot be trusted.
func (db *DB) Generation(stack string, number uint64) (plan.Generation, error) {
	var g plan.Generation
	err := db.view(func(tx *bolt.Tx) error {
		b := historyOf(tx, stack)
		if b == nil {
			return nil
		}
		e, err := getEntry(b, stack, entryKey(number))
		if errors.Is(err, errMissing) {
			return nil
		}
		g = e.Generation
		g.Number = number
		for _, p := range e.Paths {
			f := plan.KeptFile{Path: p.Path, Omitted: p.Omitted}
			if p.Sum != "" {
				content, err := contentOf(b, stack, p.Sum)
				f.Content = content
				if err != nil {
					f.Omitted = "what was kept of it is damaged"
				}
			}
			g.Files = append(g.Files, f)
		}
		readJSON(b, stack, e.Project, &g.Project)
		readJSON(b, stack, e.Images, &g.Images)
		return nil
	})
	switch {
	case err != nil:
		return plan.Generation{}, fmt.Errorf("read generation %d of %s: %w", number, stack, err)
	case g.Number == 0:
		return plan.Generation{}, fmt.Errorf("generation %d of %s is not kept", number, stack)
	case g.Project == nil:
		return g, fmt.Errorf("what is kept of generation %d of %s is damaged", number, stack)
	}
	return g, nil
}

// readJSON leaves v as it is when the content cannot be trusted.
func readJSON(b *bolt.Bucket, stack, sum string, v any) {
	content, err := contentOf(b, stack, sum)
	if err == nil {
		_ = json.Unmarshal(content, v)
	}
}

// forgetHistory removes what is kept of a stack.
func forgetHistory(tx *bolt.Tx, stack string) error {
	b := tx.Bucket(historyBucket)
	if b == nil {
		return nil
	}
	err := b.DeleteBucket([]byte(stack))
	if errors.Is(err, bolterrors.ErrBucketNotFound) {
		return nil
	}
	return err
}

func stackHistory(tx *bolt.Tx, stack string) (*bolt.Bucket, error) {
	b, err := tx.CreateBucketIfNotExists(historyBucket)
	if err != nil {
		return nil, err
	}
	return b.CreateBucketIfNotExists([]byte(stack))
}

// historyOf is the bucket of a stack's generations; nil when it has none.
func historyOf(tx *bolt.Tx, stack string) *bolt.Bucket {
	b := tx.Bucket(historyBucket)
	if b == nil {
		return nil
	}
	return b.Bucket([]byte(stack))
}

func historyPath(stack, key string) string { return string(historyBucket) + "/" + stack + "/" + key }

func entryKey(number uint64) string { return fmt.Sprintf("g/%020d", number) }

func putEntry(b *bolt.Bucket, stack string, e entry) error {
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	key := entryKey(e.Number)
	return b.Put([]byte(key), encode(historyPath(stack, key), squeeze(payload)))
}

func getEntry(b *bolt.Bucket, stack, key string) (entry, error) {
	var e entry
	v := b.Get([]byte(key))
	if v == nil {
		return e, errMissing
	}
	payload, err := decode(historyPath(stack, key), v)
	if err == nil {
		payload, err = unsqueeze(payload)
	}
	if err == nil {
		err = json.Unmarshal(payload, &e)
	}
	return e, err
}

// entries reads all generations of a stack in order.
func entries(b *bolt.Bucket, stack string) (all []entry, dropped []Dropped) {
	c := b.Cursor()
	for k, _ := c.Seek([]byte("g/")); strings.HasPrefix(string(k), "g/"); k, _ = c.Next() {
		e, err := getEntry(b, stack, string(k))
		if err != nil {
			n, _ := strconv.ParseUint(strings.TrimPrefix(string(k), "g/"), 10, 64)
			dropped = append(dropped, Dropped{Stack: stack, Value: fmt.Sprintf("generation %d", n), Reason: err.Error()})
			continue
		}
		all = append(all, e)
	}
	return all, dropped
}

// trim drops what cannot be trusted, what is too much, and contents nobody needs any more.
func (db *DB) trim(b *bolt.Bucket, stack string, keep []uint64) error {
	all, dropped := entries(b, stack)
	for _, d := range dropped {
		db.drop(d)
	}
	size := map[string]int{}
	err := b.ForEach(func(k, v []byte) error { size[string(k)] = len(v); return nil })
	if err != nil {
		return err
	}
	for i := 0; i < len(all) && (len(all) > maxGenerations || used(all, size) > maxHistory); {
		if slices.Contains(keep, all[i].Number) {
			i++
			continue
		}
		all = slices.Delete(all, i, i+1)
	}
	needed := map[string]bool{}
	for _, e := range all {
		needed[entryKey(e.Number)] = true
		for _, sum := range e.sums() {
			needed["b/"+sum] = true
		}
	}
	for k := range size {
		if !needed[k] {
			err := b.Delete([]byte(k))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// used is how many stored bytes generations need together.
func used(all []entry, size map[string]int) int {
	n, seen := 0, map[string]bool{}
	for _, e := range all {
		n += size[entryKey(e.Number)]
		for _, sum := range e.sums() {
			if !seen[sum] {
				seen[sum] = true
				n += size["b/"+sum]
			}
		}
	}
	return n
}

// blob adds a content to those to store and returns its name.
func blob(blobs map[string][]byte, content []byte) string {
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	blobs[name] = squeeze(content)
	return name
}

func contentOf(b *bolt.Bucket, stack, sum string) ([]byte, error) {
	key := "b/" + sum
	v := b.Get([]byte(key))
	if v == nil {
		return nil, errMissing
	}
	payload, err := decode(historyPath(stack, key), v)
	if err != nil {
		return nil, err
	}
	return unsqueeze(payload)
}

func squeeze(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // into memory
	_ = w.Close()
	return out.Bytes()
}

func unsqueeze(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, 64<<20))
}
