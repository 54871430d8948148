package agent

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// Dev turns conf into that of an agent without a host: the whole agent, against an Incus made of memory and a
// registry that makes up every image, with DNS on loopback. Nothing runs in its instances; everything else is as
// it is for real. The returned function ends the pretended Incus.
func Dev(ctx context.Context, conf Config) (Config, func()) {
	registry := imagetest.Anything()
	srv := incustest.New(incustest.Options{
		// About what a small host takes, so that a plan can be watched.
		Delays: incustest.Delays{
			Create: 80 * time.Millisecond, Start: 220 * time.Millisecond, Stop: 150 * time.Millisecond,
			Delete: 30 * time.Millisecond, Rebuild: 150 * time.Millisecond, Pull: 400 * time.Millisecond,
		},
		Resolve: resolver(ctx, registry, conf.Log),
	})
	conf.Dial, conf.Registry = srv.Dial, registry
	conf.Settings.Owner = "dev"
	conf.DNSAddrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}

	return conf, srv.Close
}

// resolver has the pretended Incus find what the pretended registry has.
func resolver(ctx context.Context, registry http.RoundTripper, log *slog.Logger) func(server, alias string) (incustest.Image, error) {
	images := image.New(image.Options{Transport: registry, Log: log})

	return func(server, alias string) (incustest.Image, error) {
		img, err := images.Resolve(ctx, plan.ImageRef{Ref: strings.TrimPrefix(server, "https://") + "/" + alias}, false)

		return incustest.Image{Fingerprint: img.Fingerprint}, err
	}
}
