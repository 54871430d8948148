package watch

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// live is a watcher over real directories with the kernel's notifications, in real time.
type live struct {
	*testing.T
	w     *Watcher
	dir   string
	snaps chan Snapshot
}

// watching starts a watcher with the files present, and returns when it has seen them and listens everywhere.
func watching(t *testing.T, files map[string]string) *live {
	t.Helper()
	dir := newDir(t)
	for name, content := range files {
		put(t, filepath.Join(dir, name), content)
	}
	return watchingDir(t, dir)
}

func watchingDir(t *testing.T, dir string) *live {
	t.Helper()
	l := &live{T: t, dir: dir, snaps: make(chan Snapshot, 1000), w: New(Options{Dirs: []string{dir}, Rescan: time.Hour})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.w.Run(ctx, func(s Snapshot) { l.snaps <- s }) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	l.settle()
	return l
}

// settle lets everything pending happen: hints are taken and scans made until nothing is new.
func (l *live) settle() []Snapshot {
	l.Helper()
	var out []Snapshot
	for {
		_, err := l.w.Rescan(l.Context())
		must(l.T, err)
		n := len(out)
		for len(l.snaps) > 0 {
			out = append(out, <-l.snaps)
		}
		if len(out) == n {
			return out
		}
	}
}

func (l *live) path(name string) string { return filepath.Join(l.dir, name) }

// next returns the next snapshot; the test's deadline is the only limit.
func (l *live) next() Snapshot {
	l.Helper()
	select {
	case s := <-l.snaps:
		return s
	case <-l.Context().Done():
		l.Fatal("no snapshot")
		return Snapshot{}
	}
}

// applies waits until the stack's files as they are now have been accepted, and checks that nothing else was.
func (l *live) applies(name string) {
	l.Helper()
	l.among(name, l.next())
	for _, s := range l.settle() {
		l.among(name, s)
		l.Errorf("applied more than once: %s", sketch(s))
	}
}

func (l *live) among(name string, s Snapshot) {
	l.Helper()
	if sketch(s) != "+"+name {
		l.Errorf("snapshot %q, want only a change of %s", sketch(s), name)
	}
	checkContent(l.T, s.Stacks[name])
}

// sh runs a script in the directory.
func (l *live) sh(script string) {
	l.Helper()
	cmd := exec.CommandContext(l.Context(), "sh", "-ec", "umask 022; "+script)
	cmd.Dir = l.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// TestEditors replays what programs do to a file; the kernel tells. All work at the same time, each in a
// directory of its own.
func TestEditors(t *testing.T) {
	t.Parallel()
	type editor struct{ name, script string }
	lives := map[editor]*live{}
	for _, tc := range []editor{
		{"W01 redirect", `echo new > blog.yaml`},
		{"W02 append", `echo more >> blog.yaml`},
		{"W03 temporary file and rename", `echo new > .blog.yaml.Xy12; mv .blog.yaml.Xy12 blog.yaml`},
		{"W03 visible temporary file and rename", `echo new > blog.yaml.tmp; mv blog.yaml.tmp blog.yaml`},
		{"W04 rename from outside", `echo new > ../new; mv ../new blog.yaml`},
		{"W05 sed -i", `sed -i s/old/new/ blog.yaml`},
		{"W06 vim, inode kept", `echo s > .blog.yaml.swp; echo s > .blog.yaml.swx; rm .blog.yaml.swx; : > blog.yaml; echo new >> blog.yaml; chmod 644 blog.yaml; rm .blog.yaml.swp`},
		{"W06 vim's write test", `echo x > 4913; rm 4913; echo new > blog.yaml`},
		{"W07 vim, rename save", `mv blog.yaml blog.yaml~; echo new > blog.yaml; rm blog.yaml~`},
		{"W08 unlink and link", `echo new > .n; rm blog.yaml; ln .n blog.yaml; rm .n`},
		{"W08 unlink and write", `rm blog.yaml; echo new > blog.yaml`},
		{"W09 slow truncate", `: > blog.yaml; echo half >> blog.yaml; echo rest >> blog.yaml`},
		{"W15 same size and time", `touch -r blog.yaml t; echo NEW > n; touch -r t n; mv n blog.yaml; rm t`},
		{"W27 rsync", `echo new > .blog.yaml.k3Jd9s; chmod 644 .blog.yaml.k3Jd9s; mv .blog.yaml.k3Jd9s blog.yaml`},
		{"W27 rsync --inplace", `dd if=/dev/zero of=blog.yaml bs=1 count=3 conv=notrunc 2>/dev/null; touch blog.yaml`},
		{"W45 time in the future", `echo new > blog.yaml; touch -d 2099-01-01 blog.yaml`},
		{"emacs, with its lock link and backup", `ln -s me@host.1 .#blog.yaml; cp blog.yaml blog.yaml~; echo new > blog.yaml; rm .#blog.yaml`},
		{"an override appears", `echo new > blog.override.yaml`},
		{"an env file appears", `echo A=1 > .env`},
		{"a drop-in appears", `mkdir blog.d; echo new > blog.d/10.yaml`},
	} {
		lives[tc] = watching(t, map[string]string{"blog.yaml": "old"})
	}
	for tc, l := range lives {
		l.sh(tc.script)
	}
	for tc, l := range lives {
		t.Run(tc.name, func(t *testing.T) {
			l.T = t
			l.applies("blog")
		})
	}
}

func TestW16TouchingAndChmodIsNoChange(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog.yaml": "old", "end.yaml": "1"})
	l.sh(`touch blog.yaml; chmod 600 blog.yaml; chmod 644 blog.yaml; echo 2 > end.yaml`)
	l.applies("end")
}

func TestW44ChmodIsNoticed(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog.yaml": "old"})
	l.sh(`chmod 666 blog.yaml`)
	if got := sketch(l.next()); got != "+blog!Untrusted" {
		t.Errorf("after chmod 666: %q", got)
	}
	l.sh(`chmod 644 blog.yaml`)
	l.applies("blog")
}

func TestW46ARefusedFileIsPutRight(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog.yaml": "old"})
	l.sh(`: > blog.yaml`)
	if got := sketch(l.next()); got != "+blog!Refused" {
		t.Errorf("after truncating: %q", got)
	}
	l.sh(`echo new > blog.yaml`)
	l.applies("blog")
}

func TestW47ABadNewFileDoesNotConcernTheOthers(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog.yaml": "old"})
	l.sh(`mkfifo shop.yaml`)
	if got := sketch(l.next()); got != "+shop!Refused" {
		t.Errorf("got %q", got)
	}
	l.sh(`echo new > blog.yaml`)
	l.applies("blog")
}

func TestW18RemovedWhileOpenAndW19Restored(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog.yaml": "old", "end.yaml": "1"})
	f, err := os.Open(l.path("blog.yaml"))
	must(t, err)
	defer f.Close()
	l.sh(`rm blog.yaml; echo 2 > end.yaml`)
	l.applies("end")
	l.sh(`printf old > blog.yaml; echo 3 > end.yaml`)
	l.applies("end")
}

func TestW11DataLinkSwapped(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	put(t, dir+"/..d1/blog.yaml", "one")
	put(t, dir+"/..d2/blog.yaml", "two")
	must(t, os.Symlink("..d1", dir+"/..data"))
	must(t, os.Symlink("..data/blog.yaml", dir+"/blog.yaml"))
	l := watchingDir(t, dir)
	l.sh(`ln -s ..d2 ..data_tmp; mv -T ..data_tmp ..data; rm -r ..d1`)
	l.applies("blog")
}

func TestW22AndW23AndW24Subdirectories(t *testing.T) {
	t.Parallel()
	l := watching(t, nil)
	l.sh(`mkdir blog; echo one > blog/compose.yaml`)
	l.applies("blog")
	l.sh(`echo two > blog/compose.yaml`)
	l.applies("blog")
	l.sh(`mkdir -p shop/shop.d; echo one > shop/shop.d/1.yaml; echo one > shop/compose.yaml`)
	l.applies("shop")
	l.sh(`echo two > shop/shop.d/1.yaml`)
	l.applies("shop")
	l.sh(`mkdir ../wiki; echo one > ../wiki/compose.yaml; mv ../wiki .`)
	l.applies("wiki")
}

func TestW25GitCheckout(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("s%02d.yaml", i)] = "old"
	}
	l := watching(t, files)
	l.sh(`for f in s*.yaml; do rm $f; echo new > $f; done`)
	changed := map[string]bool{}
	for len(changed) < 50 {
		s := l.next()
		for _, name := range s.Changed {
			changed[name] = true
			checkContent(t, s.Stacks[name])
		}
		if len(s.Removed)+len(s.Held)+len(s.Problems) > 0 {
			t.Fatalf("more than changes: %s", sketch(s))
		}
	}
}

func TestW41Exchange(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"a.yaml": "one", "b.yaml": "two"})
	must(t, unix.Renameat2(unix.AT_FDCWD, l.path("a.yaml"), unix.AT_FDCWD, l.path("b.yaml"), unix.RENAME_EXCHANGE))
	s := l.next()
	checkContent(t, s.Stacks["a"])
	checkContent(t, s.Stacks["b"])
	if sketch(s) != "+a +b" {
		t.Errorf("got %q", sketch(s))
	}
}

func TestW42LinkedTemporaryFile(t *testing.T) {
	t.Parallel()
	l := watching(t, nil)
	fd, err := unix.Open(l.dir, unix.O_TMPFILE|unix.O_WRONLY, 0o644)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("one"))
	must(t, err)
	must(t, unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, l.path("blog.yaml"), unix.AT_SYMLINK_FOLLOW))
	l.applies("blog")
}

func TestW28TheDirectoryComesLateAndComesBack(t *testing.T) {
	t.Parallel()
	top := newDir(t)
	l := watchingDir(t, filepath.Join(top, "late", "stacks"))
	must(t, os.MkdirAll(l.dir, 0o755))
	l.sh(`echo one > blog.yaml`)
	l.applies("blog")
	must(t, os.RemoveAll(l.dir))
	if got := sketch(l.next()); got != "=blog ?SourceUnavailable incomplete" {
		t.Errorf("removed: %q", got)
	}
	must(t, os.Mkdir(l.dir, 0o755))
	s := l.next()
	if sketch(s) != "=blog ?SourceUnavailable incomplete" || !strings.Contains(s.Problems[0].Text, "was replaced") {
		t.Errorf("re-created: %v", s.Problems)
	}
	l.sh(`echo one > blog.yaml`)
	if got := sketch(l.next()); got != "" {
		t.Errorf("filled again with the same: %q", got)
	}
	l.sh(`echo two > blog.yaml`)
	l.applies("blog")
}

func TestW29TheDirectoryIsExchanged(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"a.yaml": "one", "b.yaml": "one", "c.yaml": "one"})
	put(t, l.dir+".new/a.yaml", "two")
	put(t, l.dir+".new/b.yaml", "one")
	put(t, l.dir+".new/c.yaml", "one")
	must(t, os.Rename(l.dir, l.dir+".old"))
	must(t, os.Rename(l.dir+".new", l.dir))
	l.applies("a")
	put(t, l.dir+".old/b.yaml", "not this one")
	l.sh(`echo two > b.yaml`)
	l.applies("b")
}

func TestReferredFilesAreWatched(t *testing.T) {
	t.Parallel()
	l := watching(t, map[string]string{"blog/compose.yaml": "x", "blog/app.conf": "one", "end.yaml": "1"})
	l.w.Refer("blog", []string{l.path("blog/app.conf"), l.path("blog/missing/late.env"), l.path("blog/compose.yaml")})
	l.settle()
	change := func(script string) {
		t.Helper()
		l.sh(script)
		if got := sketch(l.next()); got != "+blog" {
			t.Errorf("%s: %q", script, got)
		}
		if again := l.settle(); len(again) > 0 {
			t.Errorf("%s: again: %q", script, sketch(again[0]))
		}
	}
	change(`echo two > blog/app.conf`)
	change(`mkdir blog/missing; echo A=1 > blog/missing/late.env`)
	change(`echo A=2 > blog/missing/late.env`)
	l.w.Refer("blog", nil)
	l.settle()
	l.sh(`echo three > blog/app.conf; echo 2 > end.yaml`)
	l.applies("end")
}

func TestInotifyFollowsWhatTakesAPath(t *testing.T) {
	top := newDir(t)
	must(t, os.Mkdir(top+"/a", 0o755))
	must(t, os.Mkdir(top+"/b", 0o755))
	must(t, os.Symlink("a", top+"/link"))
	n, err := Inotify()
	must(t, err)
	defer n.Close()
	watch := func(dirs ...string) bool {
		t.Helper()
		added, err := n.Watch(dirs)
		must(t, err)
		return added
	}
	hears := func(path string) {
		t.Helper()
		put(t, path, "x")
		h := <-n.Hints()
		for h.Wrote { // of the time before
			h = <-n.Hints()
		}
		if filepath.Base(h.Path) != filepath.Base(path) {
			t.Errorf("wrote %s, heard of %s", path, h.Path)
		}
	}
	if !watch(top+"/link", top+"/absent") || watch(top+"/link", top+"/absent") {
		t.Error("a directory counts as added the first time only")
	}
	hears(top + "/a/one")
	must(t, os.Remove(top+"/link"))
	must(t, os.Symlink("b", top+"/link")) // like a mount over it: the old watch lives, and nothing is told
	if !watch(top+"/link", top+"/absent") {
		t.Error("the other directory in its place went unnoticed")
	}
	put(t, top+"/a/deaf", "x")
	hears(top + "/b/two")
	must(t, n.(*inotify).w.Remove(top+"/link")) // like an unmount: the watch is gone without a word
	if !watch(top+"/link", top+"/absent") {
		t.Error("the lost watch went unnoticed")
	}
	hears(top + "/b/three")
	if watch(top+"/link", top+"/b") {
		t.Error("a second path of a watched directory needs no second watch")
	}
	hears(top + "/b/four")
	must(t, os.Mkdir(top+"/absent", 0o755))
	if !watch(top + "/absent") {
		t.Error("the new directory was not added")
	}
	put(t, top+"/b/deaf", "x")
	hears(top + "/absent/five")
}

func TestW35InotifyOverflowIsAHint(t *testing.T) {
	var most int
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	must(t, err)
	_, err = fmt.Sscan(string(limit), &most)
	must(t, err)
	dir := newDir(t)
	put(t, dir+"/0", "")
	put(t, dir+"/1", "")
	n, err := Inotify()
	must(t, err)
	defer n.Close()
	_, err = n.Watch([]string{dir})
	must(t, err)
	for i := range most + 8192 { // what the library has read already, and more; nobody listens
		must(t, os.Chmod(fmt.Sprintf("%s/%d", dir, i%2), 0o600))
	}
	for h := range n.Hints() {
		if h == (Hint{}) {
			return
		}
	}
	t.Error("the hints ended")
}
