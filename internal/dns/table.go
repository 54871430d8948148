package dns

import (
	"hash/maphash"
	"maps"
)

// shards is how many pieces a table is cut into: so small that copying the few that a change touches is
// nothing, so many that an empty table costs little.
const shards = 128

var tableSeed = maphash.MakeSeed()

// table is a map that a copy of it can be changed without: copying takes 128 pointers, and the first change of
// a shard copies that shard. Only the goroutine that builds a zone changes one.
type table[K comparable, V any] struct {
	shard [shards]map[K]V
	own   [shards]bool // shards that no other table has
}

func shardOf[K comparable](k K) int { return int(maphash.Comparable(tableSeed, k) % shards) }

func (t *table[K, V]) get(k K) V { return t.shard[shardOf(k)][k] }

// writable returns the shard of a key, to be changed.
func (t *table[K, V]) writable(k K) map[K]V {
	i := shardOf(k)
	if !t.own[i] {
		t.own[i] = true
		t.shard[i] = maps.Clone(t.shard[i])
		if t.shard[i] == nil {
			t.shard[i] = map[K]V{}
		}
	}
	return t.shard[i]
}

// sealed is the table with all shards taken for shared.
func (t *table[K, V]) sealed() table[K, V] { return table[K, V]{shard: t.shard} }

func (t *table[K, V]) len() int {
	n := 0
	for _, m := range t.shard {
		n += len(m)
	}
	return n
}
