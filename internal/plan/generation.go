package plan

import "time"

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
