package watch

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stack is one entry of the directories: the files it consists of and their combined hash. Slices are shared
// between snapshots and must not be changed.
type Stack struct {
	// Name is the entry's name without its ending: "blog" for blog.yaml and for blog/compose.yaml.
	Name string
	// Dir is the directory that relative paths in the files start from: that of the main file.
	Dir string
	// Files are absolute paths, the main file first, then the overrides in the order they are merged.
	Files []string
	// Env are the absolute paths of the .env files that exist; a later one overrides an earlier one.
	Env []string
	// Hash is the hex sha256 over the names and contents of Files, Env and the files told to Refer; empty
	// when Skip or Err is set.
	Hash string
	// Hold says that NAME.hold is beside it: change nothing about what runs.
	Hold bool
	// Skip says that NAME.skip is beside it: act as if the stack were not there, without stopping what runs.
	Skip bool
	// Err says why the files are refused; what runs is kept. Nil means that they can be loaded.
	Err *Problem
}

// The conditions of a Problem.
const (
	// SourceUnavailable: a directory is missing, unreadable, replaced or hangs. Nothing of it is removed.
	SourceUnavailable = "SourceUnavailable"
	// RemovalHeld: too many stacks vanished at once. They run on until ConfirmRemoval or their return.
	RemovalHeld = "RemovalHeld"
	// Conflict: two entries of one directory claim the same stack; one of them is not used.
	Conflict = "Conflict"
	// InvalidName: a file's name cannot be that of a stack.
	InvalidName = "InvalidName"
	// Untrusted: somebody else could write the file or directory.
	Untrusted = "Untrusted"
	// Refused: the file is not a regular file, too large, empty, unreadable, or a link to the outside.
	Refused = "Refused"
	// Orphan: an override without the file it overrides.
	Orphan = "Orphan"
	// Unstable: a file has been changing for longer than 10 s, so it is not read.
	Unstable = "Unstable"
	// HardLinked: a file has a second name, through which it changes without a notification.
	HardLinked = "HardLinked"
	// TooMany: more stacks than are looked at.
	TooMany = "TooMany"
)

// Problem is something wrong in the directories, in words for a user.
type Problem struct {
	// Path is the absolute path of the file or directory, as it is: String escapes it.
	Path string
	// Stack is the stack concerned; empty when it is not about one.
	Stack string
	// Condition is one of the constants above.
	Condition string
	// Text says what is wrong and what to do, without the path in front.
	Text string
}

// String returns "path: text", fit for a terminal and a log: a path with unprintable characters is quoted.
func (p Problem) String() string { return show(p.Path) + ": " + p.Text }

// Error is String: a Problem is an error where one is wanted.
func (p Problem) Error() string { return p.String() }

// Snapshot is what the directories say at one moment.
type Snapshot struct {
	// Stacks holds every stack found, also those whose files are refused, and those that are gone but not
	// yet Removed or are Held, as they were last.
	Stacks map[string]Stack
	// Changed names the stacks that are new or differ from the last snapshot, sorted.
	Changed []string
	// Removed names the stacks whose removal is certain, sorted: absent in two scans at least 10 s apart in
	// healthy directories, or confirmed. Each is named once.
	Removed []string
	// Held names the stacks that are not seen and yet not removed, sorted; Problems says why.
	Held []string
	// Problems are those of directories and files, sorted; a stack's own refusal is in its Err.
	Problems []Problem
	// Complete says that every directory could be read or is rightly absent. While it is false nothing may
	// be concluded from what is missing.
	Complete bool
}

// Hint says that something may have changed.
type Hint struct {
	// Path is what the hint is about; empty when hints were lost.
	Path string
	// Placed says that the name is new, or is another file's now: made, or renamed into place.
	Placed bool
	// Wrote says that an existing file's content was changed in place, perhaps not yet completely.
	Wrote bool
}

// Notifier is a source of hints. The watcher calls Watch from one goroutine at a time, Close once.
type Notifier interface {
	// Watch makes dirs the directories watched, following any that was replaced, and tells whether it had to
	// add one: what happened there before was not noticed. Directories that cannot be opened are left out;
	// an error means that others are unwatched too and must be polled.
	Watch(dirs []string) (added bool, err error)
	// Hints delivers the hints; it is closed when the source has ended.
	Hints() <-chan Hint
	// Close ends the source and everything it started.
	Close() error
}

// Options configure a Watcher. Only Dirs is needed.
type Options struct {
	// Dirs are the directories by precedence: an entry hides the same-named ones of later directories.
	// They need not exist.
	Dirs []string
	// Known are the stacks that run already, by name, with the main file each came from: they are reported
	// as Removed when they are certainly gone. Nil means none.
	Known map[string]string
	// Notify opens the source of hints; nil means Inotify.
	Notify func() (Notifier, error)
	// Rescan is the time between scans without a hint, ± 10 %; 0 means 60 s.
	Rescan time.Duration
	// Quiet is how long no hint may come before a scan; 0 means 300 ms. A single file that is put in place out of
	// a quiet is looked at after 50 ms.
	Quiet time.Duration
	// Cap is the longest a hint waits for quiet; 0 means 3 s.
	Cap time.Duration
	// Log hears about the loss and return of notifications; nil means silence.
	Log *slog.Logger
}

// Times and sizes that are not options.
const (
	settle      = 200 * time.Millisecond // between two readings of a file in doubt
	settleLong  = time.Second            // the same after three readings in vain
	removeAfter = 10 * time.Second       // between the two scans that make a removal certain
	pollEvery   = 15 * time.Second       // the rescan where no hints come from
	retryNotify = 5 * time.Minute        // between attempts to get notifications back
	scanLimit   = 30 * time.Second       // after which a directory counts as hanging
	beatEvery   = 10 * time.Second       // the loop turns at least this often
	maxFile     = 1 << 20                // bytes of a compose or .env file
	maxStacks   = 1000
)

// Watcher watches the directories. Its methods may be called from any goroutine, except Rescan and
// ConfirmRemoval from within Run's out.
type Watcher struct {
	o     Options
	scan  func(request) survey
	asks  chan ask
	woken chan struct{}
	beat  atomic.Pointer[time.Time]

	mu    sync.Mutex
	inbox map[string][]string // what Refer was told and the loop has not yet taken
}

// New returns a Watcher that does nothing until Run.
func New(o Options) *Watcher {
	o.Dirs = slices.Clone(o.Dirs)
	for i, dir := range o.Dirs {
		o.Dirs[i] = filepath.Clean(dir)
	}
	o.Known = maps.Clone(o.Known)
	if o.Notify == nil {
		o.Notify = Inotify
	}
	if o.Rescan == 0 {
		o.Rescan = time.Minute
	}
	if o.Quiet == 0 {
		o.Quiet = 300 * time.Millisecond
	}
	if o.Cap == 0 {
		o.Cap = 3 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watcher{
		o: o, scan: scan, asks: make(chan ask), woken: make(chan struct{}, 1), inbox: map[string][]string{},
	}
	now := time.Now()
	w.beat.Store(&now)
	return w
}

// ask is a request to the loop for a scan that starts after it was made.
type ask struct {
	confirm bool     // release held removals first
	names   []string // of these stacks; none means all
	tries   int      // how often the answer was put off
	reply   chan answer
}

type answer struct {
	snap Snapshot
	err  error
}

// Rescan scans now and returns what was found; Run's out has seen it when it differs from the last. Files are
// taken as they are, without the wait for a second look, except one that changes while it is read: then the
// scan is repeated, up to three times. It needs Run to be running, and returns ctx's error when ctx ends.
func (w *Watcher) Rescan(ctx context.Context) (Snapshot, error) {
	snap, err := w.ask(ctx, ask{})
	if err != nil {
		return Snapshot{}, fmt.Errorf("rescan: %w", err)
	}
	return snap, nil
}

// ConfirmRemoval lets the named stacks be removed although they are Held; no names means all of them. It
// returns those that were removed: files that came back are not. A name that is not held is an error, and
// then nothing is released.
func (w *Watcher) ConfirmRemoval(ctx context.Context, names ...string) ([]string, error) {
	snap, err := w.ask(ctx, ask{confirm: true, names: names})
	if err != nil {
		return nil, fmt.Errorf("confirm removal: %w", err)
	}
	return snap.Removed, nil
}

func (w *Watcher) ask(ctx context.Context, a ask) (Snapshot, error) {
	a.reply = make(chan answer, 1)
	select {
	case w.asks <- a:
	case <-ctx.Done():
		return Snapshot{}, context.Cause(ctx)
	}
	select {
	case r := <-a.reply:
		return r.snap, r.err
	case <-ctx.Done():
		return Snapshot{}, context.Cause(ctx)
	}
}

// Refer tells which files, by absolute path, the loaded stack refers to; they belong to its hash and are
// watched from now on, whether they exist or not. The list replaces the one before. It does not block.
func (w *Watcher) Refer(stack string, files []string) {
	clean := make([]string, 0, len(files))
	for _, f := range files {
		clean = append(clean, filepath.Clean(f))
	}
	slices.Sort(clean)
	w.mu.Lock()
	w.inbox[stack] = slices.Compact(clean)
	w.mu.Unlock()
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

// Beat returns when the loop last turned, for a watchdog: it is never older than 10 s while the loop lives,
// even when a directory hangs.
func (w *Watcher) Beat() time.Time { return *w.beat.Load() }
