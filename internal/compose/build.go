package compose

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// buildKeys are the honoured keys below a service's build.
var buildKeys = []string{
	"context", "dockerfile", "dockerfile_inline", "target", "args", "secrets.[].source", "secrets.[].target", "ssh", "labels", "cache_from",
	"no_cache", "pull", "platforms", "network", "extra_hosts", "additional_contexts", "shm_size", "ulimits", "tags", "privileged",
}

// build translates how the image is made.
func (s *service) build() {
	c := s.in.Build
	if c == nil {
		return
	}

	b := plan.Build{
		Context: s.context(c.Context), Inline: c.DockerfileInline, Target: c.Target, Labels: labels(c.Labels), CacheFrom: c.CacheFrom,
		NoCache: c.NoCache, Pull: c.Pull, Privileged: c.Privileged, Network: c.Network, ShmSize: int64(c.ShmSize), Tags: c.Tags,
		At: s.place("build"),
	}
	b.Dockerfile = c.Dockerfile
	switch {
	case c.Dockerfile == "", filepath.IsAbs(c.Dockerfile), !filepath.IsAbs(b.Context):
	default:
		b.Dockerfile = filepath.Join(b.Context, c.Dockerfile)
	}

	for name, value := range c.Args {
		if value == nil {
			s.warn("build.args."+name, "has no value and none in .env: it is left out")
			continue
		}

		b.Args = put(b.Args, name, *value)
	}

	for _, key := range c.SSH {
		b.SSH = append(b.SSH, strings.TrimSuffix(key.ID+"="+key.Path, "="))
	}

	b.ExtraHosts = c.ExtraHosts.AsList(":")
	slices.Sort(b.ExtraHosts)
	for _, name := range slices.Sorted(maps.Keys(c.Ulimits)) {
		u := c.Ulimits[name]
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}

		b.Ulimits = append(b.Ulimits, fmt.Sprintf("%s=%d:%d", name, soft, hard))
	}

	for name, where := range c.AdditionalContexts {
		b.Contexts = put(b.Contexts, name, s.context(where))
	}

	s.buildSecrets(&b, c.Secrets)
	s.buildPlatform(c.Platforms)
	s.out.Image.Build = &b
}

// context makes a directory absolute and leaves what a builder fetches as it is.
func (s *service) context(where string) string {
	remote := strings.Contains(where, "://") || strings.HasPrefix(where, "git@") || strings.HasPrefix(where, "service:")
	if remote || filepath.IsAbs(where) {
		return where
	}

	return filepath.Join(s.t.in.Dir, where)
}

// buildSecrets names the files of secrets; their content is the builder's affair.
func (s *service) buildSecrets(b *plan.Build, list []types.ServiceSecretConfig) {
	for _, use := range list {
		secret, defined := s.t.project.Secrets[use.Source]
		id := use.Target
		if id == "" {
			id = use.Source
		}

		switch {
		case !defined:
			s.refuse("build.secrets", fmt.Sprintf("the secret %q is not defined", use.Source), fmt.Sprintf("add %q under the top-level secrets", use.Source))
		case secret.File != "":
			b.Secrets = append(b.Secrets, plan.BuildSecret{ID: id, File: s.context(secret.File)})
		case bool(secret.External):
			b.Secrets = append(b.Secrets, plan.BuildSecret{ID: id, File: filepath.Join("/etc/ic-agent/secrets", use.Source)})
		default:
			s.refuse("build.secrets", fmt.Sprintf("the secret %q has no file", use.Source), "a build takes secrets from files only: write file:")
		}
	}
}

// buildPlatform takes the one platform that this host builds for.
func (s *service) buildPlatform(list []string) {
	switch {
	case len(list) == 0:
	case s.in.Platform != "" && slices.Contains(list, s.in.Platform):
	case len(list) == 1:
		s.out.Image.Platform = list[0]
	default:
		s.warn("build.platforms", "the image is built for this host's platform alone, which is what runs here")
	}
}

func put(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}

	m[key] = value

	return m
}
