package plan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Generation is one version of a stack that was accepted, with all that is needed to look at it, compare it, and go
// back to it.
type Generation struct {
	// Number counts from 1.
	Number uint64
	At     time.Time
	// Hash is the Project's.
	Hash string
	// Who is the user behind it, and Why what happened: "the file changed", "rollback to generation 3".
	Who, Why string
	// Plan is the first plan made for it; empty when nothing had to be done.
	Plan string
	// Outcome says what became of it, OutcomeAt since when; empty while it is being applied.
	Outcome   string
	OutcomeAt time.Time
	// Evidence is what failed instances last wrote, and what their probes said.
	Evidence string
	// Digests are the images' by reference as written.
	Digests map[string]string

	// Files are the files the project was read from, in the project's order.
	Files []KeptFile
	// Project is what they say, without secrets; Images what the registries said. Both are zero in a list.
	Project *Project
	Images  map[string]Image
}

// KeptFile is a file as it was.
type KeptFile struct {
	Path string
	// Content is nil in a list, and where Omitted says why it was not kept.
	Content []byte
	Omitted string
}

// Listing writes it down, a line for each key, sorted: two of them can be compared line by line.
func (d Desired) Listing() string {
	var b strings.Builder
	table := func(object string, config map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(config)) {
			if !strings.HasPrefix(k, ownPrefix) || k == KeyImage {
				fmt.Fprintf(&b, "%s %s: %s\n", object, k, strings.ReplaceAll(config[k], "\n", "\\n"))
			}
		}
	}
	table("project/"+d.Incus, d.Config)
	for _, n := range d.Networks {
		table("network/"+n.Name, n.Config)
	}

	for _, v := range d.Volumes {
		table("volume/"+v.Name, v.Config)
	}

	for _, w := range d.Instances {
		table("instance/"+w.Name, w.Config)
		for _, n := range slices.Sorted(maps.Keys(w.Devices)) {
			table("instance/"+w.Name+" device "+n, w.Devices[n])
		}

		for _, f := range slices.Concat(w.Files, w.Placed) {
			sum := sha256.Sum256(f.Content)
			word := fmt.Sprintf("sha256 %x", sum[:8])
			if f.Confidential {
				word = fmt.Sprintf("secret %.16s", f.Seal)
			}

			fmt.Fprintf(&b, "instance/%s file %s: %o %d:%d %s\n", w.Name, f.Target, f.Mode, f.UID, f.GID, word)
		}
	}

	for _, bl := range d.Blocked {
		fmt.Fprintf(&b, "%s %s: %s\n", "blocked", bl.On, bl.Reason)
	}

	return b.String()
}
