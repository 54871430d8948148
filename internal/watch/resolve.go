package watch

import (
	"fmt"
	"slices"
	"strings"
)

// dirState is what is remembered of a directory.
type dirState struct {
	id identity // of the last readable one; zero before that
	// replaced says that another directory stands in its place, in which stacks are missing: they count as
	// unseen, not as removed.
	replaced bool
}

// judged is a layer with the verdict on what its silence means.
type judged struct {
	layer
	// partial says that what is not found may exist all the same.
	partial bool
}

// judge decides whether a directory can be believed when it does not show a stack. stacks are those last seen
// in it and not yet confirmed to be gone.
func judge(prev dirState, l layer, stacks []string) (next dirState, partial bool, why *Problem) {
	var missing []string
	for _, name := range stacks {
		_, ok := l.found[name]
		if !ok && !l.masked[name] {
			missing = append(missing, name)
		}
	}
	switch {
	case l.err != nil:
		return prev, true, l.err
	case l.absent && len(stacks) > 0:
		return prev, true, &Problem{Path: l.dir, Condition: SourceUnavailable, Text: "is gone; " + keeps(stacks) +
			": bring the directory back, or let them stop with: ic-agent confirm-removal"}
	case l.absent:
		return prev, false, nil
	}
	next = dirState{id: l.id, replaced: prev.replaced}
	if prev.id != (identity{}) && prev.id != l.id {
		// A successor is believed when it carries on with some of the stacks on the same device: that is a
		// deployment. With none of them, or on another device, it is a lost mount or a slip.
		next.replaced = prev.id.dev != l.id.dev || len(missing) == len(stacks)
	}
	next.replaced = next.replaced && len(missing) > 0
	if next.replaced {
		why = &Problem{Path: l.dir, Condition: SourceUnavailable, Text: "was replaced by another directory or mount, in which " +
			list(missing) + " cannot be found; " + keeps(missing) + ": bring the files back, or let them stop with: ic-agent confirm-removal"}
	}
	return next, next.replaced, why
}

// verdict is what the layers together say about a stack.
type verdict int

const (
	unheard verdict = iota // nothing, and it was not known
	there                  // it is there
	kept                   // it cannot be seen, and that means nothing
	absent                 // it is gone
	masked                 // it is masked
)

// sighting is a verdict with what was seen.
type sighting struct {
	verdict    verdict
	layer      string
	found      found
	skip, hold bool
}

// resolve asks the layers, highest precedence first, about a stack that was last seen in the layer from; known
// is false when it was never seen. A marker counts for the stacks of its own and of lower layers.
func resolve(name, from string, known bool, layers []judged) sighting {
	var s sighting
	unsure := false // a higher layer might hide it
	for _, l := range layers {
		s.skip = s.skip || l.skip[name]
		s.hold = s.hold || l.hold[name]
		f, ok := l.found[name]
		if !ok && !l.masked[name] {
			unsure = unsure || l.partial
			continue
		}
		switch {
		case unsure && !known:
			s.verdict = unheard
		case unsure && from != l.dir:
			s.verdict = kept
		case ok:
			s.verdict, s.layer, s.found = there, l.dir, f
		default:
			s.verdict = masked
		}
		return s
	}
	switch {
	case !known:
		s.verdict = unheard
	case unsure || s.skip || s.hold:
		s.verdict = kept
	default:
		s.verdict = absent
	}
	return s
}

// tooMany tells whether so many stacks vanished in one step that it is rather a mistake than a wish.
func tooMany(gone, of int) bool { return gone >= 2 && gone*2 > of }

// keeps says of some stacks that they run on.
func keeps(names []string) string {
	if len(names) == 1 {
		return "the stack " + names[0] + " keeps running as it is"
	}
	return fmt.Sprintf("%d stacks keep running as they are", len(names))
}

// list names up to five of the names.
func list(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
