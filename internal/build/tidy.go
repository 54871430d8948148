package build

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// keepLayers is for how long the builder's store keeps what was built: until then a build that begins alike takes its
// first steps from it.
const keepLayers = 30 * 24 * time.Hour

// stored is an image of the store, as "buildah images --json" and "podman images --format json" tell of it.
type stored struct {
	ID      string   `json:"id"`
	Names   []string `json:"names"`
	Created int64    `json:"created"` // seconds since 1970
}

// stale tells of what was built long ago: it has no name, or one of ours. What came from a registry stays, so that
// the next build does not need the registry.
func (s stored) stale(built string, now time.Time) bool {
	theirs := func(name string) bool { return !strings.HasPrefix(name, "localhost/") }

	return now.Sub(time.Unix(s.Created, 0)) > keepLayers && !slices.ContainsFunc(s.Names, theirs) &&
		!strings.HasPrefix(strings.TrimPrefix(built, "sha256:"), s.ID)
}

// tidy keeps the store from growing with every build. The builder refuses to remove what other images stand on.
// An error is none of the build that just went well: the next one tries again. docker's store is not ours.
func tidy(ctx context.Context, program, built string, p place, now time.Time) {
	if program == "docker" {
		return
	}

	do := func(args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, program, append(p.global(program), args...)...).Output()
	}
	out, err := do(listing(program)...)
	if err != nil {
		return
	}

	var all []stored
	err = json.Unmarshal(out, &all)
	if err != nil {
		return
	}

	for _, s := range all {
		if s.stale(built, now) {
			_, _ = do("rmi", s.ID)
		}
	}
}

// listing asks for all images of a store.
func listing(program string) []string {
	if program == "podman" {
		return []string{"images", "--all", "--format", "json"}
	}

	return []string{"images", "--all", "--json"}
}
