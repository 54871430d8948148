package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// seenAs builds a found stack whose digest is its content.
func seenAs(name, content string) found {
	return found{own: content, stack: Stack{Name: name, Dir: "/d", Files: []string{"/d/" + name + ".yaml"}, Hash: content}}
}

// layerOf builds a healthy layer of "name=content" items; "name=/dev/null" masks, "name.skip" marks.
func layerOf(dir string, ino uint64, items ...string) layer {
	l := layer{
		dir: dir, id: identity{dev: 1, ino: ino}, found: map[string]found{}, masked: map[string]bool{},
		skip: map[string]bool{}, hold: map[string]bool{},
	}
	for _, item := range items {
		name, content, _ := strings.Cut(item, "=")
		stem, skips := strings.CutSuffix(name, ".skip")
		bare, holds := strings.CutSuffix(name, ".hold")
		switch {
		case skips:
			l.skip[stem] = true
		case holds:
			l.hold[bare] = true
		case content == "/dev/null":
			l.masked[name] = true
		default:
			f := seenAs(name, content)
			f.stack.Dir = dir
			l.found[name] = f
		}
	}
	return l
}

func gone(dir string) layer { return layer{dir: dir, absent: true} }
func broken(dir string) layer {
	return layer{dir: dir, err: &Problem{Path: dir, Condition: SourceUnavailable, Text: "input/output error"}}
}

// on moves a layer to another device.
func (l layer) on(dev uint64) layer { l.id.dev = dev; return l }

// play runs scans of one or two directories, 11 s apart, and returns a line for each.
func play(running map[string]string, scans ...[]layer) []string {
	st := begin([]string{"/etc", "/usr"}, running)
	now := time.Unix(1e9, 0)
	var out []string
	for _, layers := range scans {
		var snap Snapshot
		st, snap = compare(st, survey{at: now, layers: layers}, belief{}, now)
		out = append(out, sketch(snap))
		now = now.Add(11 * time.Second)
	}
	return out
}

func TestWhatScansMean(t *testing.T) {
	etc := func(items ...string) layer { return layerOf("/etc", 1, items...) }
	usr := func(items ...string) layer { return layerOf("/usr", 2, items...) }
	other := func(items ...string) layer { return layerOf("/etc", 9, items...) }
	one := func(layers ...layer) (out [][]layer) {
		for _, l := range layers {
			out = append(out, []layer{l})
		}
		return out
	}
	for _, tc := range []struct {
		name    string
		running map[string]string
		scans   [][]layer
		want    []string
	}{
		{"a change", nil, one(etc("a=1", "b=1"), etc("a=2", "b=1"), etc("a=2", "b=1")), []string{"+a +b", "+a", ""}},
		{"W17 a removal takes two scans", nil, one(etc("a=1", "b=1"), etc("b=1"), etc("b=1"), etc("b=1")), []string{"+a +b", "", "-a", ""}},
		{
			"half of the stacks is not too many", nil, one(etc("a=1", "b=1", "c=1", "d=1"), etc("a=1", "b=1"), etc("a=1", "b=1")),
			[]string{"+a +b +c +d", "", "-c -d"},
		},
		{
			"F48 more than half is held", nil, one(etc("a=1", "b=1", "c=1"), etc("a=1"), etc("a=1"), etc("a=1"), etc("a=1", "b=1", "c=1")),
			[]string{"+a +b +c", "", "=b =c ?RemovalHeld", "=b =c ?RemovalHeld", ""},
		},
		{"F48 all of two are held", nil, one(etc("a=1", "b=1"), etc(), etc()), []string{"+a +b", "", "=a =b ?RemovalHeld"}},
		{
			"new stacks do not release a hold", nil, one(etc("a=1", "b=1"), etc(), etc(), etc("c=1", "d=1", "e=1", "f=1", "g=1"), etc("c=1", "d=1", "e=1", "f=1", "g=1")),
			[]string{"+a +b", "", "=a =b ?RemovalHeld", "+c +d +e +f +g =a =b ?RemovalHeld", "=a =b ?RemovalHeld"},
		},
		{
			"a hold lasts for what does not come back", nil, one(etc("a=1", "b=1"), etc(), etc(), etc("a=1"), etc("a=1")),
			[]string{"+a +b", "", "=a =b ?RemovalHeld", "=b ?RemovalHeld", "=b ?RemovalHeld"},
		},
		{
			"a masked stack goes, however many", nil, one(etc("a=1", "b=1"), etc("a=/dev/null", "b=/dev/null"), etc("a=/dev/null", "b=/dev/null")),
			[]string{"+a +b", "", "-a -b"},
		},
		{
			"a masked stack counts as there", nil, one(etc("a=1", "b=1", "c=1", "d=1"), etc("a=1", "d=1"), etc("a=/dev/null", "d=1"), etc("a=/dev/null", "d=1")),
			[]string{"+a +b +c +d", "", "-b -c", "-a"},
		},
		{
			"W37 an unreadable directory keeps everything", nil, one(etc("a=1"), broken("/etc"), broken("/etc"), broken("/etc"), etc("a=1")),
			[]string{"+a", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", ""},
		},
		{
			"W37 time without sight does not count for a removal", nil, one(etc("a=1", "b=1"), etc("b=1"), broken("/etc"), etc("b=1"), etc("b=1")),
			[]string{"+a +b", "", "=a =b ?SourceUnavailable incomplete", "", "-a"},
		},
		{
			"W28 a directory removed and re-created", nil, one(etc("a=1"), gone("/etc"), gone("/etc"), other(), other("a=1"), other("a=1")),
			[]string{"+a", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "", ""},
		},
		{
			"W29 another directory in its place, empty", nil, one(etc("a=1"), other(), other(), other(), other("a=2")),
			[]string{"+a", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "+a"},
		},
		{
			"W29 another directory that carries on", nil, one(etc("a=1", "b=1", "c=1"), other("a=2", "b=1"), other("a=2", "b=1")),
			[]string{"+a +b +c", "+a", "-c"},
		},
		{
			"W30 mounted over", nil, one(etc("a=1", "b=1"), etc("a=2").on(7), etc("a=2").on(7), etc("a=1", "b=1")),
			[]string{"+a +b", "+a =b ?SourceUnavailable incomplete", "=b ?SourceUnavailable incomplete", "+a"},
		},
		{
			"W31 unmounted", nil, one(etc("a=1", "b=1").on(7), etc(), etc(), etc("a=1", "b=1").on(7)),
			[]string{"+a +b", "=a =b ?SourceUnavailable incomplete", "=a =b ?SourceUnavailable incomplete", ""},
		},
		{"a directory that never was", nil, one(gone("/etc"), gone("/etc"), etc("a=1")), []string{"", "", "+a"}},
		{"an empty directory may go", nil, one(etc(), gone("/etc"), other("a=1")), []string{"", "", "+a"}},
		{"W43 removed while the agent was down", map[string]string{"a": "/etc/a.yaml", "b": "/etc/b.yaml"}, one(etc("b=1"), etc("b=1")), []string{"+b", "-a"}},
		{
			"W43 the directory is not mounted yet",
			map[string]string{"a": "/etc/a.yaml"},
			one(gone("/etc"), gone("/etc"), etc("a=1")),
			[]string{"=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete", "+a"},
		},
		{
			"W43 everything vanished while the agent was down",
			map[string]string{"a": "/etc/a.yaml", "b": "/etc/b/compose.yaml"},
			one(etc(), etc()),
			[]string{"", "=a =b ?RemovalHeld"},
		},
		{
			"skip stops nothing", nil, one(etc("a=1"), etc("a=1", "a.skip"), etc("a=2", "a.skip"), etc("a.skip"), etc("a.skip"), etc("a=2")),
			[]string{"+a", "+a(skip)", "", "", "", "+a"},
		},
		{"skip without a stack", nil, one(etc("a.skip"), etc("a.skip")), []string{"", ""}},
		{
			"hold is seen, and outlives the file", nil, one(etc("a=1"), etc("a=1", "a.hold"), etc("a.hold"), etc("a.hold"), etc(), etc()),
			[]string{"+a", "+a(hold)", "", "", "", "-a"},
		},
		{
			"a higher layer hides", nil,
			[][]layer{{etc(), usr("a=v")}, {etc("a=1"), usr("a=v")}, {etc(), usr("a=v")}, {etc(), usr("a=v")}},
			[]string{"+a", "+a", "+a", ""},
		},
		{"a mask hides", nil, [][]layer{{etc("a=/dev/null"), usr("a=v")}, {etc(), usr("a=v")}}, []string{"", "+a"}},
		{
			"a marker counts downwards only", nil,
			[][]layer{{etc("a.skip"), usr("a=v", "b=v")}, {etc("b=1", "a.skip"), usr("a=v", "b.skip")}},
			[]string{"+a(skip) +b", "+b"},
		},
		{
			"an unreadable layer hides what it may hide", nil,
			[][]layer{{broken("/etc"), usr("a=v")}, {etc(), usr("a=v")}},
			[]string{"?SourceUnavailable incomplete", "+a"},
		},
		{
			"an unreadable layer does not let the one below through", nil,
			[][]layer{{etc("a=1"), usr("a=v", "b=v")}, {broken("/etc"), usr("a=v", "b=w")}},
			[]string{"+a +b", "+b =a ?SourceUnavailable incomplete"},
		},
		{
			"a replaced layer does not let the one below through", nil,
			[][]layer{{etc("a=1"), usr("a=v")}, {other(), usr("a=v")}, {other(), usr("a=v")}},
			[]string{"+a", "=a ?SourceUnavailable incomplete", "=a ?SourceUnavailable incomplete"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := play(tc.running, tc.scans...)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestConfirmingARemoval(t *testing.T) {
	now := time.Unix(1e9, 0)
	st := begin([]string{"/etc"}, nil)
	step := func(l layer) string {
		var snap Snapshot
		st, snap = compare(st, survey{at: now, layers: []layer{l}}, belief{}, now)
		now = now.Add(11 * time.Second)
		return sketch(snap)
	}
	step(layerOf("/etc", 1, "a=1", "b=1", "c=1"))
	step(layerOf("/etc", 1))
	step(layerOf("/etc", 1))
	_, unheld := st.confirm([]string{"a", "x"})
	if !slices.Equal(unheld, []string{"x"}) {
		t.Errorf("unheld = %q", unheld)
	}
	st, _ = st.confirm([]string{"a"})
	if got := step(layerOf("/etc", 1)); got != "-a =b =c ?RemovalHeld" {
		t.Errorf("after confirming a: %q", got)
	}
	st, _ = st.confirm(nil)
	if got := step(layerOf("/etc", 1, "b=1")); got != "-c" {
		t.Errorf("after confirming all, with b back: %q", got)
	}
	step(gone("/etc"))
	st, _ = st.confirm(nil)
	if got := step(gone("/etc")); got != "-b" {
		t.Errorf("after confirming that the directory is gone: %q", got)
	}
	if got := step(layerOf("/etc", 5)); got != "" {
		t.Errorf("an empty directory after that: %q", got)
	}
}

func TestReferredFilesBelongToTheHash(t *testing.T) {
	start := time.Unix(1e9, 0)
	seen := func(refs, sum string, changed time.Time) layer {
		l := layerOf("/etc", 1, "a=1")
		f := l.found["a"]
		f.refs, f.refSum, f.refTime = refs, sum, changed
		l.found["a"] = f
		return l
	}
	for _, tc := range []struct {
		name  string
		scans []layer
		want  []string
	}{
		{"newly referred to and older than the scan", []layer{seen("", "", time.Time{}), seen("x\x00", "s", start.Add(-time.Hour))}, []string{"+a", ""}},
		{"newly referred to and changed since", []layer{seen("", "", time.Time{}), seen("x\x00", "s", start.Add(time.Second))}, []string{"+a", "+a"}},
		{"changed", []layer{seen("x\x00", "s", start), seen("x\x00", "t", start)}, []string{"+a", "+a"}},
		{"changed after it was newly referred to", []layer{
			seen("", "", time.Time{}), seen("x\x00", "s", start.Add(-time.Hour)), seen("x\x00", "t", start.Add(-time.Hour)),
		}, []string{"+a", "", "+a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var scans [][]layer
			for _, l := range tc.scans {
				scans = append(scans, []layer{l})
			}
			got := play(nil, scans...)
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAFileWrittenAllTheTimeIsReported(t *testing.T) {
	now := time.Unix(1e9, 0)
	st := begin([]string{"/etc"}, nil)
	var snap Snapshot
	for range 12 {
		l := layerOf("/etc", 1, "a=1")
		f := l.found["a"]
		f.unstable = true
		l.found["a"] = f
		st, snap = compare(st, survey{layers: []layer{l}}, belief{trusted: true}, now)
		now = now.Add(time.Second)
	}
	if got := sketch(snap); got != "?Unstable" {
		t.Errorf("got %q", got)
	}
	if due := st.due(); due.Before(now) || due.After(now.Add(settleLong)) {
		t.Errorf("the next look is %v away", due.Sub(now))
	}
}

func TestWhatIsInDoubtIsSeenTwice(t *testing.T) {
	type scan struct {
		after   time.Duration
		content string
		belief  belief
		want    string
	}
	wrote := belief{wrote: map[string]bool{"/d/a.yaml": true}}
	calm, wary, trusted := belief{}, belief{wary: true}, belief{trusted: true}
	for _, tc := range []struct {
		name  string
		scans []scan
	}{
		{"renamed into place", []scan{{0, "2", calm, "+a"}}},
		{"written in place", []scan{{0, "2", wrote, ""}, {settle, "2", wary, "+a"}}},
		{"nobody told", []scan{{0, "2", wary, ""}, {settle, "2", wary, "+a"}}},
		{"the user says so", []scan{{0, "2", trusted, "+a"}}},
		{"seen again too early", []scan{{0, "2", wrote, ""}, {settle / 2, "2", wary, ""}, {settle / 2, "2", wary, "+a"}}},
		{"seen again too early because of another file", []scan{{0, "2", wrote, ""}, {settle / 2, "2", calm, ""}, {settle / 2, "2", calm, "+a"}}},
		{"different again", []scan{{0, "2", wrote, ""}, {settle, "3", wary, ""}, {settle, "4", wary, ""}, {settle, "4", wary, "+a"}}},
		{"replaced by a rename meanwhile", []scan{{0, "2", wrote, ""}, {settle / 2, "3", calm, "+a"}}},
		{"back to what it was", []scan{{0, "2", wrote, ""}, {settle, "1", wrote, ""}, {settle, "2", wrote, ""}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := time.Unix(1e9, 0)
			st := begin([]string{"/etc"}, nil)
			st, _ = compare(st, survey{layers: []layer{layerOf("/etc", 1, "a=1")}}, trusted, now)
			for i, s := range tc.scans {
				now = now.Add(s.after)
				l := layerOf("/etc", 1, "a="+s.content)
				var snap Snapshot
				st, snap = compare(st, survey{layers: []layer{l}}, s.belief, now)
				if got := sketch(snap); got != s.want {
					t.Errorf("scan %d: %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

// TestNothingIsRemovedByMistake plays random histories against the rule in plain words.
func TestNothingIsRemovedByMistake(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}
		st := begin([]string{"/etc"}, nil)
		now := time.Unix(1e9, 0)
		absentSince := map[string]time.Time{} // first of the healthy scans in a row without it
		alive := map[string]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "scans") {
			now = now.Add(time.Duration(rapid.IntRange(1, 15).Draw(t, "seconds")) * time.Second)
			health := rapid.SampledFrom([]string{"ok", "ok", "ok", "ok", "gone", "broken"}).Draw(t, "health")
			in := map[string]bool{}
			l := layerOf("/etc", 1)
			for _, name := range names {
				if rapid.Bool().Draw(t, name) {
					in[name] = true
					l.found[name] = seenAs(name, fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "content")))
				}
			}
			switch health {
			case "gone":
				l = gone("/etc")
			case "broken":
				l = broken("/etc")
			}
			var snap Snapshot
			st, snap = compare(st, survey{at: now, layers: []layer{l}}, belief{}, now)
			for _, name := range names {
				switch {
				case health != "ok" || in[name]:
					delete(absentSince, name)
				case absentSince[name].IsZero():
					absentSince[name] = now
				}
				alive[name] = alive[name] || health == "ok" && in[name]
			}
			before := len(slices.DeleteFunc(slices.Collect(maps.Keys(alive)), func(n string) bool { return !alive[n] }))
			for _, name := range snap.Removed {
				if absentSince[name].IsZero() || now.Sub(absentSince[name]) < removeAfter {
					t.Fatalf("%s removed, absent for %v, health %s", name, now.Sub(absentSince[name]), health)
				}
				if !alive[name] {
					t.Fatalf("%s removed twice", name)
				}
				alive[name] = false
			}
			if n := len(snap.Removed); n >= 2 && 2*n > before {
				t.Fatalf("%d of %d removed at once", n, before)
			}
			for name, isAlive := range alive {
				if _, ok := snap.Stacks[name]; ok != isAlive {
					t.Fatalf("%s: alive %v, in the snapshot %v", name, isAlive, ok)
				}
			}
		}
	})
}
