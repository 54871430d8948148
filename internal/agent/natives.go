package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// finder finds images: those of registries, and those of Incus's own kind, "images:alpine/edge".
type finder struct {
	*image.Resolver
	incus *incus.Client
	// remotes are the servers of the latter, by the word before the colon; an empty one is Incus's own store.
	remotes map[string]string
}

// remotes are those every Incus client knows, and those of the settings.
func (s Settings) remotes() map[string]string {
	all := map[string]string{"images": "https://images.linuxcontainers.org", "local": ""}
	maps.Copy(all, s.Registry.Remotes)

	return all
}

// native takes a reference apart whose first word is a remote.
func (f finder) native(ref string) (server, alias string, ok bool) {
	remote, alias, cut := strings.Cut(ref, ":")
	server, known := f.remotes[remote]

	return server, alias, cut && known
}

// Resolve implements apply.Images.
func (f finder) Resolve(ctx context.Context, ref plan.ImageRef, names bool) (plan.Image, error) {
	server, alias, ok := f.native(ref.Ref)
	if !ok {
		return f.Resolver.Resolve(ctx, ref, names)
	}

	img, err := f.incus.NativeImage(ctx, server, alias)
	switch {
	case errors.Is(err, incus.ErrNotFound):
		return img, fmt.Errorf("image %s: %w: there is no such alias (\"incus image list %s:\" shows them)", ref.Ref, image.ErrNotFound, strings.SplitN(ref.Ref, ":", 2)[0])
	case err != nil:
		return img, fmt.Errorf("image %s: %w: %w", ref.Ref, image.ErrUnavailable, err)
	}

	img.Ref = ref.Ref

	return img, nil
}

// Digest implements apply.Images.
func (f finder) Digest(ctx context.Context, ref plan.ImageRef) (string, error) {
	_, _, ok := f.native(ref.Ref)
	if !ok {
		return f.Resolver.Digest(ctx, ref)
	}

	img, err := f.Resolve(ctx, ref, false)

	return img.Digest, err
}
