package watch

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Run watches until ctx ends, and then returns nil. It calls out after the first scan and after every scan
// that found something new; out must return soon, as nothing is noticed meanwhile.
func (w *Watcher) Run(ctx context.Context, out func(Snapshot)) error {
	l := &loop{
		w: w, out: out, state: begin(w.o.Dirs, w.o.Known), refs: map[string][]string{},
		surveys: make(chan survey, 1), wrote: map[string]bool{}, asked: time.Now(),
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.end()
	for {
		now := time.Now()
		w.beat.Store(&now)
		l.turn(now)
		timer.Reset(l.wake(now).Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case h, ok := <-l.hints:
			l.hint(h, ok, time.Now())
		case a := <-w.asks:
			l.ask(a, time.Now())
		case <-w.woken:
			l.refer(time.Now())
		case s := <-l.surveys:
			l.take(s, time.Now())
		case <-timer.C:
		}
	}
}

// loop is the state of Run, touched by nothing else.
type loop struct {
	w     *Watcher
	out   func(Snapshot)
	state state
	last  Snapshot
	first bool // whether out has been called
	refs  map[string][]string

	notifier Notifier
	hints    <-chan Hint // nil while there is no notifier
	deaf     bool        // not everything is notified about
	remote   bool
	retry    time.Time // when to try for notifications again; zero when all is well
	told     bool      // the scan under way tells the notifier what to watch

	quiet debounce
	wrote map[string]bool // written in place since the last scan began
	lost  bool            // hints were lost
	asked time.Time       // when a scan somebody waits for is due; zero when nobody does
	soon  time.Time       // when another scan is due; zero for none
	next  time.Time       // when the regular scan is due

	scanning time.Time // when the scan under way began; zero when there is none
	late     bool      // it takes too long, which was reported
	belief   belief    // in the scan under way
	waiting  []ask     // for the next scan
	served   []ask     // by the scan under way
	surveys  chan survey
}

// earliest returns the earliest of the times that are set.
func earliest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if !t.IsZero() && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	return out
}

// due returns when the next scan is to begin. While hints come in, what is not asked for waits for quiet.
func (l *loop) due() time.Time {
	hinted := l.quiet.due(l.w.o.Quiet, l.w.o.Cap)
	if !hinted.IsZero() {
		return earliest(hinted, l.asked)
	}
	return earliest(l.asked, l.soon, l.state.due(), l.next)
}

// wake returns when the loop has to turn next without being told.
func (l *loop) wake(now time.Time) time.Time {
	beat := now.Add(beatEvery)
	switch {
	case l.scanning.IsZero():
		return earliest(beat, l.due())
	case l.late:
		return beat
	}
	return earliest(beat, l.scanning.Add(scanLimit))
}

// turn starts a scan when one is due, and complains about one that hangs.
func (l *loop) turn(now time.Time) {
	if !l.scanning.IsZero() {
		if !l.late && now.Sub(l.scanning) >= scanLimit {
			l.late = true
			l.publish(l.hanging(), belief{}, now)
		}
		return
	}
	if now.Before(l.due()) {
		return
	}
	l.listen(now)
	l.start(now)
}

// start begins a scan in the background, as a file system may hang.
func (l *loop) start(now time.Time) {
	asked := !l.asked.IsZero() && !now.Before(l.asked)
	l.belief = belief{trusted: asked, wary: l.quiet.first.IsZero() || l.lost, wrote: l.wrote}
	l.served, l.waiting = append(l.served, l.waiting...), nil
	l.quiet, l.wrote, l.lost, l.asked, l.soon = l.quiet.taken(), map[string]bool{}, false, time.Time{}, time.Time{}
	l.scanning, l.late = now, false
	known := map[string]bool{}
	for name := range l.state.stacks {
		known[name] = true
	}
	r := request{dirs: l.w.o.Dirs, refs: maps.Clone(l.refs), known: known, notifier: l.notifier}
	if l.deaf && now.Before(l.retry) {
		r.notifier = nil
	}
	l.told = r.notifier != nil
	go func() { l.surveys <- l.w.scan(r) }()
}

// take acts upon a finished scan.
func (l *loop) take(s survey, now time.Time) {
	l.scanning = time.Time{}
	l.hear(s, now)
	b := l.belief
	b.wrote = maps.Clone(b.wrote)
	maps.Copy(b.wrote, l.wrote)
	snap := l.publish(s, b, now)
	if s.added {
		l.soon = now.Add(settle)
	}
	l.next = now.Add(jitter(l.interval(), rand.Float64()))
	l.answer(snap, now)
}

// publish compares and tells when there is something to tell.
func (l *loop) publish(s survey, b belief, now time.Time) Snapshot {
	var snap Snapshot
	l.state, snap = compare(l.state, s, b, now)
	for _, name := range snap.Removed {
		delete(l.refs, name)
	}
	if !l.first || differs(l.last, snap) {
		l.first = true
		l.out(snap)
	}
	l.last = snap
	return snap
}

// differs tells whether a snapshot says something the one before did not.
func differs(last, snap Snapshot) bool {
	return len(snap.Changed) > 0 || len(snap.Removed) > 0 || snap.Complete != last.Complete ||
		!slices.Equal(snap.Held, last.Held) || !slices.Equal(snap.Problems, last.Problems)
}

// hanging is the survey of a scan that does not come back.
func (l *loop) hanging() survey {
	s := survey{at: l.scanning}
	for _, dir := range l.w.o.Dirs {
		s.layers = append(s.layers, layer{dir: dir, err: &Problem{Path: dir, Condition: SourceUnavailable, Text: fmt.Sprintf(
			"or another stack directory has not answered for %d s: everything keeps running as it is; look for a dead network or FUSE mount",
			int(scanLimit.Seconds()))}})
	}
	return s
}

// answer serves those who asked for the scan, or puts them off while files change.
func (l *loop) answer(snap Snapshot, now time.Time) {
	for _, a := range l.served {
		if len(l.state.doubts) > 0 && a.tries < 3 {
			a.tries++
			l.waiting = append(l.waiting, a)
			l.asked = now.Add(settle)
			continue
		}
		a.reply <- answer{snap: snap}
	}
	l.served = nil
}

// interval is the time between regular scans.
func (l *loop) interval() time.Duration {
	if l.deaf || l.remote {
		return min(pollEvery, l.w.o.Rescan)
	}
	return l.w.o.Rescan
}

// jitter spreads d by ± 10 %, for r from 0 to 1.
func jitter(d time.Duration, r float64) time.Duration {
	return d + time.Duration((r-0.5)*0.2*float64(d))
}

// hint takes a hint; ok is false when the source has ended.
func (l *loop) hint(h Hint, ok bool, now time.Time) {
	if !ok {
		l.drop("the notifications ended", now)
		h = Hint{}
	}
	if h.Path != "" && !relevant(h.Path, l.w.o.Dirs, l.refs) {
		return
	}
	l.lost = l.lost || h.Path == ""
	if h.Wrote {
		l.wrote[h.Path] = true
	}
	l.quiet = l.quiet.with(h, l.w.o.Quiet, now)
}

// ask takes a request for a scan.
func (l *loop) ask(a ask, now time.Time) {
	if a.confirm {
		next, unheld := l.state.confirm(a.names)
		if len(unheld) > 0 {
			a.reply <- answer{err: fmt.Errorf("no removal is held of: %s", show(strings.Join(unheld, ", ")))}
			return
		}
		l.state = next
	}
	l.waiting = append(l.waiting, a)
	l.asked = now
}

// refer takes what Refer was told.
func (l *loop) refer(now time.Time) {
	l.w.mu.Lock()
	news := l.w.inbox
	l.w.inbox = map[string][]string{}
	l.w.mu.Unlock()
	for stack, files := range news {
		if !slices.Equal(l.refs[stack], files) {
			l.refs[stack] = files
			l.soon = now
		}
	}
}

// listen opens the notifier when there is none and it is time to try.
func (l *loop) listen(now time.Time) {
	if l.notifier != nil || now.Before(l.retry) {
		return
	}
	n, err := l.w.o.Notify()
	if err != nil {
		l.degrade(err.Error(), now)
		return
	}
	l.notifier, l.hints = n, n.Hints()
}

// hear takes what a scan learnt about notifications.
func (l *loop) hear(s survey, now time.Time) {
	l.remote = slices.ContainsFunc(s.layers, func(y layer) bool { return y.remote })
	switch {
	case s.notifyErr != nil:
		l.degrade(s.notifyErr.Error(), now)
	case l.deaf && l.told && l.notifier != nil:
		l.deaf, l.retry = false, time.Time{}
		l.w.o.Log.Info("notifications work again")
	}
}

// degrade turns to polling, with one warning for the whole time it lasts.
func (l *loop) degrade(why string, now time.Time) {
	if !l.deaf {
		l.w.o.Log.Warn("no notifications of changed files: looking every 15 s instead", "why", why,
			"do", "raise fs.inotify.max_user_watches and max_user_instances when they are exhausted")
	}
	l.deaf, l.retry = true, now.Add(retryNotify)
	l.next = earliest(l.next, now.Add(pollEvery))
}

// drop lets go of a notifier that has ended.
func (l *loop) drop(why string, now time.Time) {
	l.notifier.Close()
	l.notifier, l.hints = nil, nil
	l.degrade(why, now)
}

// end waits a moment for the scan under way, so that nothing is left behind unless a file system hangs, and
// closes the notifier.
func (l *loop) end() {
	if !l.scanning.IsZero() {
		select {
		case <-l.surveys:
		case <-time.After(time.Second):
		}
	}
	if l.notifier != nil {
		l.notifier.Close()
	}
}
