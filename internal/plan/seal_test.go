package plan_test

import (
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestHashesStay: an agent that was upgraded must find the hashes of the one before, or what ended by itself would be
// started again.
func TestHashesStay(t *testing.T) {
	p := plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog",
		Services: []plan.Service{{
			Name: "web", Image: plan.ImageRef{Ref: "nginx:1.27"}, Replicas: 1,
			Environment: map[string]string{"A": "<b> & \"c\" \\ d\te", "B": "\u2028 ü \x01 \xff end", "EMPTY": ""},
			Config:      map[string]string{"limits.kernel.nofile": "10"},
			Mounts:      []plan.Mount{{Type: plan.MountTmpfs, Target: "/run/a b"}},
			Files:       []plan.File{{Name: "c", Target: "/etc/c", Content: []byte("x"), UID: -1, GID: -1}},
			Sandbox:     plan.Sandbox{ReadOnly: true},
		}},
	}
	d := plan.Render(p, input(p, newWorld().Observed, newLedger()))
	got := d.Instances[0].Config
	for key, want := range map[string]string{plan.KeyBoot: "9310dc41e61e40fc79172bac294deb06", plan.KeySpec: "5a80c0df3e2539e2"} {
		if got[key] != want {
			t.Errorf("%s is %s, and was %s", key, got[key], want)
		}
	}
}
