package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// childEnv has the test binary play another process; its value is the part.
const childEnv = "IC_STATE_TEST_CHILD"

// raceEnv saves the second that every process built with the race detector sleeps at its end.
const raceEnv = "GORACE=atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		writeForEver(os.Args[1])
	case "corpus":
		checkCorpus(os.Args[1:])
	case "dbcheck":
		os.Exit(dbcheck(os.Args[1]))
	}
}

// dbcheck is the verb of the same name.
func dbcheck(path string) int {
	err := Check(context.Background(), path)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrLocked):
		return ExitLocked
	}
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, ErrDamaged) {
		return ExitDamaged
	}
	return 1
}

// ram returns a directory whose syncs cost nothing, when the machine has one.
func ram(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "ic-state-") //nolint:usetesting // TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustSave(t *testing.T, db *DB, l plan.Ledger) {
	t.Helper()
	err := db.Save(l)
	if err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t *testing.T, db *DB, stack string) plan.Ledger {
	t.Helper()
	l, err := db.Load(stack)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var noon = time.Date(2026, 2, 3, 12, 0, 0, 123456789, time.UTC)

// full returns a ledger with something in every field.
func fullLedger(stack string) plan.Ledger {
	return plan.Ledger{
		Stack: stack,
		Project: &plan.Project{
			Stack: stack, Name: stack, Incus: stack, Source: "/etc/incus-compose.d/" + stack + ".yaml", Hash: "c0ffee",
			Networks: []plan.Network{{Name: "default", Incus: stack + "-default", Subnet: netip.MustParsePrefix("10.9.0.0/24")}},
			Services: []plan.Service{{
				Name: "web", Replicas: 2, Image: plan.ImageRef{Ref: "nginx:alpine"},
				Process: plan.Process{Entrypoint: []string{}, Command: nil},
				Files:   []plan.File{{Target: "/etc/motd", Content: []byte{0, 1, 255}}},
			}},
		},
		Generation: 7,
		Images:     map[string]plan.Image{"nginx:alpine": {Ref: "docker.io/library/nginx:alpine", Digest: "sha256:1", Cmd: []string{"nginx"}}},
		Addresses:  map[string]map[string]netip.Addr{stack + "-default": {"web-1": netip.MustParseAddr("10.9.0.2"), "web-2": netip.MustParseAddr("fd00::2")}},
		Started:    map[string]string{"web-1": "boot1"},
		Stops:      map[string]plan.Stop{"web-2": {By: "root", At: noon}},
		Rootless:   map[string]plan.Root{"web-2": plan.RootBegun},
		Intents:    map[string]plan.Intent{"instance/web-1": {Text: "1: start instance/web-1 (created by 0)", At: noon}},
		Conditions: []plan.Condition{{Type: "Failed", Object: "instance/web-1", Text: "no room; free some", Since: noon}},
		RemovedAt:  noon,
		AppliedAt:  noon.Add(time.Hour),
	}
}

func TestEveryFieldOfALedgerIsAValue(t *testing.T) {
	var l plan.Ledger
	at := map[any]bool{}
	for _, field := range fields(&l) {
		at[field] = true
	}
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		name, tag := v.Type().Field(i).Name, v.Type().Field(i).Tag.Get("json")
		if name != "Stack" && tag != "-" && !at[v.Field(i).Addr().Interface()] {
			t.Errorf("Ledger.%s is not stored: name it in fields()", name)
		}
	}
}

func TestLoadReturnsWhatWasSaved(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	want := fullLedger("blog")
	mustSave(t, db, want)
	mustSave(t, db, plan.Ledger{Stack: "other", Generation: 1})
	check := func(db *DB) {
		t.Helper()
		diff := cmp.Diff(want, mustLoad(t, db, "blog"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
		if diff != "" {
			t.Error(diff)
		}
		if len(db.Dropped()) != 0 {
			t.Error("dropped", db.Dropped())
		}
	}
	check(db)
	err := db.Close()
	if err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, path)
	check(db)
	if db.Fresh() {
		t.Error("fresh after the second open")
	}
}

func TestNothingRememberedIsAZeroLedger(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	if !db.Fresh() {
		t.Error("a new ledger is not fresh")
	}
	diff := cmp.Diff(plan.Ledger{Stack: "blog"}, mustLoad(t, db, "blog"))
	if diff != "" {
		t.Error(diff)
	}
}

// txid counts the write transactions of a ledger's whole life.
func txid(t *testing.T, db *DB) int {
	t.Helper()
	id := 0
	err := db.bolt.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOneTransactionWhenSomethingChangedNoneOtherwise(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	mustSave(t, db, fullLedger("blog"))
	for _, step := range []struct {
		what string
		save func(l *plan.Ledger)
		txs  int
	}{
		{"nothing", func(*plan.Ledger) {}, 0},
		{"a map emptied instead of nil", func(l *plan.Ledger) { l.Stops = map[string]plan.Stop{} }, 1},
		{"the same again", func(l *plan.Ledger) { l.Stops = nil }, 0},
		{"two values", func(l *plan.Ledger) { l.Generation++; l.Conditions = nil }, 1},
		{"a time to zero", func(l *plan.Ledger) { l.RemovedAt = time.Time{} }, 1},
		{"forgotten", func(l *plan.Ledger) { *l = plan.Ledger{Stack: l.Stack} }, 1},
		{"forgotten again", func(*plan.Ledger) {}, 0},
	} {
		l, before := mustLoad(t, db, "blog"), txid(t, db)
		step.save(&l)
		mustSave(t, db, l)
		if n := txid(t, db) - before; n != step.txs {
			t.Errorf("%s: %d transactions, want %d", step.what, n, step.txs)
		}
		diff := cmp.Diff(l, mustLoad(t, db, "blog"), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
		if diff != "" {
			t.Errorf("%s: %s", step.what, diff)
		}
	}
}

func TestSaveLeavesUnchangedValuesAlone(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	l := fullLedger("blog")
	mustSave(t, db, l)
	// A mark in an unchanged value survives exactly when the value is not written.
	mark := encode("stacks/blog/started", []byte(`{"web-1":"marked"}`))
	poke(t, db, "blog", "started", mark)
	l.Started["web-1"] = "marked"
	l.Generation++
	mustSave(t, db, l)
	diff := cmp.Diff(l, mustLoad(t, db, "blog"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
	if diff != "" {
		t.Error(diff)
	}
}

// poke puts a value into the file behind the package's back.
func poke(t *testing.T, db *DB, stack, key string, v []byte) {
	t.Helper()
	err := db.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(stacksBucket).Bucket([]byte(stack))
		if v == nil {
			return b.Delete([]byte(key))
		}
		return b.Put([]byte(key), v)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStacksAndForget(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	for _, name := range []string{"web", "blog", "db"} {
		mustSave(t, db, plan.Ledger{Stack: name, Generation: 1})
	}
	err := errors.Join(db.Forget("web"), db.Forget("never"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Stacks()
	if err != nil {
		t.Fatal(err)
	}
	diff := cmp.Diff([]string{"blog", "db"}, got)
	if diff != "" {
		t.Error(diff)
	}
	err = db.Save(plan.Ledger{})
	if err == nil {
		t.Error("a ledger without a name was saved")
	}
	mustSave(t, db, plan.Ledger{Stack: "web", Generation: 2})
}

func TestADroppedValueIsReportedOnceAndTheOthersStay(t *testing.T) {
	flipped := encode("stacks/blog/generation", []byte("7"))
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name, key string
		v         []byte
		reason    error
	}{
		{"a flipped bit", "generation", flipped, errChecksum},
		{"a value of another stack", "generation", encode("stacks/web/generation", []byte("7")), errChecksum},
		{"a value of another name", "generation", encode("stacks/blog/started", []byte("7")), errChecksum},
		{"an older state", "generation", encode("stacks/blog/generation", []byte("6")), errStale},
		{"gone", "generation", nil, errMissing},
		{"cut off", "generation", []byte{codec, 0}, errShort},
		{"the seal", sealKey, nil, errMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(ram(t), "state.db")
			db := mustOpen(t, path)
			mustSave(t, db, fullLedger("blog"))
			poke(t, db, "blog", c.key, c.v)
			_ = db.Close()

			var log bytes.Buffer
			db, err := Open(path, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff([]Dropped{{Stack: "blog", Value: c.key, Reason: c.reason.Error()}}, db.Dropped())
			if diff != "" {
				t.Error(diff)
			}
			if n := bytes.Count(log.Bytes(), []byte("ledger value dropped")); n != 1 {
				t.Errorf("logged %d times", n)
			}
			want := fullLedger("blog")
			if c.key == "generation" {
				want.Generation = 0
			}
			diff = cmp.Diff(want, mustLoad(t, db, "blog"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
			if diff != "" {
				t.Error(diff)
			}
			_ = db.Close()
			db = mustOpen(t, path)
			if len(db.Dropped()) != 0 {
				t.Error("reported at the next start too:", db.Dropped())
			}
		})
	}
}

func TestAStackThatVanishedIsReported(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	mustSave(t, db, fullLedger("blog"))
	mustSave(t, db, fullLedger("web"))
	err := db.bolt.Update(func(tx *bolt.Tx) error { return tx.Bucket(stacksBucket).DeleteBucket([]byte("web")) })
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	db = mustOpen(t, path)
	diff := cmp.Diff([]Dropped{{Stack: "web", Reason: "missing"}}, db.Dropped())
	if diff != "" {
		t.Error(diff)
	}
}

func TestAStackThatFellBackToAnOlderStateIsDropped(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	mustSave(t, db, fullLedger("web"))
	mustSave(t, db, fullLedger("blog"))
	l := fullLedger("blog")
	l.Generation = 6
	older, err := encodeLedger(&l)
	if err != nil {
		t.Fatal(err)
	}
	err = db.bolt.Update(func(tx *bolt.Tx) error {
		return older.write(tx.Bucket(stacksBucket).Bucket([]byte("blog")))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	db = mustOpen(t, path)
	diff := cmp.Diff([]Dropped{{Stack: "blog", Reason: errStale.Error()}}, db.Dropped())
	if diff != "" {
		t.Error(diff)
	}
	got, err := db.Stacks()
	if err != nil || len(got) != 1 || got[0] != "web" {
		t.Error(got, err)
	}
}

func TestDamageMetWhileRunningIsDroppedOnce(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	mustSave(t, db, fullLedger("blog"))
	poke(t, db, "blog", "images", []byte("junk, longer than a header"))
	for range 2 {
		l := mustLoad(t, db, "blog")
		if l.Images != nil || l.Generation != 7 {
			t.Errorf("images %v, generation %d", l.Images, l.Generation)
		}
	}
	if len(db.Dropped()) != 1 {
		t.Error(db.Dropped())
	}
	mustSave(t, db, fullLedger("blog"))
	if l := mustLoad(t, db, "blog"); len(l.Images) != 1 {
		t.Error("not written again")
	}
}

func TestAValueInAnUnknownEncodingIsDropped(t *testing.T) {
	v := encode("stacks/blog/generation", []byte("7"))
	v[0] = codec + 1
	copy(v[1:], binaryChecksum("stacks/blog/generation", v[0], []byte("7")))
	_, err := decode("stacks/blog/generation", v)
	if !errors.Is(err, errCodec) {
		t.Error(err)
	}
}

func binaryChecksum(path string, version byte, payload []byte) []byte {
	c := checksum(path, version, payload)
	return []byte{byte(c >> 24), byte(c >> 16), byte(c >> 8), byte(c)}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, []byte("7"))
	f.Add(encode("p", []byte("{}")), []byte("[]"))
	f.Fuzz(func(t *testing.T, v, payload []byte) {
		_, _ = decode("p", v)
		got, err := decode("p", encode("p", payload))
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%q became %q, %v", payload, got, err)
		}
	})
}
