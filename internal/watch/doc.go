// Package watch turns the stack directories into snapshots: which stacks there are, which files each consists
// of, which changed, and which are gone for good.
//
// Notifications are hints. Whatever they say, and also when they say nothing, the truth is a scan: every
// directory listed and every file read through one os.Root, hashed, and compared with what was accepted
// before. Modification times decide nothing. A scan runs 300 ms after the last hint (3 s after the first at
// the latest) and every 60 s.
//
//	notifier ──hint──▶ loop ──request──▶ scan (I/O) ──survey──▶ compare (pure) ──▶ Snapshot
//
// One goroutine, Run, owns all state; compare, resolve and classify decide and do nothing else. The package
// reads files only to hash them: it parses nothing, changes nothing, and never reports a stack as removed
// because something could not be read.
package watch
