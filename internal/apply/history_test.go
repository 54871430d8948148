package apply_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// generations lists what is kept, one line each.
func (b *bench) generations() string {
	b.t.Helper()
	all, err := b.db.Generations("blog")
	if err != nil {
		b.t.Fatal(err)
	}

	var out []string
	for _, g := range all {
		out = append(out, fmt.Sprintf("%d %s %s: %s: %s", g.Number, g.Hash, g.Who, g.Why, g.Outcome))
	}

	return strings.Join(out, "\n")
}

// TestGenerationsAreKept with who, why and what became of them; their plan, files, digests and last words, too.
func TestGenerationsAreKept(t *testing.T) {
	inBubble(t, func(b *bench) {
		files := func(p *plan.Project) { p.Files = []string{p.Source} }
		b.good(blog("1", files))
		b.edit(blog("2", files, mode("b")))
		b.exit("web-1", 3)
		b.pass(time.Minute)
		b.edit(blog("3", files, mode("c")))
		b.pass(5 * time.Minute)
		want := "1 1 alice: new stack: did well\n2 2 alice: the file changed: web went back: web-1: it ended with exit code 3\n3 3 alice: the file changed: did well"
		if got := b.generations(); got != want {
			t.Errorf("kept:\n%s\nwant:\n%s", got, want)
		}

		g, err := b.db.Generation("blog", 2)
		if err != nil {
			t.Fatal(err)
		}

		if !strings.Contains(g.Plan, "environment.MODE") || !strings.Contains(g.Evidence, "it ended with exit code 3") ||
			string(g.Files[0].Content) != "what /etc/incus-compose.d/blog.yaml says" || g.Digests["web:1"] != "sha256:web1" || g.Project.Hash != "2" {
			t.Errorf("kept of it: %+v", g)
		}
	})
}

// TestRollbackToAGeneration makes it the wanted one, with no registry, until the file changes or somebody asks to go
// on; an agent that was started since knows.
func TestRollbackToAGeneration(t *testing.T) {
	newer := func(p *plan.Project) { p.Services[1].Image.Ref = "web:2" }
	for _, c := range []struct {
		name, want string
		end        func(*bench)
	}{
		{"the file changes", "c Running, c Running", func(b *bench) { b.edit(blog("3", newer, mode("c"))) }},
		{"retry", "b Running, b Running", func(b *bench) {
			b.loop.Retry("", "root", nil)
			b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "2"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.good(blog("1"))
				b.good(blog("2", newer, mode("b")))
				b.images.set(fmt.Errorf("no route: %w", image.ErrUnavailable))
				b.loop.Rollback(1, "root", nil)
				b.pass(5 * time.Minute)
				b.mustHaveModes("a Running, a Running")
				b.end()
				b.begin()
				b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: "2"})
				b.pass(time.Hour)
				b.mustHaveModes("a Running, a Running")
				if text := b.condition("Pinned"); !strings.Contains(text, "root went back to generation 1: the file differs") {
					t.Errorf("it says %q", text)
				}

				i, _ := b.server.Instance("blog", "web-1")
				if i.Config["volatile.base_image"] != fingerprint("web:1") {
					t.Error("it is not the image of then")
				}

				b.images.set(nil)
				c.end(b)
				b.pass(5 * time.Minute)
				b.mustHaveModes(c.want)
				if text := b.condition("Pinned"); text != "" {
					t.Errorf("it still says %q", text)
				}
			})
		})
	}
}

// TestAnotherImageIsAGeneration of its own, and goes back alone.
func TestAnotherImageIsAGeneration(t *testing.T) {
	inBubble(t, func(b *bench) {
		always := func(p *plan.Project) { p.Services[1].Image.Pull = "always" }
		b.good(blog("1", always))
		b.end()
		b.images.revision = "b"
		b.begin()
		b.edit(blog("1", always))
		b.exit("web-1", 3)
		b.pass(time.Minute)
		got := b.generations()
		if !strings.Contains(got, "2 1 ic-agent: another image: web:1 is sha256:web1b now: web went back") {
			t.Errorf("kept:\n%s", got)
		}

		i, _ := b.server.Instance("blog", "web-1")
		if i.Config["volatile.base_image"] != fingerprint("web:1") || i.Status != "Running" {
			t.Errorf("it is %s on %s", i.Status, i.Config["volatile.base_image"])
		}
	})
}
