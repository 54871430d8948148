package plan

import (
	"maps"
	"slices"
	"time"
)

// Surplus names the images that nobody needs any more: brought by us, not needed, and untouched for longer than keep.
func Surplus(have map[string]ObservedImage, owner string, needed map[string]bool, keep time.Duration, now time.Time) []string {
	var out []string
	for _, fp := range slices.Sorted(maps.Keys(have)) {
		img := have[fp]
		if owner != "" && img.Owner == owner && !needed[fp] && now.Sub(img.Touched) > keep {
			out = append(out, fp)
		}
	}

	return out
}

// Needs adds the fingerprints of all images that a stack runs, or may go back to.
func (l Ledger) Needs(needed map[string]bool) {
	for _, images := range []map[string]Image{l.Images, l.Earlier} {
		for _, img := range images {
			needed[img.Fingerprint] = true
		}
	}

	for _, v := range l.Good {
		needed[v.Image.Fingerprint] = true
	}
}
