package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// fingerprint is Incus's name of an image: sha256 over its layers' digests, "sha256:" included, put one
// after the other, bottom layer first.
func fingerprint(layers []v1.Descriptor) string {
	h := sha256.New()
	for _, l := range layers {
		h.Write([]byte(l.Digest.String()))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// setConfig fills in what the image's config says: moby's image specification v1.2, which the OCI image
// specification's config.md follows but for HEALTHCHECK.
func setConfig(img *plan.Image, config []byte) (v1.Platform, error) {
	file, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return v1.Platform{}, fmt.Errorf("%w: its config is damaged: %w", ErrFormat, err)
	}
	c := file.Config
	img.Entrypoint, img.Cmd = c.Entrypoint, c.Cmd
	img.Env = environment(c.Env)
	img.Cwd, img.User, img.StopSignal = c.WorkingDir, c.User, c.StopSignal
	img.Volumes = slices.Sorted(maps.Keys(c.Volumes))
	img.Ports = slices.Sorted(maps.Keys(c.ExposedPorts))
	img.Healthcheck = healthcheck(c.Healthcheck, config)
	return v1.Platform{OS: file.OS, Architecture: file.Architecture, Variant: file.Variant}, nil
}

// environment turns "K=V" entries into a map; the last one of a name counts, as in Docker.
func environment(entries []string) map[string]string {
	env := make(map[string]string, len(entries))
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		if key != "" {
			env[key] = value
		}
	}
	return env
}

// healthcheck reads StartInterval from the raw config: go-containerregistry does not know it yet.
func healthcheck(h *v1.HealthConfig, config []byte) *plan.Healthcheck {
	if h == nil || len(h.Test) == 0 {
		return nil
	}
	var raw struct {
		Config struct {
			Healthcheck struct{ StartInterval time.Duration }
		} `json:"config"`
	}
	err := json.Unmarshal(config, &raw)
	if err != nil {
		raw.Config.Healthcheck.StartInterval = 0 // not a number: as if it were not there
	}
	return &plan.Healthcheck{
		Test:     h.Test,
		Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod,
		StartInterval: raw.Config.Healthcheck.StartInterval,
		Retries:       h.Retries,
	}
}
