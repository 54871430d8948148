package compose

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// childMain is what "ic-agent parse" does.
func childMain() int { return Main(context.Background(), os.Stdin, os.Stdout) }

// self is this test binary as the parse child; see TestMain. A busy machine may take its time.
func self() Child { return Child{Argv: []string{os.Args[0], "parse"}, Wall: 2 * time.Minute} }

// loadChild loads one blog.yaml through a real child.
func loadChild(t *testing.T, c Child, yaml string, more ...txtar.File) error {
	t.Helper()
	files := append([]txtar.File{{Name: "blog.yaml", Data: []byte(yaml)}}, more...)
	_, err := c.Load(t.Context(), stack(t, files))

	return err
}

func wantRefused(t *testing.T, err error, part string) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("error = %v, want an *Error", err)
	}

	if !strings.Contains(refused.Error(), part) {
		t.Errorf("refused with %q, want %q in it", refused, part)
	}
}

func TestChildAnswersAsLoadDoes(t *testing.T) {
	err := loadChild(t, self(), "services:\n  web:\n    image: nginx\n")
	if err != nil {
		t.Fatal(err)
	}

	wantRefused(t, loadChild(t, self(), "services:\n  web:\n    imgae: nginx\n"), "blog.yaml:3: services.web.imgae: unknown key \"imgae\" (did you mean image?)")
}

func TestChildThatCannotStart(t *testing.T) {
	for _, argv := range [][]string{nil, {"/nowhere/ic-agent", "parse"}} {
		err := loadChild(t, Child{Argv: argv}, "services: {}\n")
		var refused *Error
		if err == nil || errors.As(err, &refused) || !strings.HasPrefix(err.Error(), "start the parser: ") {
			t.Errorf("%q: %v, want an error that is not the file's", argv, err)
		}
	}
}

func TestChildEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := self().Load(ctx, stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte("services: {}\n")}}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want context.Canceled", err)
	}
}

func TestMainSaysWhatItCannotRead(t *testing.T) {
	for _, tc := range []struct{ stdin, want string }{
		{"not json", "read the request"},
		{`{"dir": "/nowhere"}`, "enter the stack's directory"},
		{`{"dir": "/"}`, "the stack has no compose file"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "parse")
		cmd.Stdin = strings.NewReader(tc.stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}

		r, err := decode(out)
		if err != nil || r.Error == nil {
			t.Fatalf("%s: %v, report %s", tc.stdin, err, out)
		}

		wantRefused(t, r.Error, tc.want)
	}
}

func BenchmarkChildTenServices(b *testing.B) {
	var yaml strings.Builder
	yaml.WriteString("services:\n")
	for n := range strings.SplitSeq("abcdefghij", "") {
		yaml.WriteString("  " + n + ":\n    image: nginx:alpine\n    ports: ['80" + string(rune('0'+n[0]-'a')) + "0:80']\n    environment: {A: b, C: d}\n    healthcheck: {test: curl -f http://localhost/, interval: 5s}\n    volumes: [data:/data]\n    restart: always\n")
	}

	yaml.WriteString("volumes:\n  data:\n")
	in := stack(b, []txtar.File{{Name: "blog.yaml", Data: []byte(yaml.String())}})
	for b.Loop() {
		_, err := self().Load(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
	}
}
