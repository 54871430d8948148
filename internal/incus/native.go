package incus

import (
	"context"
	"fmt"
	"net/http"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// NativeImage finds an image of Incus's own kind by its alias: on a simplestreams server, or, with an empty server,
// among the local ones. The error is ErrNotFound where there is none, ErrUnavailable where nobody answers.
func (c *Client) NativeImage(ctx context.Context, server, alias string) (plan.Image, error) {
	img := plan.Image{
		Native: true, Alias: alias, Entrypoint: []string{plan.NativeInit}, Users: map[string]plan.UserEntry{"root": {}},
	}
	entry, err := c.nativeAlias(ctx, server, alias)
	if err != nil {
		return plan.Image{}, fmt.Errorf("find the image %s: %w", alias, err)
	}
	if server != "" {
		img.Server = simplestreams + server
	}
	img.Fingerprint, img.Digest = entry.Target, "sha256:"+entry.Target
	return img, nil
}

func (c *Client) nativeAlias(ctx context.Context, server, alias string) (entry *api.ImageAliasesEntry, err error) {
	if server == "" {
		err = c.read(ctx, "default", func(s incusapi.InstanceServer) (err error) {
			entry, _, err = s.GetImageAlias(alias)
			return err
		})
		return entry, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.opt.MutateTimeout)
	defer cancel()
	streams, err := incusapi.ConnectSimpleStreams(server, &incusapi.ConnectionArgs{
		UserAgent: "ic-agent", HTTPClient: &http.Client{Transport: within{ctx, http.DefaultTransport}},
	})
	if err == nil {
		entry, _, err = streams.GetImageAliasType("container", alias)
	}
	return entry, classify(ctx, err, false)
}

// within gives requests the life of a context: the library has none for this protocol.
type within struct {
	ctx  context.Context //nolint:containedctx // the one call's, which the library does not pass on
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w within) RoundTrip(req *http.Request) (*http.Response, error) {
	return w.next.RoundTrip(req.WithContext(w.ctx))
}
