package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// devPort is where the DNS server of the dev mode listens, on loopback.
	devPort = 5353
	devText = `Nothing here is real: the Incus is made of memory and the images are made up. In another terminal:
  cp examples/hello.yaml %s/
  ic-agent --api %s status
  dig -p %d @127.0.0.1 web.hello.incus
`
)

// Dev turns conf into that of an agent without a host: the whole agent, against an Incus made of memory and a
// registry that makes up every image, with DNS on loopback. Nothing runs in its instances; everything else is as
// it is for real. Paths that conf does not name are made in a temporary directory, which the returned function
// removes.
func Dev(ctx context.Context, conf Config) (Config, func(), error) {
	dir, err := os.MkdirTemp("", "ic-agent-dev-")
	if err != nil {
		return conf, nil, fmt.Errorf("make a directory: %w", err)
	}

	if conf.StateDir == "" {
		conf.StateDir = dir
	}

	if conf.APISocket == "" {
		conf.APISocket = filepath.Join(dir, "api.sock")
	}

	if len(conf.Settings.Directories) == 0 {
		stacks := filepath.Join(dir, "incus-compose.d")
		conf.Settings.Directories = []string{stacks}
		err = os.Mkdir(stacks, 0o755)
		if err != nil {
			return conf, nil, fmt.Errorf("make a directory: %w", err)
		}
	}

	if conf.Files == "" {
		conf.Files = filepath.Join(dir, "files")
	}

	err = os.MkdirAll(conf.Files, 0o700)
	if err != nil {
		return conf, nil, fmt.Errorf("make a directory: %w", err)
	}

	conf.Chown = func(string, int, int) error { return nil } // nobody looks
	if conf.DNSPort == 0 {
		conf.DNSPort = devPort
	}

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
	fmt.Fprintf(os.Stderr, devText, conf.Settings.Directories[0], conf.APISocket, conf.DNSPort)

	return conf, func() {
		srv.Close()
		_ = os.RemoveAll(dir)
	}, nil
}

// resolver has the pretended Incus find what the pretended registry has.
func resolver(ctx context.Context, registry http.RoundTripper, log *slog.Logger) func(server, alias string) (incustest.Image, error) {
	images := image.New(image.Options{Transport: registry, Log: log})

	return func(server, alias string) (incustest.Image, error) {
		img, err := images.Resolve(ctx, plan.ImageRef{Ref: strings.TrimPrefix(server, "https://") + "/" + alias}, false)

		return incustest.Image{Fingerprint: img.Fingerprint}, err
	}
}
