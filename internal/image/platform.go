package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	specs "github.com/opencontainers/image-spec/specs-go/v1"
)

// wanted is a platform to look for, and what will do in its place.
type wanted struct {
	platforms.MatchComparer
	name string
}

// platform returns what to look for: exactly what the user wrote ("os/arch[/variant]", also "arch" alone and
// names such as "aarch64"), or, for an empty string, what a host of that architecture can run, best first.
func platform(written, arch string) (wanted, error) {
	if written == "" {
		host := platforms.Normalize(specs.Platform{OS: "linux", Architecture: arch})
		return wanted{platforms.Only(host), platforms.Format(host)}, nil
	}
	p, err := platforms.Parse(written)
	if err != nil || strings.Contains(written, "*") {
		return wanted{}, fmt.Errorf("%w: platform %q: write it as linux/arm64 or linux/arm/v7", ErrInvalid, written)
	}
	if !strings.Contains(written, "/") && strings.EqualFold(p.OS, written) {
		p.Architecture, p.Variant = arch, ""
	}
	p = platforms.Normalize(p)
	if p.OS != "linux" {
		return wanted{}, fmt.Errorf("%w: platform %q: Incus runs containers of linux only", ErrPlatform, written)
	}
	host := platforms.Normalize(specs.Platform{OS: "linux", Architecture: arch})
	if !platforms.Only(host).Match(p) {
		return wanted{}, fmt.Errorf("%w: this host is %s and cannot run %s: remove platform, or run the service on such a machine",
			ErrPlatform, platforms.Format(host), platforms.Format(p))
	}
	return wanted{platforms.OnlyStrict(p), platforms.Format(p)}, nil
}

// choose returns the manifest of an index to use: the best match, and the first of equals. Entries that name
// no platform do only when no other does.
func (w wanted) choose(index *v1.IndexManifest) (v1.Descriptor, error) {
	var best *v1.Descriptor
	var there []string
	for i := range index.Manifests {
		d := &index.Manifests[i]
		if !d.MediaType.IsImage() || (d.Platform != nil && d.Platform.OS == "unknown") {
			continue // an attestation or another artifact beside the images
		}
		if d.Platform == nil {
			if best == nil {
				best = d
			}
			continue
		}
		p := spec(*d.Platform)
		there = append(there, platforms.Format(p))
		if w.Match(p) && (best == nil || best.Platform == nil || w.Less(p, spec(*best.Platform))) {
			best = d
		}
	}
	if best == nil {
		return v1.Descriptor{}, w.missing(there)
	}
	return *best, nil
}

// check verifies what an image's config says of its platform; a config that says nothing passes.
func (w wanted) check(p v1.Platform) error {
	if p.OS == "" {
		p.OS = "linux"
	}
	if p.Architecture == "" || w.Match(spec(p)) {
		return nil
	}
	return w.missing([]string{platforms.Format(spec(p))})
}

func (w wanted) missing(there []string) error {
	slices.Sort(there)
	there = slices.Compact(there)
	if len(there) == 0 {
		return fmt.Errorf("%w: it is not made for %s, nor for any other", ErrPlatform, w.name)
	}
	return fmt.Errorf("%w: it is not made for %s, only for %s", ErrPlatform, w.name, strings.Join(there, ", "))
}

func spec(p v1.Platform) specs.Platform {
	return platforms.Normalize(specs.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
}
