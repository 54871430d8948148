package compose

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// covered loads blog.yaml through a real child and prints its coverage.
func covered(t *testing.T, yaml string) string {
	t.Helper()
	in := stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte(yaml)}})
	in.Coverage = true
	r, err := self().Report(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	var b strings.Builder
	for _, c := range r.Coverage {
		fmt.Fprintf(&b, "%s:%d %s: %s: %s\n", filepath.Base(c.File), c.Line, c.Key, c.Verdict, c.Text)
	}

	return b.String()
}

func TestCoverageSaysWhatBecomesOfEachKey(t *testing.T) {
	got := covered(t, `name: Blog
services:
  web:
    image: nginx
    isolation: default
    container_name: my_web
    scale: 1
    x-mine: nothing to say
  other:
    image: redis
    profiles: [debug]
`)
	want := `blog.yaml:1 name: honoured differently: the name "Blog" becomes "blog": project names have lower-case letters, digits, - and _ only
blog.yaml:4 services.web.image: honoured: ` + coverage()["image"].text + `
blog.yaml:5 services.web.isolation: ignored: ignored, a Windows key: remove it
blog.yaml:6 services.web.container_name: honoured differently: the instance is called my-web, as Incus accepts letters, digits and hyphens only; other services find it by both names
blog.yaml:7 services.web.scale: honoured: the number of instances, as deploy.replicas
`
	diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCoverageOfARefusedStack(t *testing.T) {
	got := covered(t, "services:\n  web:\n    image: nginx\n    working_dir: here\n")
	want := `blog.yaml:3 services.web.image: honoured: ` + coverage()["image"].text + `
blog.yaml:4 services.web.working_dir: refused: "here" is not an absolute path (begin it with "/")
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCoverageIsForThoseWhoAsk(t *testing.T) {
	in := stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte("services:\n  web:\n    image: nginx\n")}})
	r, err := self().Report(t.Context(), in)
	if err != nil || r.Project == nil || r.Coverage != nil {
		t.Errorf("%v, project %v, coverage %v", err, r.Project != nil, r.Coverage)
	}
}
