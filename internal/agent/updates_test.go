package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A generation has the snapshots taken before its update, and those of what it left when data went back.
func TestSnapshotsOfAGeneration(t *testing.T) {
	v := &apply.View{Ledger: plan.Ledger{Snapshots: []plan.Snapshot{
		{Pool: "default", Volume: "vol-db", Name: "before", Generation: 3, Service: "db"},
		{Pool: "default", Volume: "vol-db", Name: "left", Generation: 3},
		{Pool: "default", Volume: "vol-db", Name: "other", Generation: 2, Service: "db"},
	}}}
	g := generationOf(plan.Generation{Number: 3}, v)
	if diff := cmp.Diff([][]string{{"default/vol-db/before"}, {"default/vol-db/left"}}, [][]string{g.Snapshots, g.Left}); diff != "" {
		t.Error(diff)
	}
}
