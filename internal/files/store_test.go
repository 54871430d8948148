package files_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/files"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// giveaway is a chown(2) that anybody may make: it remembers what is whose.
type giveaway map[string]string

func (g giveaway) chown(path string, uid, gid int) error {
	g[path] = fmt.Sprintf("%d:%d", uid, gid)
	return nil
}

// tree prints what is in a directory: mode, owner, path, content.
func (g giveaway) tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}

		info, err := d.Info()
		if err != nil {
			return err
		}

		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%v %s %s", info.Mode(), g[path], rel)
		if !d.IsDir() {
			content, rerr := os.ReadFile(path)
			if rerr != nil {
				return rerr
			}

			fmt.Fprintf(&b, " %q", content)
		}

		b.WriteString("\n")

		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}

	return b.String()
}

func secret(target, content string, uid int64, mode uint32) plan.File {
	return plan.File{Name: "s", Target: target, Confidential: true, Secret: plan.NewSecret([]byte(content)), UID: uid, GID: uid, Mode: mode}
}

func TestPlacedFilesAreExactlyThoseWanted(t *testing.T) {
	dir, own := t.TempDir(), giveaway{}
	s := files.Store{Dir: dir, Chown: own.chown}
	config := plan.File{Name: "c", Target: "/etc/app.conf", Content: []byte("a = 1\n"), UID: 33, GID: 34, Mode: 0o440}
	err := s.Place("blog", "web-1", []plan.File{config, secret("/run/secrets/pw", "hunter2", 999, 0o400), secret("/run/secrets/tls/key", "k", 0, 0o4444)}, "one")
	if err != nil {
		t.Fatal(err)
	}

	file := config.HostPath()
	want := `drwx------  blog
drwx------  blog/web-1
-rw-------  blog/web-1/.placed "one"
-r--r----- 33:34 blog/web-1/` + file + ` "a = 1\n"
drwxr-xr-x 0:0 blog/web-1/secrets
-r-------- 999:999 blog/web-1/secrets/pw "hunter2"
drwxr-xr-x 0:0 blog/web-1/secrets/tls
-r--r--r-- 0:0 blog/web-1/secrets/tls/key "k"
`
	clear := func(tree string) string { // where a file was before its rename is of no interest
		return strings.ReplaceAll(tree, "  ", " ")
	}
	own[filepath.Join(dir, "blog/web-1/secrets/pw")] = "999:999"
	own[filepath.Join(dir, "blog/web-1/secrets/tls/key")] = "0:0"
	diff := cmp.Diff(clear(want), clear(own.tree(t, dir)))
	if diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}

	before := inode(t, filepath.Join(dir, "blog/web-1", file))
	config.Content = []byte("b\n")
	err = s.Place("blog", "web-1", []plan.File{config}, "two")
	if err != nil {
		t.Fatal(err)
	}

	want = `drwx------ blog
drwx------ blog/web-1
-rw------- blog/web-1/.placed "two"
-r--r----- 33:34 blog/web-1/` + file + ` "b\n"
`
	diff = cmp.Diff(want, clear(own.tree(t, dir)))
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	if after := inode(t, filepath.Join(dir, "blog/web-1", file)); !os.SameFile(before, after) {
		t.Error("the mounted file is another one: a running instance would not see its new content")
	}

	got, err := s.Placed("blog")
	if err != nil || got["web-1"] != "two" {
		t.Errorf("Placed = %v, %v", got, err)
	}

	err = s.Remove("blog", "web-1")
	if err != nil || own.tree(t, dir) != "" {
		t.Errorf("left after Remove (%v):\n%s", err, own.tree(t, dir))
	}
}

func inode(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	return info
}

func TestBrokenOffPlacingHasNoHash(t *testing.T) {
	dir := t.TempDir()
	refused := errors.New("no")
	mine := files.Store{Dir: dir, Chown: giveaway{}.chown}
	err := mine.Place("blog", "web-1", []plan.File{secret("/run/secrets/pw", "1", 1, 0o400)}, "one")
	if err != nil {
		t.Fatal(err)
	}

	broken := files.Store{Dir: dir, Chown: func(string, int, int) error { return refused }}
	err = broken.Place("blog", "web-1", []plan.File{secret("/run/secrets/pw", "2", 1, 0o400)}, "two")
	if !errors.Is(err, refused) {
		t.Fatalf("Place = %v", err)
	}

	got, err := mine.Placed("blog")
	if err != nil || got["web-1"] != "" {
		t.Errorf("Placed = %v, %v: half of it passes for the whole", got, err)
	}
}

func TestNamesDoNotLeadOut(t *testing.T) {
	s := files.Store{Dir: filepath.Join(t.TempDir(), "files"), Chown: giveaway{}.chown}
	for _, name := range []string{"../x", "a/b", "", "/etc"} {
		err := s.Place("blog", name, []plan.File{{Target: "/x"}}, "h")
		if err == nil {
			t.Errorf("%q was taken for an instance's name", name)
		}
	}

	err := s.Place("blog", "web-1", []plan.File{{Target: "/run/secrets/../../../../etc/passwd", Content: []byte("x")}}, "h")
	if err != nil {
		t.Fatal(err)
	}

	got, _ := filepath.Glob(s.Dir + "/blog/web-1/file-*")
	if len(got) != 1 {
		t.Errorf("the file is elsewhere: %v", got)
	}
}
