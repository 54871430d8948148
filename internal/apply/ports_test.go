package apply_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestChosenPortOutlivesScalingToNothing: nobody else gets it meanwhile, and the service has it again.
func TestChosenPortOutlivesScalingToNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		synctest.Wait()
		next := uint16(61000)
		var claimed []plan.Listen
		b.host.FreePort = func(context.Context, string, string, []plan.Listen) uint16 {
			next++
			return next
		}
		b.host.Ports = func(_ context.Context, _ string, all, _ []plan.Listen) map[plan.Listen]string {
			claimed = all
			return nil
		}
		replicas := func(n int) func(*plan.Project) {
			return func(p *plan.Project) {
				p.Services[1].Ports = []plan.Port{{Target: 80, Protocol: "tcp"}}
				p.Services[1].Replicas = n
			}
		}
		for i, n := range []int{2, 0, 1, 2} {
			b.edit(blog(string(rune('1'+i)), replicas(n)))
			b.mustBe(apply.InSync)
			if got := b.loop.View().Ledger.Ports["web 80/tcp"]; got != 61001 {
				t.Errorf("with %d replicas the port is %d", n, got)
			}

			if !slices.ContainsFunc(claimed, func(l plan.Listen) bool { return l.Port == 61001 }) {
				t.Errorf("with %d replicas nobody holds it: %v", n, claimed)
			}
		}
	})
}
