package agent

import (
	"testing"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A stop is a user's word when neither daemon asked for it and the loop is not stopping the instance itself: that its
// last plan was to stop it, and could not, does not matter.
func TestWhoStoppedIt(t *testing.T) {
	left := plan.Plan{Stack: "shop", Steps: []plan.Step{{N: 1, Op: plan.StopInstance{Name: "web-1"}}}}
	busy := map[string]bool{"web-1": true}
	for _, c := range []struct {
		name         string
		view         apply.View
		action, user string
		want         bool
	}{
		{"by a user", apply.View{}, "instance-shutdown", "root", true},
		{"forced by a user", apply.View{}, "instance-stopped", "root", true},
		{"by a user, while a plan that failed has its stop", apply.View{Plan: left}, "instance-shutdown", "root", true},
		{"by a user, while it is being stopped", apply.View{Plan: left, Stops: busy}, "instance-shutdown", "root", false},
		{"by a user, while another one is", apply.View{Plan: left, Stops: map[string]bool{"web-2": true}}, "instance-shutdown", "root", true},
		{"by the agent", apply.View{}, "instance-shutdown", "ic-agent", false},
		{"by the health daemon", apply.View{}, "instance-stopped", "ic-healthd", false},
		{"by itself", apply.View{}, "instance-shutdown", "", false},
		{"a start", apply.View{}, "instance-started", "root", false},
	} {
		h := incus.Hint{Kind: "instance", Project: "shop", Name: "web-1", Action: c.action, User: c.user}
		if got := stoppedByHand(&c.view, h, "ic-agent"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
