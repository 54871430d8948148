package watch

import (
	"os"
	"strings"
	"testing"
	"time"
)

// placed tells the watcher that a file was put in place.
func (w *world) placed(name string) { w.notifier.hints <- Hint{Path: w.path(name), Placed: true} }

func TestW03LoneRenameIsAppliedAtOnce(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.pass(time.Second)
		must(t, os.Rename(tmp(w, "new"), w.path("blog.yaml")))
		w.placed("blog.yaml")
		w.pass(49 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

// Several files renamed one after the other are one change, applied after the quiet.
func TestW03SeveralRenamesAreAppliedTogether(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "old"}, func(w *world) {
		w.expect("+blog")
		w.pass(time.Second)
		w.put("blog.yaml", "new")
		w.placed("blog.yaml")
		w.pass(40 * time.Millisecond)
		w.put("blog.env", "A=1")
		w.placed("blog.env")
		w.pass(299 * time.Millisecond)
		w.expect()
		w.pass(2 * time.Millisecond)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

// A file that was just made and is about to be written is not refused for being empty.
func TestW02NewFileIsNotRefusedBeforeItIsWritten(t *testing.T) {
	bubble(t, nil, func(w *world) {
		w.expect("")
		w.pass(time.Second)
		w.put("blog.yaml", "")
		w.placed("blog.yaml")
		w.pass(100 * time.Millisecond)
		w.put("blog.yaml", "whole")
		w.wrote("blog.yaml")
		w.pass(time.Second)
		w.content("blog", w.snaps[0])
		w.expect("+blog")
	})
}

// Renames that never end are applied at the cap, but for the first.
func TestW48RenamesInARowWait(t *testing.T) {
	bubble(t, map[string]string{"blog.yaml": "0"}, func(w *world) {
		w.expect("+blog")
		w.pass(time.Second)
		for i := range 150 { // every 200 ms for 30 s
			must(t, os.Rename(tmp(w, strings.Repeat("x", i+1)), w.path("blog.yaml")))
			w.placed("blog.yaml")
			w.pass(200 * time.Millisecond)
		}
		if storm := w.seen(); len(storm) < 9 || len(storm) > 11 {
			t.Errorf("%d snapshots in 30 s, want one every 3 s: %q", len(storm), storm)
		}
		w.pass(time.Second)
		w.content("blog", w.last)
	})
}
