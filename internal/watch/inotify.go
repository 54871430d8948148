package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// Inotify opens the kernel's notifications. An error means that none are to be had: most likely the user's
// instances are exhausted (EMFILE).
func Inotify() (Notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("open inotify: %w", err)
	}
	n := &inotify{w: w, hints: make(chan Hint), done: make(chan struct{}), watched: map[string]place{}}
	n.running.Go(n.forward)
	return n, nil
}

// inotify is the kernel as a Notifier.
type inotify struct {
	w       *fsnotify.Watcher
	hints   chan Hint
	done    chan struct{}
	running sync.WaitGroup
	watched map[string]place // touched by Watch only
}

// place is an inode. A watch stays with it when something else takes its path.
type place struct{ dev, ino uint64 }

// Hints implements Notifier.
func (n *inotify) Hints() <-chan Hint { return n.hints }

// Close implements Notifier.
func (n *inotify) Close() error {
	close(n.done)
	err := n.w.Close()
	n.running.Wait()
	if err != nil {
		return fmt.Errorf("close inotify: %w", err)
	}
	return nil
}

// Watch implements Notifier. The kernel drops a watch without a word when its directory is unmounted, and
// keeps watching the old one when another is mounted over it, so every call compares both with what is there.
func (n *inotify) Watch(dirs []string) (bool, error) {
	alive := n.w.WatchList()
	want := map[string]place{}
	taken := map[place]bool{} // one watch serves all paths of a directory, and has the name of the first
	for _, dir := range dirs {
		var st unix.Stat_t
		err := unix.Stat(dir, &st)
		at := place{dev: st.Dev, ino: st.Ino}
		if err != nil || taken[at] {
			continue
		}
		want[dir], taken[at] = at, true
	}
	for dir, at := range n.watched {
		if want[dir] != at || !slices.Contains(alive, dir) {
			// The error says that the watch is gone already.
			_ = n.w.Remove(dir)
			delete(n.watched, dir)
		}
	}
	added := false
	var failed error
	for dir, at := range want {
		if _, ok := n.watched[dir]; ok {
			continue
		}
		err := n.w.Add(dir)
		switch {
		case err == nil:
			n.watched[dir] = at
			added = true
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR):
		default:
			failed = fmt.Errorf("watch %s: %w", show(dir), err)
		}
	}
	return added, failed
}

// forward turns events into hints until Close, or until inotify breaks, which closes the hints.
func (n *inotify) forward() {
	defer close(n.hints)
	for {
		var h Hint
		select {
		case <-n.done:
			return
		case e, ok := <-n.w.Events:
			if !ok {
				return
			}
			h = Hint{Path: e.Name, Placed: e.Has(fsnotify.Create), Wrote: e.Has(fsnotify.Write)}
		case err, ok := <-n.w.Errors:
			if !ok || errors.Is(err, os.ErrClosed) {
				return
			}
			// An overflow, or something else that cost events: everything may have changed.
		}
		select {
		case n.hints <- h:
		case <-n.done:
			return
		}
	}
}
