package apply_test

import (
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A container_name is the name of the only instance, not of a candidate beside it.
func TestServiceWithANameOfItsOwnIsUpdated(t *testing.T) {
	named := func(p *plan.Project) { p.Services[0].ContainerName = "the-database" }
	inBubble(t, func(b *bench) {
		b.edit(blog("1", named))
		time.Sleep(10 * time.Minute) // it does well
		b.mustBe(apply.InSync)
		b.edit(blog("2", named, func(p *plan.Project) { p.Services[0].Environment = map[string]string{"MODE": "b"} }))
		time.Sleep(10 * time.Minute)
		b.mustBe(apply.InSync)
		b.mustRun("the-database", "web-1", "web-2")
		i, _ := b.server.Instance("blog", "the-database")
		if i.Config["environment.MODE"] != "b" {
			t.Errorf("it has MODE %q", i.Config["environment.MODE"])
		}
	})
}
