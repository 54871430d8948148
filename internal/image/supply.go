package image

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Built is the Server of images that were built here; their Alias is the directory they are in.
const Built = "build:"

// ErrGone says that the directory of a built image is no longer there.
var ErrGone = errors.New("the built image is gone")

// Supply is how Incus gets one image. Close it when Incus is done.
type Supply struct {
	// Server and Alias are what Incus is told to pull.
	Server, Alias string
	// Relayed says that the image comes through us.
	Relayed bool

	sent *serving
	end  func()
}

// Sent is how many bytes of layers Incus has got so far; 0 where the image does not come through us.
func (s Supply) Sent() int64 {
	if s.sent == nil {
		return 0
	}
	return s.sent.counter.Load()
}

// Close ends the supply.
func (s Supply) Close() {
	if s.end != nil {
		s.end()
	}
}

// Supply prepares a pull. Incus fetches public images itself. What it could not, or what would take a secret or
// a setting that it must not know, it gets through us: images that need a login (Incus would keep the password
// in the image's properties, readable for others), those of mirrors and of insecure registries, those that were
// built here, and those that need a mark (plan.Image.Marked).
func (r *Resolver) Supply(ctx context.Context, op plan.PullImage) (Supply, error) {
	if op.Server == Built {
		img, err := openDirectory(op.Alias)
		if err != nil {
			return Supply{}, fmt.Errorf("image %s: %w", op.Ref, err)
		}
		return r.offer(ctx, img, op)
	}
	if !strings.HasPrefix(op.Server, "https://") {
		return Supply{Server: op.Server, Alias: op.Alias}, nil // of Incus's own kind
	}
	src, err := parse(strings.TrimPrefix(op.Server, "https://") + "/" + op.Alias)
	if err != nil {
		return Supply{}, err
	}
	_, _, login, err := r.findLogin(ctx, src)
	if err != nil {
		return Supply{}, fmt.Errorf("image %s: %w", op.Ref, err)
	}
	special := len(r.opts.Mirrors[src.host]) > 0 || r.opts.insecure(src.host) || len(r.opts.authorities(src.host)) > 0
	if !login && !special && !op.Marked {
		return Supply{Server: op.Server, Alias: op.Alias}, nil
	}
	img, err := through(ctx, r, src, func(c *conversation) (v1.Image, error) { return remote.Image(c.src.remote, c.opts...) })
	if err != nil {
		return Supply{}, fmt.Errorf("image %s: %w", op.Ref, err)
	}
	return r.offer(ctx, img, op)
}

// offer hands an image to the relay, with its mark when it needs one.
func (r *Resolver) offer(ctx context.Context, img v1.Image, op plan.PullImage) (Supply, error) {
	var err error
	if op.Marked {
		img, err = marked(img)
		if err != nil {
			return Supply{}, fmt.Errorf("image %s: %w", op.Ref, err)
		}
	}
	name, _, _ := strings.Cut(op.Ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	sent, alias, end, err := r.relay.serve(ctx, img, name)
	if err != nil {
		return Supply{}, fmt.Errorf("image %s: %w", op.Ref, err)
	}
	return Supply{Server: RelayServer, Alias: alias, Relayed: true, sent: sent, end: end}, nil
}

// Directory describes the image that was built into a directory, as Resolve does those of registries. The
// errors are ErrGone and those of Resolve.
func (r *Resolver) Directory(dir, ref string, names bool) (plan.Image, error) {
	img, err := r.directory(dir, ref, names)
	if err != nil {
		return plan.Image{}, fmt.Errorf("image %s: %w", ref, err)
	}
	return img, nil
}

func (r *Resolver) directory(dir, ref string, names bool) (plan.Image, error) {
	from, err := openDirectory(dir)
	if err != nil {
		return plan.Image{}, err
	}
	want, err := platform("", r.opts.Arch)
	if err != nil {
		return plan.Image{}, err
	}
	img, p, err := describe(from, ref, names)
	if err != nil {
		return plan.Image{}, err
	}
	img.Server, img.Alias = Built, dir
	return img, want.check(p)
}
