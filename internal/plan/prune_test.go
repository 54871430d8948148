package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestSurplusIsOursUnneededAndOld(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	old := now.Add(-25 * time.Hour)
	have := map[string]plan.ObservedImage{
		"surplus":  {Owner: "me", Touched: old},
		"young":    {Owner: "me", Touched: now.Add(-time.Hour)},
		"running":  {Owner: "me", Touched: old},
		"previous": {Owner: "me", Touched: old},
		"earlier":  {Owner: "me", Touched: old},
		"used":     {Owner: "me", Touched: old},
		"theirs":   {Owner: "somebody", Touched: old},
		"by hand":  {Touched: old},
		"cached":   {Cached: true, Touched: old},
	}
	needed := map[string]bool{"used": true}
	plan.Ledger{
		Images:  map[string]plan.Image{"nginx": {Fingerprint: "running"}},
		Earlier: map[string]plan.Image{"nginx": {Fingerprint: "earlier"}},
		Good:    map[string]plan.Version{"web": {Image: plan.Image{Fingerprint: "previous"}}},
	}.Needs(needed)
	diff := cmp.Diff([]string{"surplus"}, plan.Surplus(have, "me", needed, 24*time.Hour, now))
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	if got := plan.Surplus(have, "", nil, 0, now); len(got) > 0 {
		t.Errorf("without an owner: %v", got)
	}
}
