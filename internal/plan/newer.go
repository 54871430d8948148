package plan

import "time"

// Update is what is known of a newer image behind a reference.
type Update struct {
	// Digest is that of the newer image, Seen when it was first seen; empty and zero when there is none.
	Digest string
	Seen   time.Time
	// Checked is when the registry last answered, Next when it is asked again; zero for never.
	Checked, Next time.Time
	// Failures counts the questions since then that had no answer, Error is the last one's.
	Failures int
	Error    string
}
