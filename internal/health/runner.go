package health

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ID names an instance.
type ID struct{ Project, Name string }

// String is "project/name".
func (id ID) String() string { return id.Project + "/" + id.Name }

// Instance is an instance as Incus shows it.
type Instance struct {
	ID ID
	// State and Started are as in Seen.
	State   State
	Started time.Time
	// Config and Devices are its keys and devices, profiles included.
	Config  map[string]string
	Devices map[string]map[string]string
}

// Hint says that something may have changed.
type Hint struct {
	// All means that anything may have; the rest is empty then.
	All bool
	ID  ID
	// Ended is set by an event of a stop, and By is who asked for it; empty when nobody did.
	Ended bool
	By    string
}

// ErrGone is the kind of error of Instances and Hands for an instance that does not exist. ErrAway is that of an
// Incus that cannot be asked.
var (
	ErrGone = errors.New("the instance does not exist")
	ErrAway = errors.New("the Incus server is away")
)

// Instances is what there is.
type Instances interface {
	// List returns all instances that are ours to judge, and why others with our keys are not, by project.
	List(ctx context.Context) ([]Instance, map[string]string, error)
	Look(ctx context.Context, id ID) (Instance, error)
	// Exit tells how the program of a stopped instance ended.
	Exit(ctx context.Context, id ID) (Exit, error)
}

// Hands act.
type Hands interface {
	// Write sets KeyStatus and KeyDetail.
	Write(ctx context.Context, id ID, status, detail string) error
	Start(ctx context.Context, id ID) error
	// Stop asks the program to end and ends it after grace.
	Stop(ctx context.Context, id ID, grace time.Duration) error
}

// Prober makes probes.
type Prober interface {
	// Probe makes one; what comes with it in clean, if anything, removes what the probe left behind and
	// tells whether it could. When ctx ends the result does not matter, but nothing may remain.
	Probe(ctx context.Context, i Instance, s Spec) (r Result, clean func() bool)
}

// Options make a Runner. Instances, Hands, Prober and Hints must be set.
type Options struct {
	Instances Instances
	Hands     Hands
	Prober    Prober
	// Hints calls on for each hint until ctx ends; a new connection begins with one for all.
	Hints func(ctx context.Context, on func(Hint)) error
	// Self is the user name under which Incus knows us.
	Self string
	// Starved tells whether the host is too busy for timeouts to mean anything; nil means never. It is asked when that
	// matters, from one goroutine.
	Starved func() bool
	// Random returns numbers from 0 to 1, from one goroutine.
	Random func() float64
	// Saved is what an earlier daemon knew; Save keeps it for the next. A nil Save keeps nothing.
	Saved map[ID]Saved
	Save  func(map[ID]Saved) error
	// Changed hears that the Summary may be another than before, and must not wait for anything; nil means nobody.
	Changed func()
	// Log is for transitions; nil means nowhere.
	Log *slog.Logger
	// Workers bounds the probes at once; 0 means 256, of which one project gets half.
	Workers int
}

// The sizes of things.
const (
	defaultWorkers = 256
	maxReads       = 8
	maxRestarts    = 4
	maxWrites      = 8
	// resyncEvery is how often everything is read without a hint.
	resyncEvery = 5 * time.Minute
	// saveAfter is how long changes are gathered before they are kept.
	saveAfter = time.Second
	// beatEvery is how often the loop turns at least, should nothing be due.
	beatEvery = time.Minute
	// budgetEvery is how often a restart that waits for the budget looks whether there is room.
	budgetEvery = 200 * time.Millisecond
	// drainFor is what everything at work has to end in when we stop.
	drainFor = 4 * time.Second
)

// Runner keeps all machines going. Only Run's goroutine touches them; what others do comes back to it through
// one channel.
type Runner struct {
	opt   Options
	log   *slog.Logger
	beat  atomic.Int64 // of the last turn, in nanoseconds since start
	next  atomic.Int64 // when the loop has to turn again; while it is at work, since when it is
	start time.Time

	in        chan func(now time.Time) // what happened, for the loop
	work      sync.WaitGroup           // everything at work
	entries   map[ID]*entry
	times     times
	queue     queue
	reads     pool
	restarts  pool
	writes    pool
	dirty     []ID // to be read, each once
	guard     guard
	listing   bool
	relist    bool
	listed    time.Time // when everything was last read; zero for never
	begun     time.Time // when an instance was last seen to have been started by another; zero for never
	refused   map[string]string
	away      bool
	saveDue   time.Time
	saving    bool
	count     Counters
	held      []waitingRestart
	unwritten map[*entry]bool
	writeNext time.Time
	relistAt  time.Time
	relistTry int
	gone      []Row
	// spawn does work outside of the loop, whose context ends with the loop or by the function returned, and
	// hands over what comes of it. Run sets it.
	spawn func(f func(ctx context.Context) func(now time.Time)) context.CancelFunc
}

// pool bounds how many of something are at work.
type pool struct{ busy, size int }

func (p *pool) full() bool { return p.busy >= p.size }

// entry is one instance.
type entry struct {
	id      ID
	m       *Machine
	inst    Instance
	saved   Saved
	slot    int // in times; -1 for none
	at      time.Time
	pending bool // it is in dirty
	again   bool // it has to be read once more
	reading bool
	read    time.Time // when the last reading began
	lookAt  time.Time // when it is to be read again; zero for never
	unsure  bool      // it was seen stopped, and no event told of it yet
	hint    Hint      // the last that told of an end
	probe   context.CancelFunc
	restart context.CancelFunc
	write   writeState
	tally   tally  // what of it is in the Summary
	wrong   string // what is wrong with its keys
	heldFor string // the dependency that its restart waits for
	why     string // why it is not watched
}

// NewRunner returns a Runner.
func NewRunner(opt Options) *Runner {
	r := &Runner{opt: opt, log: opt.Log, start: time.Now(), in: make(chan func(time.Time), 64), entries: map[ID]*entry{}, unwritten: map[*entry]bool{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}

	workers := opt.Workers
	if workers == 0 {
		workers = defaultWorkers
	}

	r.queue = newQueue(workers)
	r.reads.size, r.restarts.size, r.writes.size = maxReads, maxRestarts, maxWrites

	return r
}

// Run works until ctx ends. It never fails: an Incus that is away is waited for.
func (r *Runner) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r.spawn = func(f func(ctx context.Context) func(now time.Time)) context.CancelFunc {
		one, stop := context.WithCancel(work)
		r.work.Go(func() {
			defer stop()
			done := f(one)
			if done != nil {
				r.post(work, done)
			}
		})

		return stop
	}

	var hints sync.WaitGroup
	hints.Go(func() {
		_ = r.opt.Hints(ctx, func(h Hint) { r.post(ctx, func(now time.Time) { r.hint(h, now) }) })
	})
	defer hints.Wait()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			cancel()
			r.drain()
			return nil
		case f := <-r.in:
			now := time.Now()
			r.next.Store(int64(now.Sub(r.start)))
			f(now)
		case <-timer.C:
		}

		timer.Reset(r.turn(time.Now()))
	}
}

// Resync makes everything be read again.
func (r *Runner) Resync(ctx context.Context) {
	r.post(ctx, func(now time.Time) { r.hint(Hint{All: true}, now) })
}

// post hands something to the loop.
func (r *Runner) post(ctx context.Context, f func(now time.Time)) {
	select {
	case r.in <- f:
	case <-ctx.Done():
	}
}

// drain waits for everything at work, which was told to end, and keeps what is known.
func (r *Runner) drain() {
	ended := make(chan struct{})
	go func() { r.work.Wait(); close(ended) }()
	t := time.NewTimer(drainFor)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		r.log.Warn("something is still at work; it is left behind")
	}

	if r.opt.Save == nil || r.listed.IsZero() {
		return
	}

	err := r.opt.Save(r.allSaved())
	if err != nil {
		r.log.Error("what is known could not be kept", "err", err)
	}
}

// step lets something happen to an instance and does what its machine says.
func (r *Runner) step(e *entry, ev Event, now time.Time) {
	for _, a := range e.m.Step(ev, now) {
		r.act(e, a, now)
	}

	r.rearm(e)
	t := e.m.tally()
	if t != e.tally {
		e.tally = t
		r.changed()
	}

	s := e.m.Saved()
	if s != e.saved {
		e.saved = s
		if r.saveDue.IsZero() {
			r.saveDue = now.Add(saveAfter)
		}
	}
}

// rearm makes an instance wait for what comes first: its machine's time, or the time to read it again.
func (r *Runner) rearm(e *entry) {
	next := e.lookAt
	if e.m != nil {
		due := e.m.Next()
		if next.IsZero() || !due.IsZero() && due.Before(next) {
			next = due
		}
	}

	r.times.set(e, next)
}

// wake does what an instance waited for.
func (r *Runner) wake(e *entry, now time.Time) {
	if !e.lookAt.IsZero() && !now.Before(e.lookAt) {
		e.lookAt = time.Time{}
		r.look(e)
	}

	if e.m == nil {
		r.rearm(e)
		return
	}

	due := e.m.Next()
	if due.IsZero() || now.Before(due) {
		r.rearm(e)
		return
	}

	if !due.Equal(e.m.due) { // a restart; a probe is begun when there is a worker
		r.count.late(now.Sub(due))
	}

	r.step(e, Tick{}, now)
}

func (r *Runner) act(e *entry, a Action, now time.Time) {
	switch a := a.(type) {
	case RunProbe:
		r.queue.add(e, a)
	case CancelProbe:
		r.cancelProbe(e)
	case SetStatus:
		r.log.Info("status", "project", e.id.Project, "instance", e.id.Name, "from", string(a.From), "to", string(a.Status), "reason", a.Reason)
		r.count.status(a)
		r.guard.status(e.id, a, now)
		e.write.want(a, now)
		r.unwritten[e] = true
		r.writeNext = time.Time{}
	case Restart:
		r.beginRestart(e, a, now)
	case CancelRestart:
		if e.restart != nil {
			e.restart()
		}
	case StopIt:
		r.stopIt(e, a)
	case Note:
		say := r.log.Info
		if a.Warn {
			say = r.log.Warn
		}

		say("note", "project", e.id.Project, "instance", e.id.Name, "text", a.Text)
	}
}
