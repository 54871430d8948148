package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFindSeesWhatTheDaemonSees(t *testing.T) {
	dir := newDir(t)
	for _, name := range []string{
		"blog.yaml", "blog.override.yaml", "blog.incus.yml", "blog.d/10.yaml", "blog.env", ".env", "other.yaml", "other.env",
		"shop/docker-compose.yml", "shop/compose.override.yaml", "shop/.env", "shop/shop.d/1.yaml", "shop.d/2.yaml", "shop/data",
	} {
		put(t, filepath.Join(dir, name), name)
	}
	daemon := glance(dir)
	for path, name := range map[string]string{"blog.yaml": "blog", "shop": "shop", "shop/docker-compose.yml": "shop", "other.yaml": "other"} {
		got, err := Find(filepath.Join(dir, path))
		must(t, err)
		diff := cmp.Diff(daemon.Stacks[name], got)
		if diff != "" || got.Hash == "" {
			t.Errorf("%s (-daemon +found):\n%s", path, diff)
		}
	}
}

func TestFindTakesTheFileThatWasNamed(t *testing.T) {
	dir := newDir(t)
	put(t, dir+"/My.App/compose.yaml", "a")
	put(t, dir+"/My.App/docker-compose.yml", "b")
	must(t, os.Chmod(dir+"/My.App", 0o777)) // nobody asks who owns it
	got, err := Find(dir + "/My.App/docker-compose.yml")
	must(t, err)
	want := []string{dir + "/My.App/docker-compose.yml"}
	if diff := cmp.Diff(want, got.Files); diff != "" || got.Name != "my-app" || got.Err != nil {
		t.Errorf("%+v\n%s", got, diff)
	}
	t.Chdir(dir + "/My.App")
	got, err = Find("compose.yaml")
	must(t, err)
	if got.Dir != dir+"/My.App" || got.Name != "my-app" {
		t.Errorf("%+v", got)
	}
	got, err = Find(".")
	must(t, err)
	if got.Dir != dir+"/My.App" || filepath.Base(got.Files[0]) != "compose.yaml" {
		t.Errorf("%+v", got)
	}
}

func TestFindSaysWhatToDo(t *testing.T) {
	dir := newDir(t)
	for _, name := range []string{"Blog.yaml", "blog.override.yaml", "README", "empty/x", ".hidden.yaml", "over/compose.override.yaml"} {
		put(t, filepath.Join(dir, name), "x")
	}
	for name, want := range map[string]string{
		"Blog.yaml":          "rename it to blog.yaml",
		"blog.override.yaml": "is an override of the stack blog: name that stack's own file instead",
		"README":             "let it end in .yaml",
		".hidden.yaml":       "would be ignored",
		"empty":              "holds no compose.yaml",
		"over":               "holds no compose.yaml",
		"nowhere.yaml":       "does not exist: give a compose file or a directory with a compose.yaml",
	} {
		_, err := Find(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	put(t, dir+"/none.yaml", "")
	st, err := Find(dir + "/none.yaml")
	if err != nil || st.Err == nil || !strings.Contains(st.Err.Text, "is empty") {
		t.Errorf("%+v, %v", st, err)
	}
}
