package watch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// glance returns what the first scan of the directories says.
func glance(dirs ...string) Snapshot {
	_, snap := compare(begin(dirs, nil), scan(request{dirs: dirs}), belief{trusted: true}, time.Now())
	return snap
}

func TestBadFilesAreRefusedWithAdvice(t *testing.T) {
	for _, tc := range []struct {
		name      string
		make      func(dir string) error
		condition string
		text      string // DIR stands for the directory
	}{
		{
			"W01 empty file", func(dir string) error { return os.WriteFile(dir+"/x.yaml", nil, 0o644) },
			Refused, "DIR/x.yaml: is empty: write the stack's services into it, or remove it",
		},
		{
			"W38 named pipe", func(dir string) error { return unix.Mkfifo(dir+"/x.yaml", 0o644) },
			Refused, "DIR/x.yaml: is a named pipe, not a file: remove or rename it",
		},
		{"W38 socket", func(dir string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/x.yaml", Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, Refused, "DIR/x.yaml: is a socket, not a file: remove or rename it"},
		{
			"W38 link to a device", func(dir string) error { return os.Symlink("/dev/zero", dir+"/x.yaml") },
			Refused, "DIR/x.yaml: is a link that leads out of this directory, or to nothing: put the file itself here, or link with a relative path to one inside",
		},
		{"W12 link to the outside", func(dir string) error {
			err := os.WriteFile(dir+"/../secret", []byte("x"), 0o644)
			if err != nil {
				return err
			}
			return os.Symlink("../secret", dir+"/x.yaml")
		}, Refused, "DIR/x.yaml: is a link that leads out of this directory, or to nothing: put the file itself here, or link with a relative path to one inside"},
		{
			"dangling link", func(dir string) error { return os.Symlink("nowhere", dir+"/x.yaml") },
			Refused, "DIR/x.yaml: is a link that leads out of this directory, or to nothing: put the file itself here, or link with a relative path to one inside",
		},
		{
			"link to itself", func(dir string) error { return os.Symlink("x.yaml", dir+"/x.yaml") },
			Refused, "DIR/x.yaml: cannot be read (too many levels of symbolic links)",
		},
		{
			"W39 too large", func(dir string) error { return os.WriteFile(dir+"/x.yaml", make([]byte, maxFile+1), 0o644) },
			Refused, "DIR/x.yaml: has 1048577 bytes, more than the 1048576 that are read: move parts into other files (include, configs, env_file)",
		},
		{"W44 writable by others", func(dir string) error {
			err := os.WriteFile(dir+"/x.yaml", []byte("x"), 0o644)
			if err != nil {
				return err
			}
			return os.Chmod(dir+"/x.yaml", 0o666)
		}, Untrusted, "DIR/x.yaml: can be written by others than its owner (owner uid UID, mode 0666), who could so run anything on this host: chmod go-w DIR/x.yaml"},
		{"W44 override writable by the group", func(dir string) error {
			err := os.WriteFile(dir+"/x.yaml", []byte("x"), 0o644)
			if err == nil {
				err = os.WriteFile(dir+"/x.override.yaml", []byte("x"), 0o644)
			}
			if err != nil {
				return err
			}
			return os.Chmod(dir+"/x.override.yaml", 0o664)
		}, Untrusted, "DIR/x.override.yaml: can be written by others than its owner (owner uid UID, mode 0664), who could so run anything on this host: " +
			"chmod go-w DIR/x.override.yaml"},
		{"W44 subdirectory writable by others, sticky", func(dir string) error {
			err := os.Mkdir(dir+"/x", 0o755)
			if err == nil {
				err = os.WriteFile(dir+"/x/compose.yaml", []byte("x"), 0o644)
			}
			if err != nil {
				return err
			}
			return os.Chmod(dir+"/x", 0o777|os.ModeSticky)
		}, Untrusted, "DIR/x: can be written by others than its owner (owner uid UID, mode 1777), who could so run anything on this host: chmod go-w DIR/x"},
		{"directory of that name", func(dir string) error {
			err := os.Mkdir(dir+"/x", 0o755)
			if err == nil {
				err = os.Mkdir(dir+"/x/compose.yaml", 0o755)
			}
			return err
		}, Refused, "DIR/x/compose.yaml: is a directory, not a file: remove or rename it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := newDir(t)
			put(t, dir+"/good.yaml", "fine")
			must(t, tc.make(dir))
			s := glance(dir)
			bad := s.Stacks["x"].Err
			want := strings.NewReplacer("DIR", dir, "UID", fmt.Sprint(os.Getuid())).Replace(tc.text)
			if bad == nil || bad.Condition != tc.condition || bad.String() != want || bad.Stack != "x" {
				t.Errorf("refused with %+v\nwant %s %s", bad, tc.condition, want)
			}
			if s.Stacks["x"].Hash != "" {
				t.Error("a refused stack has a hash")
			}
			if good := s.Stacks["good"]; good.Err != nil || !s.Complete || !slices.Contains(s.Changed, "good") {
				t.Errorf("the other stack noticed: %+v", s)
			}
		})
	}
}

func TestW44ADirectoryOthersCanWriteIsNotBelieved(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o775, 0o777 | os.ModeSticky} {
		dir := newDir(t)
		put(t, dir+"/x.yaml", "x")
		must(t, os.Chmod(dir, mode))
		s := glance(dir)
		if s.Complete || len(s.Stacks) != 0 || len(s.Problems) != 1 || s.Problems[0].Condition != Untrusted ||
			!strings.Contains(s.Problems[0].String(), dir+": can be written by others than its owner (owner uid ") {
			t.Errorf("mode %v: %+v", mode, s)
		}
	}
}

func TestW44AParentOthersCanWriteIsNotBelieved(t *testing.T) {
	top := newDir(t)
	dir := filepath.Join(top, "a/b/stacks")
	put(t, dir+"/x.yaml", "x")
	link := filepath.Join(newDir(t), "link")
	must(t, os.Symlink(dir, link))
	for _, path := range []string{dir, link} {
		must(t, os.Chmod(top+"/a", 0o777))
		s := glance(path)
		if s.Complete || len(s.Problems) != 1 || s.Problems[0].Path != top+"/a" {
			t.Errorf("%s: %+v", path, s.Problems)
		}
		must(t, os.Chmod(top+"/a", 0o777|os.ModeSticky))
		s = glance(path)
		if !s.Complete || len(s.Stacks) != 1 {
			t.Errorf("%s below a sticky directory, where nobody can replace it: %+v", path, s.Problems)
		}
	}
}

func TestForeignOwnersAreNotBelieved(t *testing.T) {
	trust := trust{owners: []uint32{0, 1000}}
	for _, tc := range []struct {
		uid, mode uint32
		want      string
	}{
		{0, 0o644, ""},
		{1000, 0o600, ""},
		{1001, 0o644, "belongs to somebody else than root or the owner of the stack directory (owner uid 1001, mode 0644), " +
			"who could so run anything on this host: chown root /x.yaml"},
	} {
		got := problem(trust.judge("/x.yaml", &syscall.Stat_t{Uid: tc.uid, Mode: tc.mode})).Text
		if got != tc.want {
			t.Errorf("uid %d, mode %o: %q", tc.uid, tc.mode, got)
		}
	}
}

// openWay lets everybody reach a directory of newDir.
func openWay(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755))
}

// asNobody runs f without the right to read everything.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if os.Getuid() == 0 {
			must(t, unix.Setfsuid(65534))
		}
		f()
	}()
	<-done
}

func TestW37AnUnreadableDirectory(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/x.yaml", "x")
	openWay(t, dir)
	must(t, os.Chmod(dir, 0))
	asNobody(t, func() {
		s := glance(dir)
		want := dir + ": cannot be read (permission denied): its stacks keep running as they are; make it a readable directory again"
		if s.Complete || len(s.Problems) != 1 || s.Problems[0].String() != want {
			t.Errorf("%+v", s)
		}
	})
	must(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "x.yaml")
	if s := glance(file); s.Complete || !strings.Contains(s.Problems[0].Text, "not a directory") {
		t.Errorf("a file in the place of the directory: %+v", s)
	}
}

func TestAnUnreadableFileOrSubdirectoryIsItsStacksProblem(t *testing.T) {
	dir := newDir(t)
	openWay(t, dir)
	put(t, dir+"/secret.yaml", "x")
	put(t, dir+"/shut/compose.yaml", "x")
	put(t, dir+"/good.yaml", "x")
	put(t, dir+"/half.yaml", "x")
	put(t, dir+"/half.d/1.yaml", "x")
	must(t, os.Chmod(dir+"/secret.yaml", 0o600))
	must(t, os.Chmod(dir+"/shut", 0o700))
	must(t, os.Chmod(dir+"/half.d", 0o700))
	if os.Getuid() != 0 { // our own files: take the rights away from ourselves too
		must(t, os.Chmod(dir+"/secret.yaml", 0))
		must(t, os.Chmod(dir+"/shut", 0))
		must(t, os.Chmod(dir+"/half.d", 0))
	}
	asNobody(t, func() {
		s := glance(dir)
		for name, want := range map[string]string{
			"secret": "cannot be read by this service, which runs as uid " + fmt.Sprint(os.Getuid()) +
				" (permission denied): give it to root with mode 0644, or to its group with mode 0640",
			"shut": "cannot be listed (permission denied)",
			"half": "cannot be listed (permission denied)",
			"good": "",
		} {
			if got := problem(s.Stacks[name].Err).Text; got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
	must(t, os.Chmod(dir+"/shut", 0o700))
	must(t, os.Chmod(dir+"/half.d", 0o700))
}

// The directory of a bind mount, which its application closed, is no stack; one that was a stack is kept.
func TestClosedDataDirectoryIsNoStack(t *testing.T) {
	if os.Getuid() != 0 {
		return // Nobody else can give a directory away.
	}
	dir := newDir(t)
	openWay(t, dir)
	put(t, dir+"/data/PG_VERSION", "17")
	must(t, os.Chown(dir+"/data", 70, 70))
	must(t, os.Chmod(dir+"/data", 0o700))
	asNobody(t, func() {
		l := scan(request{dirs: []string{dir}}).layers[0]
		if len(l.found) != 0 {
			t.Errorf("found %v", l.found)
		}
		l = scan(request{dirs: []string{dir}, known: map[string]bool{"data": true}}).layers[0]
		if l.found["data"].stack.Err == nil {
			t.Errorf("a stack that was closed is not reported: %v", l.found)
		}
	})
}

func TestW11LinksInsideAreFollowed(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/..2024/blog.yaml", "one")
	put(t, dir+"/..2025/blog.yaml", "two")
	must(t, os.Symlink("..2024", dir+"/..data"))
	must(t, os.Symlink("..data/blog.yaml", dir+"/blog.yaml"))
	before := glance(dir).Stacks["blog"]
	must(t, os.Symlink("..2025", dir+"/..data_tmp"))
	must(t, os.Rename(dir+"/..data_tmp", dir+"/..data"))
	after := glance(dir).Stacks["blog"]
	if before.Err != nil || after.Err != nil || before.Hash == "" || before.Hash == after.Hash {
		t.Errorf("before %+v, after %+v", before, after)
	}
	must(t, os.Chmod(dir+"/..2025", 0o777))
	if bad := glance(dir).Stacks["blog"].Err; bad == nil || bad.Path != dir+"/..2025" {
		t.Errorf("where the link leads, others can write: %v", bad)
	}
}

func TestW13AHardLinkedFileIsReadWithAWarning(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/blog.yaml", "one")
	must(t, os.Link(dir+"/blog.yaml", dir+"/../other"))
	s := glance(dir)
	if s.Stacks["blog"].Err != nil || len(s.Problems) != 1 || s.Problems[0].Condition != HardLinked || s.Problems[0].Stack != "blog" {
		t.Errorf("%+v", s)
	}
}

func TestW39ManyFiles(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/notes", "x")
	for i := range 10_000 {
		must(t, os.Link(dir+"/notes", fmt.Sprintf("%s/notes-%05d.txt", dir, i)))
	}
	for i := range maxStacks + 5 {
		must(t, os.WriteFile(fmt.Sprintf("%s/s%04d.yaml", dir, i), []byte("x"), 0o644))
	}
	known := map[string]bool{"s1004": true}
	_, snap := compare(begin([]string{dir}, nil), scan(request{dirs: []string{dir}, known: known}), belief{trusted: true}, time.Now())
	if len(snap.Stacks) != maxStacks || len(snap.Problems) != 1 || snap.Problems[0].Condition != TooMany {
		t.Errorf("%d stacks, %+v", len(snap.Stacks), snap.Problems)
	}
	if _, ok := snap.Stacks["s1004"]; !ok {
		t.Error("a stack that runs already was left out")
	}
	if _, ok := snap.Stacks["s0999"]; ok {
		t.Error("the last new stack was not left out")
	}
}

func TestAChangeWhileReadingIsNoticed(t *testing.T) {
	dir := newDir(t)
	path := dir + "/x.yaml"
	for name, meddle := range map[string]func(){
		"appended":  func() { put(t, path, "longer than before") },
		"rewritten": func() { put(t, path, "two"); must(t, os.Chtimes(path, time.Unix(5, 0), time.Unix(5, 0))) },
	} {
		put(t, path, "one")
		before, err := os.Stat(path)
		must(t, err)
		meddle()
		after, err := os.Stat(path)
		must(t, err)
		if sameState(before, after) || !sameState(after, after) {
			t.Errorf("%s: not noticed", name)
		}
	}
	for name, meddle := range map[string]func(){
		"replaced": func() { put(t, dir+"/.new", "one"); must(t, os.Rename(dir+"/.new", path)) },
		"removed":  func() { must(t, os.Remove(path)) },
		"nothing":  func() {},
	} {
		put(t, path, "one")
		s := everywhere()
		looks := 0
		s.stat = func(name string) (os.FileInfo, error) {
			looks++
			if looks == 2 { // the look after the reading
				meddle()
			}
			return os.Stat(name)
		}
		r := s.read(path, maxFile)
		if r.unstable != (name != "nothing") || looks != 2 {
			t.Errorf("%s: %+v after %d looks", name, r, looks)
		}
	}
}

func TestW38APipePutInPlaceOfTheFileDoesNotBlock(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/file", "x")
	must(t, unix.Mkfifo(dir+"/x.yaml", 0o644))
	s := everywhere()
	s.stat = func(string) (os.FileInfo, error) { return os.Stat(dir + "/file") } // what was there at the first look
	r := s.read(dir+"/x.yaml", maxFile)
	if r.refused == nil || !strings.Contains(r.refused.Text, "is a named pipe") {
		t.Errorf("%+v", r)
	}
}

func TestReferredFilesOfEveryKindCanBeHashed(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/blog.yaml", "x")
	must(t, unix.Mkfifo(dir+"/pipe", 0o644))
	must(t, os.Mkdir(dir+"/sub", 0o755))
	refs := []string{dir + "/absent", dir + "/pipe", dir + "/sub", "/dev/zero", dir + "/big", dir + "/conf", dir + "/blog.yaml"}
	hash := func() string {
		s := scan(request{dirs: []string{dir}, refs: map[string][]string{"blog": refs}})
		f := s.layers[0].found["blog"]
		if f.unstable || f.stack.Err != nil || strings.Contains(f.refs, "blog.yaml") {
			t.Fatalf("%+v", f)
		}
		return f.stack.Hash
	}
	last := hash()
	for what, change := range map[string]func(){
		"created": func() { put(t, dir+"/absent", "") },
		"edited":  func() { put(t, dir+"/conf", "two") },
		"large":   func() { must(t, os.WriteFile(dir+"/big", make([]byte, maxReferred+1), 0o644)) },
		"removed": func() { must(t, os.RemoveAll(dir+"/sub")) },
	} {
		change()
		next := hash()
		if next == last {
			t.Errorf("%s: the hash did not change", what)
		}
		last = next
		if hash() != last {
			t.Errorf("%s: the hash is not stable", what)
		}
	}
}

func TestADirectoryHasAnIdentity(t *testing.T) {
	dir := newDir(t)
	first := openLayer(dir, nil)
	first.close()
	again := openLayer(dir, nil)
	again.close() // an inode that is held open is not used again
	must(t, os.Remove(dir))
	must(t, os.Mkdir(dir, 0o755))
	other := openLayer(dir, nil)
	defer other.close()
	if first.id != again.id || first.id == other.id || first.id.ino == 0 || first.remote {
		t.Errorf("ids %+v, %+v, of the re-created one %+v", first.id, again.id, other.id)
	}
}
