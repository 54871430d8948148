package watch

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// state is what the loop knows between scans. compare makes a new one of it; the maps are never shared.
type state struct {
	dirs   map[string]dirState
	stacks map[string]known
	doubts map[string]doubt
}

// known is a stack that was reported, or that ran before this process began.
type known struct {
	stack Stack
	// reported is false while only Options.Known has told of it.
	reported bool
	layer    string // the directory it was last seen in
	// own, refs, refSum and at are those of the accepted scan; see found.
	own, refs, refSum string
	at                time.Time
	notes             []Problem
	// gone is when it was first seen to be absent; zero while it is there or cannot be seen.
	gone time.Time
	// masked says that it is absent because it is masked, which nobody does by accident.
	masked bool
	// held is the condition that keeps it although it is not seen; empty means none.
	held string
	// confirmed says that the user wants it removed if it is still absent.
	confirmed bool
}

// doubt is a change that was seen once and is not yet believed.
type doubt struct {
	seen string // a digest of it; empty when reading was not possible
	// first is when the stack came into doubt, since when it took this form, last when it was last read.
	first, since, last time.Time
	tries              int
}

// belief says how far a scan can be believed.
type belief struct {
	trusted bool            // the user says that the files are complete, or nothing runs yet
	wary    bool            // no hint told of the changes, so they may be under way
	wrote   map[string]bool // files that were just written in place
}

// begin returns the state before the first scan.
func begin(dirs []string, running map[string]string) state {
	s := state{dirs: map[string]dirState{}, stacks: map[string]known{}, doubts: map[string]doubt{}}
	for name, file := range running {
		k := known{stack: Stack{Name: name, Dir: filepath.Dir(file), Files: []string{file}}}
		for _, dir := range dirs {
			if strings.HasPrefix(file, dir+"/") {
				k.layer = dir
			}
		}
		s.stacks[name] = k
	}
	return s
}

// compare decides what a scan means.
func compare(prev state, s survey, b belief, now time.Time) (state, Snapshot) {
	c := &comparison{
		next: state{dirs: map[string]dirState{}, stacks: maps.Clone(prev.stacks), doubts: map[string]doubt{}},
		prev: prev, survey: s, belief: b, now: now,
		snap: Snapshot{Stacks: map[string]Stack{}, Complete: true, Problems: slices.Clone(s.problems)},
	}
	layers := c.judge()
	names := maps.Clone(prev.stacks)
	for _, l := range layers {
		for name := range l.found {
			names[name] = prev.stacks[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		k, ok := prev.stacks[name]
		c.stack(name, k, ok, resolve(name, k.layer, ok, layers))
	}
	c.remove()
	c.report()
	return c.next, c.snap
}

// comparison collects the outcome of compare.
type comparison struct {
	survey
	belief
	prev, next state
	now        time.Time
	snap       Snapshot
}

func (c *comparison) judge() []judged {
	var out []judged
	for _, l := range c.layers {
		var stacks []string
		for name, k := range c.prev.stacks {
			if k.layer == l.dir && !k.confirmed {
				stacks = append(stacks, name)
			}
		}
		next, partial, why := judge(c.prev.dirs[l.dir], l, stacks)
		c.next.dirs[l.dir] = next
		out = append(out, judged{layer: l, partial: partial})
		c.snap.Complete = c.snap.Complete && !partial
		c.snap.Problems = append(c.snap.Problems, l.problems...)
		if why != nil {
			c.snap.Problems = append(c.snap.Problems, *why)
		}
	}
	return out
}

// stack takes what was seen of one stack into the next state.
func (c *comparison) stack(name string, k known, ok bool, s sighting) {
	switch s.verdict {
	case there:
		c.present(name, k, ok, s)
	case kept:
		k.gone, k.masked, k.held = time.Time{}, false, SourceUnavailable
		if s.skip || s.hold {
			k.held = ""
			c.mark(name, &k, s)
		}
		c.next.stacks[name] = k
	case absent, masked:
		k.masked = s.verdict == masked
		if k.gone.IsZero() {
			k.gone = c.now
		}
		if k.held == SourceUnavailable {
			k.held = ""
		}
		c.next.stacks[name] = k
	}
}

// mark puts the markers on a stack whose files are gone.
func (c *comparison) mark(name string, k *known, s sighting) {
	if k.reported && (k.stack.Skip != s.skip || k.stack.Hold != s.hold) {
		k.stack.Skip, k.stack.Hold = s.skip, s.hold
		c.snap.Changed = append(c.snap.Changed, name)
	}
}

// present takes a stack that is there, changed or not.
func (c *comparison) present(name string, k known, ok bool, s sighting) {
	f := s.found
	f.stack.Hold = s.hold
	if s.skip {
		f.stack.Skip, f.stack.Err, f.stack.Hash, f.unstable, f.refs, f.refSum = true, nil, "", false, "", ""
	}
	k.gone, k.masked, k.held, k.confirmed = time.Time{}, false, "", false
	same := k.reported && f.same(k)
	if !same && !c.believe(name, k, f) {
		if ok {
			c.next.stacks[name] = k
		}
		return
	}
	if !same {
		c.snap.Changed = append(c.snap.Changed, name)
		k.at = c.at
	}
	k.stack, k.layer, k.own, k.refs, k.refSum, k.notes, k.reported = f.stack, s.layer, f.own, f.refs, f.refSum, f.notes, true
	c.next.stacks[name] = k
}

// same tells whether what was found is what was accepted. A file that is newly referred to is no change when
// it is older than the scan the loader acted upon: what it read is what is hashed now.
func (f found) same(k known) bool {
	if f.unstable || f.stack.Skip != k.stack.Skip || f.stack.Hold != k.stack.Hold || problem(f.stack.Err) != problem(k.stack.Err) {
		return false
	}
	if f.stack.Skip {
		return f.stack.Dir == k.stack.Dir
	}
	if f.own != k.own {
		return false
	}
	if f.refs != k.refs {
		return f.refTime.Before(k.at.Add(-time.Second))
	}
	return f.refSum == k.refSum
}

func problem(p *Problem) Problem {
	if p == nil {
		return Problem{}
	}
	return *p
}

// believe tells whether a change is accepted now, and remembers it when it is not. In doubt are files written
// in place or empty, which may not be complete, and stacks of which a file is missing, which may be on its way back:
// they are accepted when two readings, 200 ms apart, agree.
func (c *comparison) believe(name string, k known, f found) bool {
	seen := f.own + f.refSum + problem(f.stack.Err).Text
	if f.unstable {
		seen = ""
	}
	d, was := c.prev.doubts[name]
	agrees := was && d.seen == seen && seen != ""
	switch {
	case f.unstable:
	case c.trusted, agrees && c.now.Sub(d.since) >= settle, !agrees && !c.doubtful(k, f):
		return true
	}
	if !was {
		d.first = c.now
	}
	if !agrees {
		d.since = c.now
	}
	d.seen, d.last = seen, c.now
	d.tries++
	c.next.doubts[name] = d
	if c.now.Sub(d.first) >= removeAfter {
		c.snap.Problems = append(c.snap.Problems, Problem{
			Path: f.stack.Dir, Stack: name, Condition: Unstable,
			Text: "has a file of the stack " + name + " that is being written all the time: what runs is kept until it has been still for a moment",
		})
	}
	return false
}

func (c *comparison) doubtful(k known, f found) bool {
	wrote := func(path string) bool { return c.wrote[path] }
	lost := func(path string) bool {
		return !slices.Contains(f.stack.Files, path) && !slices.Contains(f.stack.Env, path)
	}
	switch {
	case f.empty: // just made, most likely, and about to be written
		return true
	case c.wary, slices.ContainsFunc(f.stack.Files, wrote), slices.ContainsFunc(f.stack.Env, wrote):
		return true
	case f.refs != "" && slices.ContainsFunc(strings.Split(f.refs, "\x00"), wrote):
		return true
	}
	return k.reported && !f.stack.Skip && (slices.ContainsFunc(k.stack.Files, lost) || slices.ContainsFunc(k.stack.Env, lost))
}

// remove decides about the stacks that are gone. When the first of them would be removed, all that are gone by
// then are taken as one step.
func (c *comparison) remove() {
	seen := 0
	var gone, ripe []string
	for name, k := range c.next.stacks {
		switch {
		case k.confirmed && (!k.gone.IsZero() || k.held != ""):
			c.drop(name)
		case k.held != "":
		case k.gone.IsZero():
			seen++
		case k.masked && c.now.Sub(k.gone) >= removeAfter:
			c.drop(name)
		case k.masked:
			seen++
		default:
			gone = append(gone, name)
			if c.now.Sub(k.gone) >= removeAfter {
				ripe = append(ripe, name)
			}
		}
	}
	hold := tooMany(len(gone), len(gone)+seen)
	if len(ripe) == 0 {
		return
	}
	for _, name := range gone {
		k := c.next.stacks[name]
		if hold {
			k.held = RemovalHeld
			c.next.stacks[name] = k
		} else if slices.Contains(ripe, name) {
			c.drop(name)
		}
	}
}

func (c *comparison) drop(name string) {
	delete(c.next.stacks, name)
	c.snap.Removed = append(c.snap.Removed, name)
}

// report completes the snapshot from the next state.
func (c *comparison) report() {
	byLayer := map[string][]string{}
	for name, k := range c.next.stacks {
		if k.reported {
			c.snap.Stacks[name] = k.stack
		}
		if k.held != "" {
			c.snap.Held = append(c.snap.Held, name)
		}
		if k.held == RemovalHeld {
			byLayer[k.layer] = append(byLayer[k.layer], name)
		}
		c.snap.Problems = append(c.snap.Problems, k.notes...)
	}
	for dir, names := range byLayer {
		c.snap.Problems = append(c.snap.Problems, Problem{Path: dir, Condition: RemovalHeld, Text: "has lost " + list(names) + " at once; " +
			keeps(names) + ": bring the files back, or let them stop with: ic-agent confirm-removal"})
	}
	slices.SortFunc(c.snap.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Condition, b.Condition), cmp.Compare(a.Text, b.Text))
	})
	slices.Sort(c.snap.Changed)
	slices.Sort(c.snap.Removed)
	slices.Sort(c.snap.Held)
}

// confirm marks held stacks for removal; it returns those of the names that are not held.
func (s state) confirm(names []string) (next state, unheld []string) {
	next = state{dirs: s.dirs, stacks: maps.Clone(s.stacks), doubts: s.doubts}
	for name, k := range s.stacks {
		if k.held != "" && (len(names) == 0 || slices.Contains(names, name)) {
			k.confirmed = true
			next.stacks[name] = k
		}
	}
	for _, name := range names {
		if s.stacks[name].held == "" {
			unheld = append(unheld, name)
		}
	}
	return next, unheld
}

// due returns when the next scan is needed to decide something; zero when nothing is open.
func (s state) due() time.Time {
	var out time.Time
	sooner := func(t time.Time) {
		if out.IsZero() || t.Before(out) {
			out = t
		}
	}
	for _, d := range s.doubts {
		wait := settle
		if d.tries > 3 {
			wait = settleLong
		}
		sooner(d.last.Add(wait))
	}
	for _, k := range s.stacks {
		if !k.gone.IsZero() && k.held == "" {
			sooner(k.gone.Add(removeAfter))
		}
	}
	return out
}
