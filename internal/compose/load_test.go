package compose

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// loadText loads a single blog.yaml in this process.
func loadText(t testing.TB, yaml string) (plan.Project, error) {
	t.Helper()

	return Load(t.Context(), stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte(yaml)}}))
}

func TestSameFilesGiveTheSameProject(t *testing.T) {
	arc, err := txtar.ParseFile("testdata/networks.txtar")
	if err != nil {
		t.Fatal(err)
	}

	in := stack(t, arc.Files[:1])
	want, err := Load(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	for range 10 {
		got, err := Load(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}

		diff := cmp.Diff(want, got, cmp.Comparer(func(a, b interface{ String() string }) bool { return a.String() == b.String() }))
		if diff != "" {
			t.Fatalf("the same files differ:\n%s", diff)
		}
	}
}

func TestHashCoversNamesAndContentsOfAllFiles(t *testing.T) {
	files := []txtar.File{
		{Name: "blog.yaml", Data: []byte("services: {web: {image: x, env_file: [a.env], configs: [c]}}\nconfigs: {c: {file: c.conf}}\n")},
		{Name: "a.env", Data: []byte("A=1\n")},
		{Name: "c.conf", Data: []byte("c\n")},
		{Name: ".env", Data: []byte("B=2\n")},
	}
	in := stack(t, files)
	p, err := Load(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	want := []string{filepath.Join(in.Dir, ".env"), filepath.Join(in.Dir, "a.env"), filepath.Join(in.Dir, "blog.yaml"), filepath.Join(in.Dir, "c.conf")}
	if !slices.Equal(p.Files, want) {
		t.Errorf("Files = %q, want %q", p.Files, want)
	}

	seen := map[string]string{p.Hash: "the first state"}
	for _, path := range want {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}

		err = os.WriteFile(path, append(b, '\n'), 0o644)
		if err != nil {
			t.Fatal(err)
		}

		p, err = Load(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}

		if seen[p.Hash] != "" {
			t.Errorf("a change of %s gives the hash of %s", path, seen[p.Hash])
		}

		seen[p.Hash] = path
	}
}

func TestNilAndEmptyCommandsSurviveTheChild(t *testing.T) {
	in := stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte("services: {a: {image: x}, b: {image: x, command: [], entrypoint: []}}\n")}})
	p, err := self().Load(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	a, b := p.Services[0].Process, p.Services[1].Process
	if a.Command != nil || a.Entrypoint != nil || b.Command == nil || b.Entrypoint == nil {
		t.Errorf("absent: %#v, empty: %#v; want nil and empty", a, b)
	}

	here, err := Load(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	diff := cmp.Diff(here, p, cmp.Comparer(func(a, b interface{ String() string }) bool { return a.String() == b.String() }))
	if diff != "" {
		t.Errorf("the child's project differs:\n%s", diff)
	}
}

// The host's environment is the agent's: secrets of other stacks may be in it.
func TestHostEnvironmentIsInvisible(t *testing.T) {
	t.Setenv("HOST_SECRET", "leaked")
	p, err := self().Load(t.Context(), stack(t, []txtar.File{
		{Name: "blog.yaml", Data: []byte("include: [sub/compose.yaml]\nservices:\n  web:\n    image: x\n    env_file: a.env\n    environment: [HOST_SECRET, 'PATH', 'B=${HOST_SECRET}', 'C=${PATH}']\n")},
		{Name: "a.env", Data: []byte("A=${HOST_SECRET}\nHOST_SECRET\n")},
		{Name: "sub/compose.yaml", Data: []byte("services: {app: {image: 'x:a${HOST_SECRET}', environment: [HOME]}}\n")},
	}))
	if err != nil {
		t.Fatal(err)
	}

	diff := cmp.Diff(map[string]string{"A": "", "B": "", "C": ""}, p.Services[1].Environment)
	if diff != "" || p.Services[0].Image.Ref != "x:a" || len(p.Services[0].Environment) > 0 {
		t.Errorf("image %q, environment of app %v, of web:\n%s", p.Services[0].Image.Ref, p.Services[0].Environment, diff)
	}
}

func TestFilesInsideThroughLinksAreRead(t *testing.T) {
	in := stack(t, []txtar.File{
		{Name: "blog.yaml", Data: []byte("services: {web: {image: x, env_file: link.env}}\n")},
		{Name: "real/a.env", Data: []byte("A=1\n")},
	})
	err := os.Symlink("real/a.env", filepath.Join(in.Dir, "link.env"))
	if err != nil {
		t.Fatal(err)
	}

	// The stack's directory itself may be a link, and its main file too.
	link := filepath.Join(t.TempDir(), "blog")
	err = os.Symlink(in.Dir, link)
	if err != nil {
		t.Fatal(err)
	}

	p, err := Load(t.Context(), Input{Stack: "blog", Dir: link, Files: []string{filepath.Join(link, "blog.yaml")}})
	if err != nil {
		t.Fatal(err)
	}

	if p.Services[0].Environment["A"] != "1" {
		t.Errorf("environment = %v", p.Services[0].Environment)
	}
}

// compose-go opens included files after we have looked at them.
func TestExchangedFilesAreNoticed(t *testing.T) {
	in := stack(t, []txtar.File{{Name: "a.yaml", Data: []byte("a: 1\n")}, {Name: "b.yaml", Data: []byte("b: 1\n")}})
	f, err := openFiles(in.Dir)
	if err != nil {
		t.Fatal(err)
	}

	defer f.close() //nolint:errcheck // nothing was written
	path := filepath.Join(in.Dir, "a.yaml")
	_, err = f.referred(path)
	if err != nil || !f.unchanged(path) {
		t.Fatalf("at rest: %v, unchanged %v", err, f.unchanged(path))
	}

	err = os.Rename(filepath.Join(in.Dir, "b.yaml"), path)
	if err != nil {
		t.Fatal(err)
	}

	if f.unchanged(path) {
		t.Error("another file in its place counts as unchanged")
	}
}

func TestOnlyKnownReferencesReachComposeGo(t *testing.T) {
	g := guard{allowed: map[string]bool{"a.yaml": true}}
	if g.Accept("a.yaml") || !g.Accept("/etc/passwd") {
		t.Error("the guard takes what it must leave to compose-go, or leaves what it must take")
	}

	_, err := g.Load(t.Context(), "/etc/passwd")
	if err == nil {
		t.Error("a reference nobody has seen is loaded")
	}
}

// Env files hold secrets, and messages go to the journal.
func TestMessagesDoNotQuoteEnvFiles(t *testing.T) {
	for _, line := range []string{"PASSWORD='hunter2", "PASSWORD$hunter2=x", "PASS WORD=hunter2", "hunter2"} {
		err := loadFiles(t, txtar.File{Name: "blog.yaml", Data: []byte("services: {web: {image: x, env_file: a.env}}\n")},
			txtar.File{Name: "a.env", Data: []byte("A=1\n" + line + "\n")})
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A file that is created later is a reason to try again.
func TestRefusalNamesTheFilesToWatch(t *testing.T) {
	in := stack(t, []txtar.File{
		{Name: "blog.yaml", Data: []byte("services: {web: {image: x, env_file: [a.env, gone.env, /etc/passwd]}}\n")},
		{Name: "a.env", Data: []byte("A=1\n")},
	})
	_, err := self().Load(t.Context(), in)
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("error = %v, want an *Error", err)
	}

	want := []string{filepath.Join(in.Dir, "a.env"), filepath.Join(in.Dir, "blog.yaml"), filepath.Join(in.Dir, "gone.env")}
	if !slices.Equal(refused.Files, want) {
		t.Errorf("Files = %q, want %q", refused.Files, want)
	}
}

func loadFiles(t testing.TB, files ...txtar.File) error {
	t.Helper()
	_, err := Load(t.Context(), stack(t, files))

	return err
}

func TestProblemsPrintOneALine(t *testing.T) {
	err := refuse([]Problem{
		{File: "/etc/x/blog.yaml", Line: 9, Key: "b", Text: "second"},
		{File: "/etc/x/blog.yaml", Line: 7, Key: "services.web.ports", Text: "port 80 is taken", Hint: "choose another"},
		{File: "/etc/x/blog.yaml", Line: 7, Key: "services.web.ports", Text: "port 80 is taken", Hint: "choose another"},
		{Text: "of no file"},
	})
	want := "of no file\nblog.yaml:7: services.web.ports: port 80 is taken (choose another)\nblog.yaml:9: b: second"
	if err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}

	if refuse(nil) != nil {
		t.Error("no problems are an error")
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tc := range []struct{ got, want string }{
		{Slug("My_App.2"), "my-app-2"},
		{Slug("Crème brûlée!"), "creme-brulee"},
		{Slug("--a__b--"), "a--b"},
		{Slug("a - . b"), "a-b"},
		{Slug("___"), "bda251550bf0478f4172a8aeb291d654"},
		{Slug(long), "ffe054fe7ae0cb6dc65c3af9b61d5209"},
		{ProjectName("my_blog"), "my-blog"},
		{InstanceName("web_1", 2), "web-1-2"},
		{InstanceName(strings.Repeat("a", 58), 10), strings.Repeat("a", 58) + "-10"},
		{VolumeName("My_Data"), "vol-my-data"},
		{NetworkName("blog", "default"), "blog-default"},
		{NetworkName("blog_a", "front"), "blog-a-front"},
		{NetworkName("blogs", "default"), "blogs-default"},
		{NetworkName("myblog", "default"), "ic-ab2fy4sql2"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
}

// TestHashIsNotOfTheName: a stack whose files are renamed, or moved to another directory, is the same; other contents are
// not.
func TestHashIsNotOfTheName(t *testing.T) {
	load := func(stack, port string) string {
		t.Helper()
		dir := t.TempDir()
		write := func(name, content string) string {
			path := filepath.Join(dir, name)
			err := os.WriteFile(path, []byte(content), 0o600)
			if err != nil {
				t.Fatal(err)
			}

			return path
		}
		main := write(stack+".yaml", "name: shop\nservices: {web: {image: nginx, ports: ['"+port+"'], env_file: more.env}}\n")
		env := write(stack+".env", "A=1\n")
		write("more.env", "B=1\n")
		p, err := Load(t.Context(), Input{Stack: stack, Dir: dir, Files: []string{main}, Env: []string{env}})
		if err != nil {
			t.Fatal(err)
		}

		return p.Hash
	}
	if load("shop", "80") != load("store", "80") {
		t.Error("another name gives another hash")
	}

	if load("shop", "80") == load("shop", "81") {
		t.Error("another content gives the same hash")
	}
}
