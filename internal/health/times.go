package health

import (
	"container/heap"
	"time"
)

// times holds the instances that wait for a time, the next one first.
type times struct{ list []*entry }

// Len, Less, Swap, Push and Pop are for container/heap.
func (t *times) Len() int           { return len(t.list) }
func (t *times) Less(i, j int) bool { return t.list[i].at.Before(t.list[j].at) }
func (t *times) Swap(i, j int) {
	t.list[i], t.list[j] = t.list[j], t.list[i]
	t.list[i].slot, t.list[j].slot = i, j
}

// Push adds an entry at the end.
func (t *times) Push(x any) {
	e := x.(*entry)
	e.slot = len(t.list)
	t.list = append(t.list, e)
}

// Pop takes the entry at the end.
func (t *times) Pop() any {
	last := len(t.list) - 1
	e := t.list[last]
	t.list[last] = nil
	t.list = t.list[:last]
	e.slot = -1

	return e
}

// set makes an instance wait for a time; zero for none.
func (t *times) set(e *entry, at time.Time) {
	switch {
	case at.IsZero() && e.slot >= 0:
		heap.Remove(t, e.slot)
	case at.IsZero():
	case e.slot >= 0:
		e.at = at
		heap.Fix(t, e.slot)
	default:
		e.at = at
		heap.Push(t, e)
	}
}

// due takes an instance whose time has come; nil when there is none.
func (t *times) due(now time.Time) *entry {
	if len(t.list) == 0 || t.list[0].at.After(now) {
		return nil
	}

	return heap.Pop(t).(*entry)
}

// next is the next time; zero for none.
func (t *times) next() time.Time {
	if len(t.list) == 0 {
		return time.Time{}
	}

	return t.list[0].at
}
