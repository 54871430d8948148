package state

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const page = 4096

// damaged returns a copy of a ledger file with the i-th damage done to it.
func damaged(pristine []byte, i int) []byte {
	rng := rand.New(rand.NewPCG(42, uint64(i)))
	b := slices.Clone(pristine)
	at := rng.IntN(len(b))
	whole := b[at/page*page:]
	whole = whole[:min(page, len(whole))]
	switch i % 5 {
	case 0: // one bit
		b[at] ^= 1 << rng.IntN(8)
	case 1: // one byte
		b[at] = byte(rng.Uint32())
	case 2:
		clear(whole)
	case 3:
		for n := range whole {
			whole[n] = byte(rng.Uint32())
		}
	case 4:
		b = b[:at]
	}
	return b
}

// corpus writes a ledger with a past, and returns its file and what it holds.
func corpus(t *testing.T) (string, []plan.Ledger) {
	t.Helper()
	path := filepath.Join(ram(t), "pristine.db")
	opts := options()
	opts.NoSync = true
	db, err := open(path, quiet(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		size := int64(0)
		_ = db.bolt.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
		err := errors.Join(db.Close(), os.Truncate(path, size)) // without the pages not yet used
		if err != nil {
			t.Fatal(err)
		}
	}()
	var all []plan.Ledger
	for round := range 30 {
		all = all[:0]
		for n := range 4 {
			l := fullLedger(fmt.Sprintf("stack%d", n))
			l.Generation = uint64(round + 1)
			l.Project.Hash = strings.Repeat(strconv.Itoa(round), 1+n*2000)
			l.Started = map[string]string{"web-1": fmt.Sprint("boot", round)}
			mustSave(t, db, l)
			all = append(all, l)
		}
		_, err := db.Reserve(fmt.Sprintf("net%d", round%8), lowest)
		if err != nil {
			t.Fatal(err)
		}
	}
	return path, all
}

// checkCorpus is a child: it checks the damages first, first+step … and prints a verdict for each.
func checkCorpus(args []string) {
	err := LimitSelf(10 * time.Minute)
	if err != nil {
		panic(err)
	}
	pristine, err := os.ReadFile(args[0])
	if err != nil {
		panic(err)
	}
	first, _ := strconv.Atoi(args[1])
	step, _ := strconv.Atoi(args[2])
	path := args[3]
	for i := first; i < damages; i += step {
		err := os.WriteFile(path, damaged(pristine, i), 0o600)
		if err != nil {
			panic(err)
		}
		fmt.Println(i, Check(context.Background(), path) == nil)
	}
}

// verdicts has children check every damage; one that kills its child is as bad as one that is found.
func verdicts(t *testing.T, pristine string) []bool {
	t.Helper()
	const workers = 2
	sound := make([]bool, damages)
	var all sync.WaitGroup
	for w := range workers {
		scratch := filepath.Join(filepath.Dir(pristine), fmt.Sprint("check", w))
		all.Go(func() {
			for i := w; i < damages; i += workers {
				cmd := exec.CommandContext(t.Context(), os.Args[0], pristine, strconv.Itoa(i), strconv.Itoa(workers), scratch)
				cmd.Env = append(os.Environ(), childEnv+"=corpus", "GOTRACEBACK=none", raceEnv)
				out, _ := cmd.Output()
				for line := range strings.Lines(string(out)) {
					_, err := fmt.Sscan(line, &i, &sound[i])
					if err != nil {
						t.Error(line, err)
					}
					i += workers
				}
			}
		})
	}
	all.Wait()
	return sound
}

func TestEveryDamageStartsAndGivesNoWrongValue(t *testing.T) {
	pristinePath, want := corpus(t)
	pristine, err := os.ReadFile(pristinePath)
	if err != nil {
		t.Fatal(err)
	}
	opts := options()
	opts.NoSync = true
	rebuilds, drops := 0, 0
	for i, sound := range verdicts(t, pristinePath) {
		path := filepath.Join(filepath.Dir(pristinePath), "state.db")
		err := os.WriteFile(path, damaged(pristine, i), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		check := func(context.Context, string) error {
			if !sound {
				return ErrDamaged
			}
			return nil
		}
		db, rebuilt, err := openOrRebuild(t.Context(), path, check, quiet(), opts)
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		if rebuilt {
			rebuilds++
		}
		drops += len(db.Dropped())
		nothingWrong(t, i, db, rebuilt, want)
		_ = db.Close()
	}
	t.Logf("%d damages: %d rebuilt, %d values dropped", damages, rebuilds, drops)
	if rebuilds < damages/10 || drops == 0 {
		t.Error("the damages do not bite")
	}
}

// nothingWrong compares each value with the one that was saved: the same, or missing and named.
func nothingWrong(t *testing.T, i int, db *DB, rebuilt bool, want []plan.Ledger) {
	t.Helper()
	excused := map[string]bool{}
	for _, d := range db.Dropped() {
		excused[d.Stack+"/"+d.Value] = true
	}
	for _, w := range want {
		got, err := db.Load(w.Stack)
		if err != nil {
			t.Fatalf("damage %d: %v", i, err)
		}
		have := fields(&got)
		for name, field := range fields(&w) {
			a, _ := json.Marshal(field)
			b, _ := json.Marshal(have[name])
			missing := empty(have[name]) && (rebuilt || excused[w.Stack+"/"] || excused[w.Stack+"/"+name])
			if string(a) != string(b) && !missing {
				t.Fatalf("damage %d: %s of %s is %.100s, want %.100s; dropped: %v", i, name, w.Stack, b, a, db.Dropped())
			}
		}
	}
	subnets, err := db.Subnets()
	if err != nil {
		t.Fatalf("damage %d: %v", i, err)
	}
	for n := range 8 {
		network, subnet := fmt.Sprintf("net%d", n), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(n), 0}), 24)
		got, ok := subnets[network]
		if got != subnet && (ok || !rebuilt && !excused["/"+network]) {
			t.Fatalf("damage %d: %s has %v, want %v; dropped: %v", i, network, got, subnet, db.Dropped())
		}
	}
}

// writeForEver is a child: it saves ever higher generations and says so after each.
func writeForEver(path string) {
	db, err := Open(path, quiet())
	if err != nil {
		panic(err)
	}
	l, err := db.Load("blog")
	for err == nil {
		l.Stack = "blog"
		l.Generation++
		l.Started = map[string]string{"web-1": fmt.Sprint(l.Generation)}
		err = db.Save(l)
		fmt.Println(l.Generation)
	}
	panic(err)
}

func TestKilledWriterLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	rng := rand.New(rand.NewPCG(1, 2))
	var last uint64
	for range 50 {
		last = max(last, killedAfter(t, path, 1+rng.IntN(60)))
		err := Check(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		db := mustOpen(t, path)
		l := mustLoad(t, db, "blog")
		if l.Generation < last || l.Started["web-1"] != fmt.Sprint(l.Generation) || len(db.Dropped()) != 0 {
			t.Fatalf("acknowledged %d, found %d with %v; dropped %v", last, l.Generation, l.Started, db.Dropped())
		}
		_ = db.Close()
	}
}

// killedAfter has a child write until it has acknowledged n saves, kills it, and returns the last one it
// acknowledged.
func killedAfter(t *testing.T, path string, n int) uint64 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"=write", raceEnv)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		g, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Fatal(lines.Text())
		}
		last = g
		if i == n {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	return last
}
