package image

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The wanted values come from sha256sum, fed with the digests as Incus concatenates them.
func TestFingerprintIsThatOfIncus(t *testing.T) {
	layer := func(hex string) v1.Descriptor {
		return v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: hex}}
	}
	a := layer("51a300000000000000000000000000000000000000000000000000000000ffee")
	b := layer("0100000000000000000000000000000000000000000000000000000000000002")
	for _, tc := range []struct {
		layers []v1.Descriptor
		want   string
	}{
		{[]v1.Descriptor{a}, "a2b708c16257fec4e53e906968f2b7f3ad397e63b99c12a8100e3eed3f3c0924"},
		{[]v1.Descriptor{a, b}, "9626c69dbeadd0c04582e02a2eb011eb93ae4186acfaf2af9af2c9d3c94689ea"},
	} {
		got := fingerprint(tc.layers)
		if got != tc.want {
			t.Errorf("fingerprint of %d layers = %s, want %s", len(tc.layers), got, tc.want)
		}
	}
}

func TestConfigsThatAreOdd(t *testing.T) {
	for _, tc := range []struct {
		name, config string
		want         *plan.Healthcheck
		wrong        bool
	}{
		{"no JSON", `<html>`, nil, true},
		{"nothing", `{}`, nil, false},
		{"a check switched off", `{"config":{"Healthcheck":{"Test":["NONE"]}}}`, &plan.Healthcheck{Test: []string{"NONE"}}, false},
		{"a check that tests nothing", `{"config":{"Healthcheck":{"Interval":5}}}`, nil, false},
		{
			"an interval of another kind", `{"config":{"Healthcheck":{"Test":["CMD","x"],"StartInterval":"5s"}}}`,
			&plan.Healthcheck{Test: []string{"CMD", "x"}}, false,
		},
		{"an empty environment entry", `{"config":{"Env":["","=x"]}}`, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var img plan.Image
			_, err := setConfig(&img, []byte(tc.config))
			if (err != nil) != tc.wrong {
				t.Fatalf("error = %v, want one: %v", err, tc.wrong)
			}
			if len(img.Env) > 0 {
				t.Errorf("environment = %v, want none", img.Env)
			}
			got := img.Healthcheck
			if (got == nil) != (tc.want == nil) || (got != nil && (got.Test[0] != tc.want.Test[0] || got.StartInterval != 0)) {
				t.Errorf("health check = %+v, want %+v", got, tc.want)
			}
		})
	}
}
