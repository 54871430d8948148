package watch

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestF48AHeldRemovalIsConfirmed(t *testing.T) {
	bubble(t, map[string]string{"a.yaml": "1", "b.yaml": "1", "c.yaml": "1"}, func(w *world) {
		w.expect("+a +b +c")
		w.rm("a.yaml", "b.yaml")
		w.pass(5 * time.Minute)
		w.expect("=a =b ?RemovalHeld")
		want := w.dir + ": has lost a, b at once; 2 stacks keep running as they are: " +
			"bring the files back, or let them stop with: ic-agent confirm-removal"
		if got := w.last.Problems[0].String(); got != want {
			t.Errorf("the user reads %q", got)
		}
		_, err := w.ConfirmRemoval(w.Context(), "a", "c\n")
		if err == nil || err.Error() != `confirm removal: no removal is held of: "c\n"` {
			t.Errorf("err = %v", err)
		}
		w.expect()
		w.put("b.yaml", "1")
		removed, err := w.ConfirmRemoval(w.Context())
		if err != nil || !slices.Equal(removed, []string{"a"}) {
			t.Errorf("removed %q, %v", removed, err)
		}
		w.expect("-a")
	})
}

func TestReferredFilesAreHashedAndHeardOf(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/app.conf", "one")
	put(t, dir+"/b.conf", "one")
	bubble(t, map[string]string{"blog.yaml": "x"}, func(w *world) {
		w.expect("+blog")
		w.Refer("blog", []string{dir + "/app.conf", dir + "/./app.conf", dir + "/b.conf", w.path("blog.yaml")})
		w.pass(time.Minute)
		w.seen() // files are newer than the bubble's clock, so that one repetition is right here
		w.Refer("blog", []string{w.path("blog.yaml"), dir + "/b.conf", dir + "/app.conf"})
		w.pass(2 * time.Minute)
		w.expect()
		if !slices.Contains(w.notifier.dirs, dir) {
			t.Errorf("watched: %q", w.notifier.dirs)
		}
		put(t, dir+"/app.conf", "two")
		w.notifier.hints <- Hint{Path: dir + "/app.conf", Wrote: true}
		w.pass(400 * time.Millisecond)
		w.expect()
		w.pass(200 * time.Millisecond)
		w.expect("+blog")
		w.rm("blog.yaml")
		w.pass(2 * time.Minute)
		w.expect("-blog")
		w.pass(2 * time.Minute)
		if slices.Contains(w.notifier.dirs, dir) {
			t.Errorf("watched after the removal: %q", w.notifier.dirs)
		}
	})
}

func TestRescanWaitsForAFileThatIsBeingWritten(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "1"}, func(w *world) {
		w.expect("+blog")
		scans := 0
		w.Watcher.scan = func(r request) survey {
			s := scan(r)
			scans++
			f := s.layers[0].found["blog"]
			f.unstable = scans < 3
			s.layers[0].found["blog"] = f
			return s
		}
		w.put("blog.yaml", "2")
		began := time.Now()
		s, err := w.Rescan(w.Context())
		must(t, err)
		w.content("blog", s)
		if took := time.Since(began); took != 2*settle {
			t.Errorf("took %v", took)
		}
	})
}

func TestRescanDoesNotWaitForever(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "1"}, func(w *world) {
		w.Watcher.scan = func(r request) survey {
			s := scan(r)
			f := s.layers[0].found["blog"]
			f.unstable = true
			s.layers[0].found["blog"] = f
			return s
		}
		before := w.last.Stacks["blog"].Hash
		s, err := w.Rescan(w.Context())
		if err != nil || s.Stacks["blog"].Hash != before {
			t.Errorf("%v, %v", s, err)
		}
		w.pass(30 * time.Second)
		if got := w.seen(); got[len(got)-1] != "?Unstable" {
			t.Errorf("got %q", got)
		}
	})
}

func TestW09AWriteDuringTheScanPutsItInDoubt(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "1"}, func(w *world) {
		w.expect("+blog")
		first := true
		notifier, path := w.notifier, w.path("blog.yaml")
		w.Watcher.scan = func(r request) survey {
			if first {
				put(t, path, "ha")
				notifier.hints <- Hint{Path: path, Wrote: true}
			}
			first = false
			return scan(r)
		}
		w.created("blog.yaml")
		w.pass(400 * time.Millisecond)
		w.expect()
		w.put("blog.yaml", "half")
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.content("blog", w.last)
		w.expect("+blog")
	})
}

func TestLayersWithRealFiles(t *testing.T) {
	top := newDir(t)
	dirs := []string{top + "/run", top + "/etc", top + "/usr"}
	put(t, top+"/usr/a.yaml", "vendor")
	put(t, top+"/usr/b.yaml", "vendor")
	put(t, top+"/usr/c.yaml", "vendor")
	put(t, top+"/etc/b.yaml", "mine")
	must(t, os.Symlink("/dev/null", top+"/etc/c.yaml"))
	put(t, top+"/etc/a.hold", "")
	bubbleWith(t, Options{Dirs: dirs}, nil, func(w *world) {
		if w.last.Stacks["b"].Dir != top+"/etc" || w.last.Stacks["a"].Dir != top+"/usr" || !w.last.Complete {
			t.Errorf("%+v", w.last)
		}
		w.expect("+a(hold) +b")
		want := []string{top, top + "/etc", top + "/usr"}
		if diff := cmp.Diff(want, w.notifier.dirs); diff != "" {
			t.Errorf("watched directories (-want +got):\n%s", diff)
		}
		put(t, top+"/run/c.yaml", "now")
		w.notifier.hints <- Hint{Path: top + "/run"}
		w.pass(time.Second)
		w.expect("+c")
		put(t, top+"/etc/b.skip", "")
		w.notifier.hints <- Hint{Path: top + "/etc/b.skip"}
		w.pass(time.Second)
		w.expect("+b(skip)")
	})
}

func TestKnownStacksAreRemovedWhenTheirFilesAreGone(t *testing.T) {
	dir := newDir(t)
	o := Options{Dirs: []string{dir + "/"}, Known: map[string]string{"a": dir + "/a.yaml", "b": dir + "/b/compose.yaml", "c": dir + "/c.yaml"}}
	bubbleWith(t, o, map[string]string{"a.yaml": "1", "b/compose.yaml": "1"}, func(w *world) {
		w.expect("+a +b")
		w.pass(time.Minute)
		w.expect("-c")
	})
}

func TestAKnownDirectoryThatIsMissingKeepsItsStacks(t *testing.T) {
	dir := filepath.Join(newDir(t), "later")
	o := Options{Dirs: []string{dir}, Known: map[string]string{"a": dir + "/a.yaml"}}
	bubbleWith(t, o, nil, func(w *world) {
		w.pass(10 * time.Minute)
		w.expect("=a ?SourceUnavailable incomplete")
		if got := w.last.Problems[0].Text; !strings.HasPrefix(got, "is gone; the stack a keeps running as it is: ") {
			t.Errorf("the user reads %q", got)
		}
		w.put("a.yaml", "1")
		w.pass(67 * time.Second)
		w.expect("", "+a") // the directory is back; its file, not announced, is looked at twice
	})
}

func TestW32RemoteDirectoriesArePolled(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "1"}, func(w *world) {
		w.expect("+blog")
		w.Watcher.scan = func(r request) survey {
			s := scan(r)
			s.layers[0].remote = true
			return s
		}
		w.created("blog.yaml")
		w.pass(time.Second)
		w.put("blog.yaml", "2")
		w.pass(17 * time.Second)
		w.expect("+blog")
	})
}

func TestSkippedFilesAreNotComplainedAbout(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": ""}, func(w *world) {
		w.expect("+blog!Refused")
		w.put("blog.skip", "")
		w.created("blog.skip")
		w.pass(time.Second)
		w.expect("+blog(skip)")
		w.rm("blog.skip")
		w.created("blog.skip")
		w.pass(time.Second)
		w.expect("+blog!Refused")
	})
}

func TestARemovedOverrideIsLookedForTwice(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "1", "blog.override.yaml": "1"}, func(w *world) {
		w.expect("+blog")
		for range 3 { // an editor moves it away and writes it anew, slowly
			w.rm("blog.override.yaml")
			w.created("blog.override.yaml")
			w.pass(400 * time.Millisecond)
			w.put("blog.override.yaml", "1")
			w.created("blog.override.yaml")
			w.pass(time.Second)
		}
		w.expect()
		w.rm("blog.override.yaml")
		w.created("blog.override.yaml")
		w.pass(time.Second)
		w.expect("+blog")
	})
}

func TestOptionsAreHonoured(t *testing.T) {
	o := Options{Dirs: []string{newDir(t) + "/"}, Rescan: 5 * time.Second, Quiet: time.Second, Cap: 2 * time.Second}
	bubbleWith(t, o, map[string]string{"blog.yaml": "1"}, func(w *world) {
		w.expect("+blog")
		w.put("blog.yaml", "2")
		w.pass(6 * time.Second)
		w.expect("+blog")
		must(t, os.Rename(tmp(w, "3"), w.path("blog.yaml")))
		w.created("blog.yaml")
		w.pass(999 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		w.expect("+blog")
		for range 4 {
			must(t, os.Rename(tmp(w, "4"), w.path("blog.yaml")))
			w.created("blog.yaml")
			w.pass(502 * time.Millisecond)
		}
		w.expect("+blog")
	})
}

func TestRunEndsEvenWhenAScanHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := New(Options{Dirs: []string{"/nonexistent"}, Notify: func() (Notifier, error) {
			return &fakeNotifier{hints: make(chan Hint)}, nil
		}})
		w.scan = func(request) survey { <-release; return survey{} }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx, func(Snapshot) { t.Error("a snapshot of nothing") }) }()
		synctest.Wait()
		cancel()
		began := time.Now()
		err := <-ended
		if err != nil || time.Since(began) > time.Second {
			t.Errorf("Run returned %v after %v", err, time.Since(began))
		}
		close(release)
	})
}
