package dns

import (
	"iter"
	"slices"
)

// Group are records that change together: those of one stack.
type Group struct {
	// Name is its own among the groups of a zone.
	Name string
	// Records must stay as they are: a Group that is in the zone before is not looked into again.
	Records []Record
}

// grouped is a group in a zone, with an entry for each record.
type grouped struct {
	of      *Group
	entries []*entry
}

// everybody goes through all entries.
func (z *Zone) everybody() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, g := range z.groups {
			for _, e := range g.entries {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// regroup makes these the zone's groups, where it had others before: what is no more leaves first, then what is new
// comes.
func (z *Zone) regroup(before []grouped, groups []*Group) {
	old := make(map[string]grouped, len(before))
	for _, g := range before {
		old[g.of.Name] = g
	}
	z.groups = make([]grouped, 0, len(groups))
	for _, g := range groups {
		was := old[g.Name]
		delete(old, g.Name)
		if was.of == g {
			z.groups = append(z.groups, was)
			continue
		}
		kept, left := stay(was.entries, g.Records)
		z.groups = append(z.groups, grouped{g, kept})
		z.leave(left)
	}
	for _, g := range old {
		z.leave(g.entries)
	}
	for _, g := range z.groups {
		for i, e := range g.entries {
			if e == nil {
				g.entries[i] = z.enter(g.of.Records[i])
			}
		}
	}
}

func (z *Zone) leave(entries []*entry) {
	for _, e := range entries {
		z.each(e, z.remove)
		z.unclaim(e)
	}
}

func (z *Zone) enter(r Record) *entry {
	e := z.entry(r)
	z.each(e, z.insert)
	z.claim(e)
	return e
}

// stay finds the entries that serve for the new records, in their places; nil where there is none. Left are the others.
// Equal records at the front and at the end stay; a list of the same length is compared place by place.
func stay(was []*entry, recs []Record) (kept, left []*entry) {
	kept = make([]*entry, len(recs))
	front := 0
	for front < min(len(recs), len(was)) && was[front].equal(&recs[front]) {
		kept[front] = was[front]
		front++
	}
	shift := len(was) - len(recs)
	back := len(recs)
	for back > front && back+shift > front && was[back-1+shift].equal(&recs[back-1]) {
		back--
		kept[back] = was[back+shift]
	}
	for i := front; i < back+shift; i++ {
		if shift == 0 && was[i].equal(&recs[i]) {
			kept[i] = was[i]
		} else {
			left = append(left, was[i])
		}
	}
	return kept, slices.Clip(left)
}
