package watch

import "time"

// debounce remembers when hints came, and whether they are about one file that was put in place whole.
type debounce struct {
	first, last time.Time
	// path is the one file that was put in place; empty when there was anything else.
	path string
	// ended is when the hints before these ended.
	ended time.Time
}

// placed is how long a lone file that was put in place waits: it is complete in itself, but may be the first of
// several.
const placed = 50 * time.Millisecond

// with is the debounce after one more hint.
func (d debounce) with(h Hint, quiet time.Duration, now time.Time) debounce {
	first := d.first.IsZero()
	switch {
	case first && h.Placed && now.Sub(d.ended) > quiet:
		d.path = h.Path
	case !h.Placed || h.Path != d.path:
		d.path = ""
	}
	if first {
		d.first = now
	}
	d.last = now
	return d
}

// taken is the debounce after its hints were acted upon.
func (d debounce) taken() debounce {
	if d.first.IsZero() {
		return d
	}
	return debounce{ended: d.last}
}

// due returns when to act on the hints: after a quiet time, or when the first has waited for the longest; zero
// when there were none.
func (d debounce) due(quiet, longest time.Duration) time.Time {
	if d.first.IsZero() {
		return time.Time{}
	}
	if d.path != "" {
		quiet = min(quiet, placed)
	}
	return earliest(d.last.Add(quiet), d.first.Add(longest))
}
