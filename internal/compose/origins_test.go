package compose

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// What a row makes, and what is written verbatim, is known by its line; x-incus has the last word.
func TestOriginsOfKeysAndDevices(t *testing.T) {
	in := stack(t, []txtar.File{{Name: "blog.yaml", Data: []byte(`services:
  web:
    image: nginx
    mem_limit: 512m
    sysctls:
      net.core.somaxconn: 1024
    pids_limit: 5
    x-incus:
      limits.processes: "7"
      limits.memory.swap: "false"
    x-incus-compose:
      devices:
        gpu0:
          type: gpu
`)}})
	p, err := Load(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}

	got := map[string]int{}
	for key, at := range p.Services[0].Origins {
		if filepath.Base(at.File) != "blog.yaml" {
			t.Errorf("%s comes from %s", key, at.File)
		}

		got[key] = at.Line
	}

	want := map[string]int{
		"limits.memory": 4, "linux.sysctl.net.core.somaxconn": 5, "limits.processes": 9, "limits.memory.swap": 10,
		plan.DeviceOrigin("gpu0"): 13,
	}
	diff := cmp.Diff(want, got)
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
