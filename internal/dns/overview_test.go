package dns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestOverview(t *testing.T) {
	recs := append(replicas("web", 3), Record{Project: "shop", Service: "job", On: []Interface{{Network: "front"}}})
	recs[1].Up, recs[2].Draining = false, true
	got := Build("incus", 7, loNets, recs).Overview()
	want := Overview{
		Origin: "incus", Serial: 7, TTL: 5,
		Views: []ViewOverview{
			{Name: "front", Key: "front", Project: "shop", Clients: 3},
			{Name: "data", Key: "data", Project: "shop", Inside: "network data of shop is internal"},
		},
		Projects: []ProjectOverview{{Name: "shop", Zone: "shop.incus", Names: 5, Instances: 3, Answered: 1}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(ViewOverview{}, "Subnets", "Gateways")); diff != "" {
		t.Error(diff)
	}
	if len(got.Views[0].Subnets) != 1 || len(got.Views[0].Gateways) != 1 {
		t.Errorf("%v", got.Views[0])
	}
	var none *Zone
	if diff := cmp.Diff(Overview{}, none.Overview()); diff != "" {
		t.Error(diff)
	}
}
