package build

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestIgnoreFollowsDocker(t *testing.T) {
	g := parseIgnore("# remark\n*.md\n!README.md\n/tmp\n**/cache\nsrc/*.o\na?c\n")
	for name, want := range map[string]bool{
		"notes.md": true, "README.md": false, "docs/notes.md": false, "tmp": true, "tmp/x": true, "src/tmp": false,
		"cache": true, "a/b/cache/x": true, "src/a.o": true, "src/deep/a.o": false, "abc": true, "abbc": false,
	} {
		if got := g.hides(name); got != want {
			t.Errorf("hides(%q) = %v, want %v", name, got, want)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	err := os.WriteFile(path, []byte(content), 0o644)
	if err != nil {
		t.Fatal(err)
	}
}

func TestKeyChangesWithWhatIsBuiltAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/Dockerfile", "FROM busybox\n")
	write(t, dir+"/page", "one")
	write(t, dir+"/.dockerignore", "*.md\n")
	var keys Keys
	key := func(b plan.Build) string {
		t.Helper()
		k, _, err := keys.Key("blog", "web", b)
		if err != nil {
			t.Fatal(err)
		}

		return k
	}
	b := plan.Build{Context: dir, Args: map[string]string{"A": "1"}}
	first := key(b)
	write(t, dir+"/notes.md", "ignored")
	b.At = plan.Place{File: "blog.yaml", Line: 7}
	if key(b) != first {
		t.Error("what is ignored, or where the build is written, changes the key")
	}

	b.Args = map[string]string{"A": "2"}
	second := key(b)
	write(t, dir+"/page", "two!")
	third := key(b)
	write(t, dir+"/Dockerfile", "FROM alpine\n")
	all := []string{first, second, third, key(b)}
	slices.Sort(all)
	if len(slices.Compact(all)) != 4 {
		t.Errorf("an argument, a file and the Dockerfile give the keys %q", all)
	}

	_, _, err := keys.Key("blog", "web", plan.Build{Context: dir, Dockerfile: dir + "/none"})
	if err == nil || !strings.Contains(err.Error(), "build.dockerfile") {
		t.Errorf("err = %v", err)
	}
}

func TestSecretsAreNamedByTheirFiles(t *testing.T) {
	args := buildArgs("buildah", Request{Name: "blog-web", Spec: plan.Build{
		Context: "/srv", Target: "run", Args: map[string]string{"B": "2", "A": "1"}, Secrets: []plan.BuildSecret{{ID: "token", File: "/srv/token"}}, Pull: true,
	}}, place{store: "/s", run: "/r", idFile: "/i", dockerfile: "/srv/Dockerfile", chroot: true})
	got := strings.Join(args, " ")
	want := "--root /s --runroot /r build --iidfile /i --file /srv/Dockerfile --format docker --layers --isolation chroot --tag blog-web " +
		"--target run --build-arg A=1 --build-arg B=2 --secret id=token,src=/srv/token --pull=always -- /srv"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A helper with a builder made of a script, over a socket as systemd hands it one.
func TestHelperBuildsAndSaysWhy(t *testing.T) {
	bin, cache := t.TempDir(), t.TempDir()
	write(t, bin+"/buildah", `#!/bin/sh
for a; do [ "$p" = --iidfile ] && echo sha256:1 > "$a"; p=$a; done
case " $* " in
*" build "*) echo "STEP 1"; [ ! -e fail ] || { echo "the reason" >&2; exit 3; } ;;
*" push "*) d=${p#dir:}; mkdir -p "$d" && echo '{}' > "$d/manifest.json" ;;
esac
`)
	err := os.Chmod(bin+"/buildah", 0o755)
	if err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dir := t.TempDir()
	write(t, dir+"/Dockerfile", "FROM busybox\n")
	ask := func() (string, []string, error) {
		sock := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", sock)
		if err != nil {
			t.Fatal(err)
		}

		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			defer conn.Close()
			_ = Helper{Cache: cache, Runtime: t.TempDir()}.Serve(context.WithoutCancel(t.Context()), conn, conn)
		}()

		var lines []string
		out, err := Client{Path: sock}.Build(t.Context(), Request{Key: strings.Repeat("a", 40), Name: "x", Spec: plan.Build{Context: dir}}, func(s string) { lines = append(lines, s) })

		return out, lines, err
	}

	out, lines, err := ask()
	if err != nil || out != Out(cache, strings.Repeat("a", 40)) || !slices.Equal(lines, []string{"STEP 1"}) {
		t.Errorf("built %q, said %q, %v", out, lines, err)
	}

	var m map[string]any
	b, err := os.ReadFile(out + "/manifest.json")
	if err != nil || json.Unmarshal(b, &m) != nil {
		t.Errorf("the image: %v", err)
	}

	write(t, dir+"/fail", "")
	_, lines, err = ask()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !slices.Contains(lines, "the reason") {
		t.Errorf("a build that fails: said %q, %v", lines, err)
	}
}
