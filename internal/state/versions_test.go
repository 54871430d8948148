package state

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// unpacked is a ledger that another version wrote on a host with five stacks.
func unpacked(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	path := filepath.Join(ram(t), "state.db")
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// lost lists what is in a and not in b. What is empty is no loss.
func lost(at string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		m, _ := b.(map[string]any)
		var out []string
		for k, v := range a {
			out = append(out, lost(at+"."+k, v, m[k])...)
		}
		slices.Sort(out)
		return out
	case []any:
		l, _ := b.([]any)
		var out []string
		for i, v := range a {
			var other any
			if i < len(l) {
				other = l[i]
			}
			out = append(out, lost(fmt.Sprint(at, ".", i), v, other)...)
		}
		return out
	}
	if a == nil || reflect.ValueOf(a).IsZero() || reflect.DeepEqual(a, b) {
		return nil
	}
	return []string{fmt.Sprintf("%s: %v became %v", at, a, b)}
}

// The ledgers of earlier versions (testdata/ledger-<commits>.db.gz) are read whole: nothing is dropped, and no value
// gets lost between what they wrote and what is understood.
func TestLedgersOfEarlierVersionsAreRead(t *testing.T) {
	files, err := filepath.Glob("testdata/ledger-*.db.gz")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			path := unpacked(t, name)
			mustDo(t, Check(t.Context(), path))
			db := mustOpen(t, path)
			if db.Fresh() || len(db.Dropped()) > 0 {
				t.Error("fresh:", db.Fresh(), "dropped:", db.Dropped())
			}
			stacks, err := db.Stacks()
			if err != nil || !slices.Equal(stacks, []string{"gitea", "miniflux", "press", "shop", "vaultwarden"}) {
				t.Error(stacks, err)
			}
			subnets, err := db.Subnets()
			if err != nil || fmt.Sprint(subnets["shop-default"]) != "10.201.204.0/24" || len(subnets) != 5 {
				t.Error(subnets, err)
			}
			for _, stack := range stacks {
				l := mustLoad(t, db, stack)
				for _, loss := range losses(t, db, &l) {
					t.Error(stack, loss)
				}
			}
			shop := mustLoad(t, db, "shop")
			if shop.Started["web-2"] != "606b1ddc9dca4fdecfcefc100e0be5d8" || shop.Project.Services[1].Replicas != 2 {
				t.Error(shop.Started, shop.Project)
			}
			gens, err := db.Generations("shop")
			if err != nil {
				t.Error(gens, err)
			}
			for _, g := range gens {
				_, err := db.Generation("shop", g.Number)
				mustDo(t, err)
			}
		})
	}
}

// losses compares the stored values of a stack with what was loaded of them.
func losses(t *testing.T, db *DB, l *plan.Ledger) []string {
	t.Helper()
	known := fields(l)
	var out []string
	err := db.view(func(tx *bolt.Tx) error {
		payloads, _ := unseal(tx.Bucket(stacksBucket).Bucket([]byte(l.Stack)), stackPath(l.Stack))
		for name, payload := range payloads {
			again, err := json.Marshal(known[name])
			if err != nil {
				return err
			}
			var before, after any
			err = json.Unmarshal(payload, &before)
			if err == nil {
				err = json.Unmarshal(again, &after)
			}
			if err != nil {
				return err
			}
			out = append(out, lost(name, before, after)...)
		}
		return nil
	})
	mustDo(t, err)
	return out
}

// After a downgrade the values that this version knows are used, the others are left out with one message, and all of
// them lie in a copy.
func TestALedgerOfANewerVersionIsKept(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	mustSave(t, db, fullLedger("blog"))
	err := db.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(stacksBucket).Bucket([]byte("blog"))
		sums, err := decodeSeal(b, "stacks/blog")
		if err != nil {
			return err
		}
		for _, name := range []string{"colours", "shapes"} {
			v := encode("stacks/blog/"+name, []byte(`"many"`))
			sums[name] = sum(v)
			err = b.Put([]byte(name), v)
			if err != nil {
				return err
			}
		}
		err = b.Put([]byte(sealKey), encodeSeal("stacks/blog", sums))
		if err != nil {
			return err
		}
		return enroll(tx.Bucket(stacksBucket))
	})
	mustDo(t, err)
	mustDo(t, db.Close())

	for range 2 { // only the first start has anything to keep, or to say
		var log bytes.Buffer
		db, err = Open(path, slog.New(slog.NewTextHandler(&log, nil)))
		mustDo(t, err)
		if l := mustLoad(t, db, "blog"); l.Generation != 7 {
			t.Error("generation", l.Generation)
		}
		mustDo(t, db.Close())
		copies, _ := filepath.Glob(path + ".newer-*")
		if len(copies) != 1 {
			t.Fatal("kept:", copies)
		}
		if n := bytes.Count(log.Bytes(), []byte("\n")); n > 1 || n == 1 && !bytes.Contains(log.Bytes(), []byte("newer ic-agent")) {
			t.Errorf("logged: %s", log.Bytes())
		}
		kept, err := bolt.Open(copies[0], 0o600, &bolt.Options{ReadOnly: true})
		mustDo(t, err)
		err = kept.View(func(tx *bolt.Tx) error {
			_, err := decode("stacks/blog/colours", tx.Bucket(stacksBucket).Bucket([]byte("blog")).Get([]byte("colours")))
			return err
		})
		mustDo(t, err)
		mustDo(t, kept.Close())
	}
}
