package image

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Options are the settings of a Resolver; the zero value is complete.
type Options struct {
	// Transport carries the requests; nil means https with the authorities of the system and of CertDirs, and
	// the proxy of the environment.
	Transport http.RoundTripper
	// AuthFiles are the paths of docker-style config.json files with logins, by precedence, read anew each
	// time; they need not exist. Empty means no logins: nothing in $HOME is ever looked at.
	AuthFiles []string
	// Mirrors are asked before a registry, by its host: "mirror.lan:5000", or "mirror.lan/dockerhub" where
	// its images have a prefix there.
	Mirrors map[string][]string
	// Insecure are the registries ("host" or "host:port") that may speak plain http, or show any
	// certificate.
	Insecure []string
	// CertDirs are directories of further authorities, DIR/HOST/*.crt.
	CertDirs []string
	// Arch is the architecture of the Incus server in Go's words ("arm64"); empty means our own.
	Arch string
	// UserAgent is sent to registries; empty means "ic-agent".
	UserAgent string
	// Log gets a debug line for each image that was resolved; nil means none.
	Log *slog.Logger
}

// Resolver asks registries about images. It is safe for concurrent use.
type Resolver struct {
	opts    Options
	flights singleflight.Group
	relay   relay
}

// New returns a Resolver.
func New(opts Options) *Resolver {
	if opts.Transport == nil {
		opts.Transport = &transports{opts: opts}
	}
	if opts.Arch == "" {
		opts.Arch = runtime.GOARCH
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "ic-agent"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.Transport = &gate{next: keepSecret{opts.Transport, opts.insecure}}
	return &Resolver{opts: opts, relay: relay{addr: relayAddr}}
}

// Resolve asks the registry what a reference stands for now. With names, the image's users and groups are
// read too, which means downloading layers; without, that is done only when the image's own USER is a name,
// and a USER that is a bare uid gets group 0, where Docker would look for its passwd line. Give ctx a
// deadline: a hostile layer can be long.
//
// Digest is the digest that pins the reference as written: that of the index where there is one, as docker
// shows it. Fingerprint and Alias belong to the manifest chosen for the platform; Alias names it by digest,
// so that Incus pulls what was resolved even when the tag has moved on.
//
// The error is of one of the kinds of this package, or context.Canceled. Identical questions asked at the
// same time are asked once, and their askers share one answer: it is not to be changed.
func (r *Resolver) Resolve(ctx context.Context, ref plan.ImageRef, names bool) (plan.Image, error) {
	src, err := parse(ref.Ref)
	if err != nil {
		return plan.Image{}, err
	}
	key := fmt.Sprint("image ", src, ref.Platform, names)
	return together(ctx, r, src, key, func() (plan.Image, error) {
		start := time.Now()
		img, err := r.resolve(ctx, src, ref.Platform, names)
		if err == nil {
			r.opts.Log.DebugContext(ctx, "image resolved", "image", img.Ref, "digest", img.Digest, "took", time.Since(start))
		}
		return img, err
	})
}

// Digest asks for no more than the digest that Resolve would give: a HEAD request, which registries that
// count pulls do not count. The errors are those of Resolve.
func (r *Resolver) Digest(ctx context.Context, ref plan.ImageRef) (string, error) {
	src, err := parse(ref.Ref)
	if err != nil {
		return "", err
	}
	return together(ctx, r, src, fmt.Sprint("digest ", src), func() (string, error) {
		return r.digest(ctx, src)
	})
}

// outcome is what a flight brings back.
type outcome[T any] struct {
	value T
	err   error
	// gaveUp says that the one who flew gave up, which is no answer for the others.
	gaveUp bool
}

// together runs f once for all who ask with the same key at the same time. Each waits no longer than its own
// ctx allows; f runs with the ctx of the first, so when that one gives up, another asks again.
func together[T any](ctx context.Context, r *Resolver, src source, key string, f func() (T, error)) (T, error) {
	for {
		landed := r.flights.DoChan(key, func() (any, error) {
			value, err := f()
			return outcome[T]{value, err, ctx.Err() != nil}, nil
		})
		var out outcome[T]
		select {
		case res := <-landed:
			out, _ = res.Val.(outcome[T])
		case <-ctx.Done():
			out.err = gaveUp(ctx, src)
		}
		if out.gaveUp && ctx.Err() == nil {
			continue
		}
		if out.err != nil {
			return out.value, fmt.Errorf("image %s: %w", src, out.err)
		}
		return out.value, nil
	}
}
