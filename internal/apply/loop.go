package apply

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Loop keeps one stack as its files say. Only Run touches its state; others post and look at the View.
type Loop struct {
	host  *Host
	stack string
	log   *slog.Logger

	view  atomic.Pointer[View]
	since atomic.Int64 // unix nanoseconds of the running pass's last sign of life; 0 when idle

	mu   sync.Mutex
	mail mail
	wake chan struct{}

	// Below: Run's own.
	src       Source
	loaded    string // the Source.Hash that ledger.Project was loaded from
	led       plan.Ledger
	saved     plan.Ledger // what was last written of it
	lost      bool        // the ledger knew nothing of the stack; Incus may
	env       environment
	failures  int
	condition map[string]plan.Condition
	failed    map[string]time.Time // when an instance's last start failed
	backoff   map[plan.ID]bool     // what failed last, and is not tried again before notBefore
	notBefore time.Time
	whole     map[string]bool  // whose root filesystem was whole before the present plan
	repair    bool             // a root filesystem was found lost: its repair does not wait
	unwritten string           // why the ledger is not on disk; empty when it is
	ends      map[string]ends  // what was said of instances that ended
	blind     time.Time        // until when Incus did not answer, or late
	unseen    bool             // it did not answer the last time
	emptied   time.Time        // since when it has had nothing of what was started; zero while it has something
	due       time.Time        // when something has to be looked at because time has passed; zero when nothing has
	counted   time.Time        // when what is parked was last counted; zero before the first time
	leaving   string           // the last plan of a removal
	fresh     *plan.Generation // the generation in force, until all that is kept of it is known
	outcome   string           // what was last noted of it
	turn      View

	// checkAt is when images or sources are to be looked at; zero for never. refresh is somebody's word to ask about
	// newer images.
	checkAt time.Time
	refresh *refresh
	asking  bool // this pass obeys such a word
	// hurry are the services that are not to wait for the window, by somebody's word; "" is all of them.
	hurry map[string]bool
}

// mail is what was posted since the last pass.
type mail struct {
	src      *Source
	removed  bool
	back     bool
	dirty    bool
	stops    map[string]plan.Stop
	retries  []order
	touched  []string
	rollback *order
	orphan   string
	orders   []func(ctx context.Context)
	waiters  []chan<- struct{}
}

// New makes a loop that does nothing until it runs and knows a source, or has one in its ledger.
func New(h *Host, stack string) *Loop {
	l := &Loop{host: h, stack: stack, log: h.Log.With("stack", stack), wake: make(chan struct{}, 1)}
	l.view.Store(&View{Stack: stack, State: Waiting})

	return l
}

// View returns the latest snapshot; it is never nil.
func (l *Loop) View() *View { return l.view.Load() }

// Silent says for how long the pass that is running has made no progress, 0 when none is running.
func (l *Loop) Silent(now time.Time) time.Duration {
	at := l.since.Load()
	if at == 0 {
		return 0
	}

	return now.Sub(time.Unix(0, at))
}

// Changed tells the loop its files; done, when not nil, is closed after the pass that has seen them.
func (l *Loop) Changed(src Source, done chan<- struct{}) {
	l.post(func(m *mail) {
		m.src, m.removed, m.back, m.dirty, m.orphan = &src, false, true, true, ""
		if done != nil {
			m.waiters = append(m.waiters, done)
		}
	})
}

// Gone tells the loop that its file has been removed, for certain; done, when not nil, is closed after the pass that
// has seen it.
func (l *Loop) Gone(done chan<- struct{}) {
	l.post(func(m *mail) {
		m.src, m.removed, m.back, m.dirty = nil, true, false, true
		if done != nil {
			m.waiters = append(m.waiters, done)
		}
	})
}

// Dirty asks for a look.
func (l *Loop) Dirty() { l.post(func(m *mail) { m.dirty = true }) }

// StoppedBy tells that somebody stopped an instance by hand.
func (l *Loop) StoppedBy(instance, user string, at time.Time) {
	l.post(func(m *mail) {
		if m.stops == nil {
			m.stops = map[string]plan.Stop{}
		}

		m.stops[instance] = plan.Stop{By: user, At: at}
		m.touched = slices.DeleteFunc(m.touched, func(name string) bool { return name == instance })
		m.dirty = true
	})
}

func (l *Loop) post(change func(*mail)) {
	l.mu.Lock()
	change(&l.mail)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// urgent reports whether files wait: events are gathered for a moment, a user's word is not.
func (l *Loop) urgent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.mail.src != nil || len(l.mail.orders) > 0
}

func (l *Loop) collect() mail {
	l.mu.Lock()
	defer l.mu.Unlock()

	m := l.mail
	l.mail = mail{}

	return m
}

// Run turns the loop until ctx ends. A call to Incus that is under way then is left to end by itself.
func (l *Loop) Run(ctx context.Context) error {
	led, err := l.host.Ledger.Load(l.stack)
	if err != nil {
		return err
	}

	l.led, l.lost = led, led.Project == nil
	l.condition = map[string]plan.Condition{}
	l.failed = map[string]time.Time{}
	for _, c := range led.Conditions {
		l.condition[c.Type+" "+c.Object] = c
	}

	l.turn = View{Stack: l.stack, State: Waiting, Project: led.Project, Ledger: led}
	l.publish()

	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wake:
			if !l.urgent() {
				wait(ctx, settle)
			}
		case <-timer.C:
		}

		next := l.once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}

		timer.Reset(next)
	}
}

// once makes one pass and says when the next is due.
func (l *Loop) once(ctx context.Context) time.Duration {
	now := time.Now()
	l.since.Store(now.UnixNano())
	defer l.since.Store(0)

	m := l.collect()
	l.take(m, now)
	l.obey(m)
	for _, do := range m.orders {
		do(ctx)
	}

	l.due, l.checkAt = time.Time{}, time.Time{}
	again := l.pass(ctx, now)
	if ctx.Err() == nil {
		l.amend()
	}

	l.turn.Turned = time.Now()
	next := l.delay(again)
	if !l.due.IsZero() {
		next = min(next, max(time.Until(l.due), 10*time.Millisecond))
	}

	if !l.checkAt.IsZero() {
		next = min(next, max(time.Until(l.checkAt), 10*time.Millisecond))
	}

	if l.unwritten != "" {
		next = min(next, unwrittenRetry)
	}

	l.turn.Next = time.Now().Add(next)
	l.publish()
	for _, w := range m.waiters {
		close(w)
	}

	return next
}

// take notes what was posted.
func (l *Loop) take(m mail, now time.Time) {
	if m.src != nil || m.removed || len(m.orders) > 0 {
		l.notBefore, l.failures = time.Time{}, 0 // Somebody asks for it: at once.
	}

	switch {
	case m.src != nil:
		l.src = *m.src
	case m.removed && l.led.RemovedAt.IsZero():
		l.led.RemovedAt = now
		l.log.Info("the stack's file is gone", "grace", l.grace())
	}

	if m.orphan != "" && l.led.Project == nil && l.src.Stack == "" {
		l.led.Project = &plan.Project{Stack: l.stack, Name: m.orphan, Incus: m.orphan}
		l.led.Orphan, l.led.RemovedAt = true, now
		l.turn.Project = l.led.Project
		l.log.Warn("stack found in Incus without a file", "project", m.orphan)
	}

	if m.back && !l.led.RemovedAt.IsZero() {
		l.led.RemovedAt, l.led.Orphan, l.led.Confirmed = time.Time{}, false, nil
		l.log.Info("the stack's file is back")
	}

	for instance, s := range m.stops {
		if l.led.Stops == nil {
			l.led.Stops = map[string]plan.Stop{}
		}

		l.led.Stops[instance] = s
		l.log.Info("instance stopped by hand: left so", "instance", instance, "by", s.By)
	}
}

// again is when a pass wants the next one.
type again int

const (
	later   again = iota // at the next resync
	retry                // something failed that may pass
	soon                 // at once
	resume               // as before: what failed has its time still to come
	waiting              // for the grace of a removal
)

// delay turns a wish into a time: retries double with full jitter, everything else is a resync.
func (l *Loop) delay(a again) time.Duration {
	switch a {
	case retry:
		most := min(firstRetry<<min(l.failures, 10), lastRetry)
		l.failures++
		next := most/4 + rand.N(most*3/4)
		l.notBefore = time.Now().Add(next)

		return next
	case soon:
		return 10 * time.Millisecond
	case resume:
		return max(time.Until(l.notBefore), 10*time.Millisecond)
	case waiting:
		l.failures = 0
		return max(time.Until(l.led.RemovedAt.Add(l.grace())), 10*time.Millisecond)
	case later:
	}

	l.failures, l.notBefore = 0, time.Time{}
	return Resync - Resync/10 + rand.N(Resync/5)
}

func (l *Loop) grace() time.Duration {
	if l.led.Project != nil && l.led.Project.RemoveGrace > 0 {
		return l.led.Project.RemoveGrace
	}

	return DefaultGrace
}

// publish makes the turn's view the one others see.
func (l *Loop) publish() {
	v := l.turn
	v.Owner, v.Ledger = l.host.Owner, l.led.Snapshot()
	v.Ledger.Conditions = append(v.Ledger.Conditions, l.unwrittenCondition()...)
	l.view.Store(&v)
	if l.host.Publish != nil {
		l.host.Publish()
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
