package apply_test

import (
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// A value that Incus refuses is named with its key, and with the line it came from.
func TestRefusedValueIsNamedWithItsLine(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.edit(blog("1", func(p *plan.Project) {
			db := &p.Services[0]
			db.XIncus = map[string]string{"limits.nosuch": "12"}
			db.Origins = map[string]plan.Place{"limits.nosuch": {File: "blog.yaml", Line: 9}}
		}))

		var got []string
		for _, c := range b.loop.View().Ledger.Conditions {
			got = append(got, c.Text)
		}

		if text := strings.Join(got, "\n"); !strings.Contains(text, `limits.nosuch is "12" (blog.yaml:9)`) {
			t.Errorf("the conditions are:\n%s", text)
		}
	})
}
