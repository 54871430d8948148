package apply_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// secretBlog is the blog whose database has a secret.
func secretBlog(hash, content string) plan.Project {
	p := blog(hash, func(p *plan.Project) {
		p.Files, p.SecretFiles = []string{"blog.yaml", "pw.txt"}, []string{"pw.txt"}
		p.Services[0].Files = []plan.File{{
			Name: "pw", Target: "/run/secrets/pw", Confidential: true, Secret: plan.NewSecret([]byte(content)), UID: -1, GID: -1,
		}}
	})
	p.Seal([]byte("key"))

	return p
}

// A secret is in none of what the loop keeps, and reaches the instance again after the agent was started anew, also
// when an earlier generation is gone back to.
func TestSecretIsNotKept(t *testing.T) {
	const canary = "canary-of-the-blog"
	inBubble(t, func(b *bench) {
		b.edit(secretBlog("1", canary))
		b.mustBe(apply.InSync)
		b.edit(secretBlog("2", canary+"-rotated"))
		b.mustBe(apply.InSync)

		source := b.loop.View().Observed.Instances["db-1"].Devices["secrets"]["source"]
		content, err := os.ReadFile(source + "/pw")
		if err != nil || string(content) != canary+"-rotated" {
			t.Errorf("the instance sees %q: %v", content, err)
		}

		g, err := b.db.Generation("blog", 1)
		if err != nil {
			t.Fatal(err)
		}

		for _, f := range g.Files {
			if f.Path == "pw.txt" && (f.Content != nil || f.Omitted == "") {
				t.Errorf("the secret's file is kept: %q", f.Content)
			}
		}

		b.end()
		kept, err := os.ReadFile(b.path)
		if err != nil || strings.Contains(string(kept), canary) {
			t.Errorf("the ledger holds the secret, or cannot be read: %v", err)
		}

		b.begin()
		b.see(apply.Source{Stack: "blog", Files: []string{"x"}, Hash: secretBlog("2", canary+"-rotated").Hash})
		done := make(chan struct{})
		b.loop.Rollback(1, "root", done)
		<-done
		b.mustBe(apply.InSync)
		content, err = os.ReadFile(source + "/pw")
		if err != nil || string(content) != canary+"-rotated" {
			t.Errorf("after going back the instance sees %q: %v", content, err)
		}
	})
}

// What a probe says may hold a secret: it is in nothing that the loop tells or keeps.
func TestSecretInAProbesWordsIsNotTold(t *testing.T) {
	const canary = `canary"of\the blog`
	inBubble(t, func(b *bench) {
		b.edit(secretBlog("1", canary))
		b.mustBe(apply.InSync)
		detail, err := json.Marshal(map[string]any{"since": time.Now(), "output": "no login with " + canary + " today"})
		if err != nil {
			t.Fatal(err)
		}

		b.must(plan.UpdateInstance{Name: "db-1", Config: map[string]string{plan.KeyHealthStatus: "unhealthy", plan.KeyHealthDetail: string(detail)}})
		b.loop.Dirty()
		b.pass(time.Second)
		v := b.loop.View()
		said := plan.Troubles(*v.Project, v.Observed, v.Ledger)
		if len(said) != 1 || !strings.Contains(said[0].Text, "no login with (secret) today") {
			t.Errorf("it says %v", said)
		}

		i, _ := b.server.Instance("blog", "db-1")
		if !strings.Contains(i.Config[plan.KeyHealthDetail], "canary") {
			t.Errorf("what the health daemon wrote was changed: %q", i.Config[plan.KeyHealthDetail])
		}
	})
}
