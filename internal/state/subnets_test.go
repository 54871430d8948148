package state

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"
)

// lowest picks the first free 10.9.N.0/24.
func lowest(taken map[string]netip.Prefix) (netip.Prefix, error) {
	used := map[netip.Prefix]bool{}
	for _, p := range taken {
		used[p] = true
	}
	for n := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(n), 0}), 24)
		if !used[p] {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("none free")
}

func TestSubnetsAreNeverReservedTwice(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			_, err := db.Reserve(fmt.Sprintf("net%d", n%10), lowest)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := db.Subnets()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Prefix]string{}
	for network, p := range got {
		if seen[p] != "" {
			t.Errorf("%s and %s both have %s", network, seen[p], p)
		}
		seen[p] = network
	}
	if len(got) != 10 {
		t.Errorf("%d subnets, want 10", len(got))
	}
}

func TestAReservationStaysUntilReleased(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	first, err := db.Reserve("blog-default", lowest)
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	db = mustOpen(t, path)
	again, err := db.Reserve("blog-default", func(map[string]netip.Prefix) (netip.Prefix, error) {
		t.Error("picked again")
		return netip.Prefix{}, nil
	})
	if err != nil || again != first {
		t.Errorf("%v, %v; want %v", again, err, first)
	}
	err = errors.Join(db.Release("blog-default"), db.Release("blog-default"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := db.Subnets()
	if err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestAFailedPickReservesNothing(t *testing.T) {
	db := mustOpen(t, filepath.Join(ram(t), "state.db"))
	none := errors.New("none free")
	_, err := db.Reserve("a", func(map[string]netip.Prefix) (netip.Prefix, error) { return netip.Prefix{}, none })
	if !errors.Is(err, none) {
		t.Error(err)
	}
	_, err = db.Reserve("a", func(map[string]netip.Prefix) (netip.Prefix, error) { return netip.Prefix{}, nil })
	if err == nil {
		t.Error("the zero prefix was reserved")
	}
	got, err := db.Subnets()
	if err != nil || len(got) != 0 {
		t.Error(got, err)
	}
}

func TestADamagedSubnetIsDropped(t *testing.T) {
	path := filepath.Join(ram(t), "state.db")
	db := mustOpen(t, path)
	for _, n := range []string{"a", "b"} {
		_, err := db.Reserve(n, lowest)
		if err != nil {
			t.Fatal(err)
		}
	}
	err := db.bolt.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(subnetsBucket).Put([]byte("a"), encode("subnets/a", []byte("10.66.0.0/16")))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	db = mustOpen(t, path)
	diff := cmp.Diff([]Dropped{{Value: "a", Reason: errStale.Error()}}, db.Dropped())
	if diff != "" {
		t.Error(diff)
	}
	got, err := db.Subnets()
	if err != nil {
		t.Fatal(err)
	}
	diff = cmp.Diff(map[string]netip.Prefix{"b": netip.MustParsePrefix("10.9.1.0/24")}, got, cmpopts.EquateComparable(netip.Prefix{}))
	if diff != "" {
		t.Error(diff)
	}
}
