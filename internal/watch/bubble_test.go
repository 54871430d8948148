package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeNotifier is a Notifier that says what the test says.
type fakeNotifier struct {
	hints   chan Hint
	dirs    []string
	changes bool
	full    atomic.Bool // the user's watches are exhausted
}

func (n *fakeNotifier) Watch(dirs []string) (bool, error) {
	added := n.changes && !slices.Equal(dirs, n.dirs)
	n.dirs = dirs
	if n.full.Load() {
		return added, syscall.ENOSPC
	}
	return added, nil
}
func (n *fakeNotifier) Hints() <-chan Hint { return n.hints }
func (n *fakeNotifier) Close() error       { return nil }

// world is a watcher in a synctest bubble over real directories, with the clock and the hints in the hand of
// the test.
type world struct {
	*testing.T
	*Watcher
	dir      string
	notifier *fakeNotifier
	news     chan Snapshot
	snaps    []Snapshot // since the last look
	last     Snapshot
}

// newDir makes a directory that is to be trusted whatever the umask.
func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "stacks")
	err := os.Mkdir(dir, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// bubble runs a test in a bubble, with the files present at the start.
func bubble(t *testing.T, files map[string]string, f func(*world)) {
	t.Helper()
	dir := newDir(t)
	bubbleWith(t, Options{Dirs: []string{dir}}, files, f)
}

func bubbleWith(t *testing.T, o Options, files map[string]string, f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, dir: o.Dirs[0], news: make(chan Snapshot, 1000), notifier: &fakeNotifier{hints: make(chan Hint)}}
		if o.Notify == nil {
			o.Notify = func() (Notifier, error) { return w.notifier, nil }
		}
		for name, content := range files {
			w.put(name, content)
		}
		w.Watcher = New(o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Watcher.Run(ctx, func(s Snapshot) { w.news <- s }) }()
		w.pass(0)
		f(w)
		cancel()
		err := <-ended
		if err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// put writes a file in place; no hint is given.
func (w *world) put(name, content string) { w.Helper(); put(w.T, w.path(name), content) }

func put(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) rm(names ...string) {
	w.Helper()
	for _, name := range names {
		must(w.T, os.RemoveAll(w.path(name)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// created and wrote give the hints of a new name and of a write in place.
func (w *world) created(name string) { w.notifier.hints <- Hint{Path: w.path(name)} }
func (w *world) wrote(name string)   { w.notifier.hints <- Hint{Path: w.path(name), Wrote: true} }

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	w.collect()
}

func (w *world) collect() {
	for len(w.news) > 0 {
		w.last = <-w.news
		w.snaps = append(w.snaps, w.last)
	}
}

// seen returns the snapshots since the last call, as text.
func (w *world) seen() []string {
	w.collect()
	var out []string
	for _, s := range w.snaps {
		out = append(out, sketch(s))
	}
	w.snaps = nil
	return out
}

// sketch writes a snapshot's news in one line.
func sketch(s Snapshot) string {
	var parts []string
	for _, name := range s.Changed {
		st := s.Stacks[name]
		part := "+" + name
		if st.Err != nil {
			part += "!" + st.Err.Condition
		}
		if st.Skip {
			part += "(skip)"
		}
		if st.Hold {
			part += "(hold)"
		}
		parts = append(parts, part)
	}
	for _, name := range s.Removed {
		parts = append(parts, "-"+name)
	}
	for _, name := range s.Held {
		parts = append(parts, "="+name)
	}
	for _, p := range s.Problems {
		parts = append(parts, "?"+p.Condition)
	}
	if !s.Complete {
		parts = append(parts, "incomplete")
	}
	return strings.Join(parts, " ")
}

// expect compares the snapshots since the last look with the lines.
func (w *world) expect(want ...string) {
	w.Helper()
	diff := cmp.Diff(want, w.seen())
	if diff != "" {
		w.Fatalf("snapshots (-want +got):\n%s", diff)
	}
}

// content checks that the last snapshot's hash of a stack is that of its files as they are now.
func (w *world) content(name string, s Snapshot) {
	w.Helper()
	checkContent(w.T, s.Stacks[name])
}

func checkContent(t *testing.T, st Stack) {
	t.Helper()
	if len(st.Files) == 0 {
		t.Fatalf("stack %q has no files", st.Name)
	}
	now, err := Find(st.Files[0])
	must(t, err)
	if st.Hash == "" || st.Hash != now.Hash {
		t.Errorf("stack %s was accepted with hash %q, its files have %q", st.Name, st.Hash, now.Hash)
	}
}

func TestW43FirstScanReportsEverything(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a", "shop/compose.yaml": "b", "notes.txt": "c"}, func(w *world) {
		s := w.snaps[0]
		w.expect("+blog +shop")
		if !s.Complete || len(s.Stacks) != 2 || s.Stacks["shop"].Dir != w.path("shop") || s.Stacks["blog"].Dir != w.dir {
			t.Errorf("snapshot = %+v", s)
		}
		w.content("blog", s)
		w.content("shop", s)
		w.pass(10 * time.Minute)
		w.expect()
	})
}

func TestW01WriteInPlaceIsAppliedOnce(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "")
		w.wrote("blog.yaml")
		w.pass(10 * time.Millisecond)
		w.put("blog.yaml", "new")
		w.wrote("blog.yaml")
		w.pass(499 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
		w.pass(2 * time.Minute)
		w.expect()
	})
}

func TestW03RenameIsAppliedAfterTheQuiet(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.put(".blog.yaml.tmp", "new")
		w.created(".blog.yaml.tmp")
		w.wrote(".blog.yaml.tmp")
		must(t, os.Rename(w.path(".blog.yaml.tmp"), w.path("blog.yaml")))
		w.created("blog.yaml")
		w.pass(299 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

func TestW09HalfAFileIsNeverApplied(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "half")
		w.wrote("blog.yaml")
		w.pass(300 * time.Millisecond)
		w.expect()
		w.put("blog.yaml", "half and half")
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

func TestW09ANewFileWrittenSlowlyIsNotAppliedInHalves(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.expect("")
		w.put("blog.yaml", "half")
		w.created("blog.yaml")
		w.wrote("blog.yaml")
		w.pass(400 * time.Millisecond)
		w.put("blog.yaml", "half and half")
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

func TestW10ALongPauseIsCorrected(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "half")
		w.wrote("blog.yaml")
		w.pass(5 * time.Second)
		w.expect("+blog")
		w.put("blog.yaml", "half and half")
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

func TestW14AndW15ChangesWithoutHintsAreFoundByContent(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		info, err := os.Stat(w.path("blog.yaml"))
		must(t, err)
		w.put("blog.yaml", "new")
		must(t, os.Chtimes(w.path("blog.yaml"), info.ModTime(), info.ModTime()))
		w.pass(67 * time.Second)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

func TestW16TouchAndW45FutureTimesAreNoChange(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		future := time.Now().AddDate(100, 0, 0)
		must(t, os.Chtimes(w.path("blog.yaml"), future, future))
		w.created("blog.yaml")
		w.pass(2 * time.Minute)
		w.expect()
		w.put("blog.yaml", "new")
		must(t, os.Chtimes(w.path("blog.yaml"), time.Unix(0, 0), time.Unix(0, 0)))
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.expect("+blog")
	})
}

func TestW17RemovalNeedsTwoScansTenSecondsApart(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a", "shop.yaml": "b"}, func(w *world) {
		w.expect("+blog +shop")
		w.rm("blog.yaml")
		w.created("blog.yaml")
		w.pass(10299 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		if _, ok := w.snaps[0].Stacks["blog"]; ok {
			t.Error("the removed stack is still in the snapshot")
		}
		w.expect("-blog")
		w.pass(5 * time.Minute)
		w.expect()
	})
}

func TestW17TheOnlyStackCanBeRemoved(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		w.rm("blog.yaml")
		w.pass(80 * time.Second)
		w.expect("-blog")
	})
}

func TestW19AFileRestoredInTimeChangesNothing(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		for range 3 {
			w.rm("blog.yaml")
			w.created("blog.yaml")
			w.pass(9 * time.Second)
			w.put("blog.yaml", "a")
			w.created("blog.yaml")
			w.wrote("blog.yaml")
			w.pass(2 * time.Second)
		}
		w.pass(5 * time.Minute)
		w.expect()
	})
}

func TestW20ARenamedStackComesBeforeTheOldGoes(t *testing.T) {
	bubble(t, map[string]string{"a.yaml": "x", "c.yaml": "y"}, func(w *world) {
		w.expect("+a +c")
		must(t, os.Rename(w.path("a.yaml"), w.path("b.yaml")))
		w.created("a.yaml")
		w.created("b.yaml")
		w.pass(time.Second)
		w.expect("+b")
		w.pass(10 * time.Second)
		w.expect("-a")
	})
}

func TestW25ManyFilesAreOneBatch(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[string(rune('a'+i/10))+string(rune('0'+i%10))+".yaml"] = "old"
	}
	bubble(t, files, func(w *world) {
		w.seen()
		for name := range files {
			w.rm(name)
			w.created(name)
			w.put(name, "new")
			w.created(name)
			w.wrote(name)
		}
		w.pass(time.Second)
		if len(w.snaps) != 1 || len(w.snaps[0].Changed) != 50 || len(w.snaps[0].Removed) != 0 {
			t.Errorf("%d snapshots: %q", len(w.snaps), w.seen())
		}
	})
}

func TestW26AStormIsAppliedAtTheCapAndTheLastStateWins(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "0", "other.yaml": "-"}, func(w *world) {
		w.expect("+blog +other")
		for i := range 120 { // 30 s of changes every 250 ms, never quiet
			must(t, os.Rename(tmp(w, strings.Repeat("x", i+1)), w.path("blog.yaml")))
			w.created("blog.yaml")
			w.pass(250 * time.Millisecond)
		}
		storm := w.seen()
		if len(storm) < 9 || len(storm) > 10 {
			t.Errorf("%d snapshots in 30 s, want one every 3 s: %q", len(storm), storm)
		}
		w.pass(time.Second)
		w.content("blog", w.last)
	})
}

func tmp(w *world, content string) string {
	w.put(".new", content)
	return w.path(".new")
}

func TestW48AtomicSavesDoNotStarve(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "0"}, func(w *world) {
		w.seen()
		last := time.Now()
		for i := range 300 { // every 200 ms for 60 s
			must(t, os.Rename(tmp(w, strings.Repeat("x", i+1)), w.path("blog.yaml")))
			w.created("blog.yaml")
			w.pass(200 * time.Millisecond)
			if len(w.snaps) > 0 {
				if since := time.Since(last); since < 2900*time.Millisecond || since > 3300*time.Millisecond {
					t.Errorf("applied %v after the last time, want 3 s", since)
				}
				last = time.Now()
				w.expect("+blog")
			}
		}
		if time.Since(last) > 3300*time.Millisecond {
			t.Errorf("nothing applied for %v", time.Since(last))
		}
	})
}

func TestW35AnOverflowLosesNothing(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a", "shop.yaml": "b"}, func(w *world) {
		w.expect("+blog +shop")
		w.put("shop.yaml", "c")
		w.notifier.hints <- Hint{}
		w.pass(time.Second)
		w.content("shop", w.snaps[0])
		w.expect("+shop")
	})
}

func TestHintsAboutOtherThingsAreIgnored(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "b")
		w.notifier.hints <- Hint{Path: filepath.Dir(w.dir) + "/passwd", Wrote: true}
		w.wrote(".blog.yaml.swp")
		w.wrote("blog/data.db")
		w.pass(10 * time.Second)
		w.expect()
		w.created("blog.yaml")
		w.pass(time.Second)
		w.expect("+blog")
	})
}

func TestRescanTakesWhatItFinds(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "b")
		w.wrote("blog.yaml")
		s, err := w.Rescan(w.Context())
		must(t, err)
		w.content("blog", s)
		w.expect("+blog")
		w.pass(2 * time.Minute)
		w.expect()
	})
}

func TestRescanEndsWithItsContext(t *testing.T) {
	w := New(Options{Dirs: []string{newDir(t)}})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the client hung up"))
	_, err := w.Rescan(ctx)
	if err == nil || err.Error() != "rescan: the client hung up" {
		t.Errorf("err = %v", err)
	}
}

func TestRescanIsJittered(t *testing.T) {
	for r, want := range map[float64]time.Duration{0: 54 * time.Second, 0.5: time.Minute, 1: 66 * time.Second} {
		got := jitter(time.Minute, r)
		if got != want {
			t.Errorf("jitter(1m, %v) = %v, want %v", r, got, want)
		}
	}
}

func TestW36WithoutInotifyItPollsAndWarnsOnce(t *testing.T) {
	var works atomic.Bool
	var opened atomic.Int32
	var log journal
	good := &fakeNotifier{}
	o := Options{Dirs: []string{newDir(t)}, Log: log.logger(), Notify: func() (Notifier, error) {
		opened.Add(1)
		if !works.Load() {
			return nil, syscall.EMFILE
		}
		good.hints = make(chan Hint)
		return good, nil
	}}
	bubbleWith(t, o, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.notifier = good
		w.expect("+blog")
		w.put("blog.yaml", "b")
		w.pass(17 * time.Second)
		w.expect("+blog")
		w.pass(10 * time.Minute)
		if n := opened.Load(); n < 2 || n > 3 || log.count("level=WARN") != 1 {
			t.Errorf("%d attempts in 10 min, log:\n%s", opened.Load(), &log)
		}
		works.Store(true)
		w.pass(6 * time.Minute)
		if log.count("notifications work again") != 1 {
			t.Errorf("log:\n%s", &log)
		}
		w.put("blog.yaml", "c")
		w.created("blog.yaml")
		w.pass(time.Second)
		w.expect("+blog")
	})
}

func TestW36ExhaustedWatchesArePolledToo(t *testing.T) {
	var log journal
	o := Options{Dirs: []string{newDir(t)}, Log: log.logger()}
	bubbleWith(t, o, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		w.notifier.full.Store(true)
		w.pass(67 * time.Second)
		w.put("blog.yaml", "b")
		w.pass(17 * time.Second)
		w.expect("+blog")
		w.notifier.full.Store(false)
		w.pass(6 * time.Minute)
		if log.count("level=WARN") != 1 || log.count("work again") != 1 {
			t.Errorf("log:\n%s", &log)
		}
	})
}

func TestANotifierThatEndsIsReplaced(t *testing.T) {
	var log journal
	o := Options{Dirs: []string{newDir(t)}, Log: log.logger()}
	bubbleWith(t, o, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "b")
		dead := w.notifier.hints
		w.notifier.hints = make(chan Hint)
		close(dead)
		w.pass(time.Second)
		w.expect("+blog")
		w.pass(6 * time.Minute)
		w.put("blog.yaml", "c")
		w.created("blog.yaml")
		w.pass(time.Second)
		w.expect("+blog")
	})
}

func TestW22AFileInANewlyWatchedDirectoryIsNotMissed(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.expect("")
		w.notifier.changes = true
		put(t, w.path("blog/README"), "-")
		first := true
		w.Watcher.scan = func(r request) survey {
			s := scan(r)
			if first {
				put(t, filepath.Join(r.dirs[0], "blog/compose.yaml"), "a") // after the look, before the watch
			}
			first = false
			return s
		}
		w.created("blog")
		w.pass(750 * time.Millisecond)
		w.expect("+blog")
	})
}

func TestAHangingDirectoryIsReportedAndTheLoopGoesOn(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "a"}, func(w *world) {
		w.expect("+blog")
		answer := make(chan struct{})
		w.Watcher.scan = func(r request) survey { <-answer; return scan(r) }
		w.created("blog.yaml")
		w.pass(2 * time.Minute)
		w.expect("=blog ?SourceUnavailable incomplete")
		if age := time.Since(w.Beat()); age > 10*time.Second {
			t.Errorf("the last beat is %v old", age)
		}
		close(answer)
		w.pass(0)
		w.expect("")
	})
}

func TestBeat(t *testing.T) {
	bubble(t, nil, func(w *world) {
		for range 30 {
			w.pass(7 * time.Second)
			if age := time.Since(w.Beat()); age > 10*time.Second {
				t.Fatalf("the last beat is %v old", age)
			}
		}
	})
}
