package incus

import (
	"context"
	"fmt"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// pullImage has Incus fetch an image by POST /1.0/images, which always asks the registry; creating by alias
// would take a stale copy. The image is then ours to prune: Incus neither expires nor replaces it.
func (c *Client) pullImage(ctx context.Context, project string, op plan.PullImage) error {
	done, err := c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.CreateImage(api.ImagesPost{Source: &api.ImagesPostSource{
			Type:        "image",
			Mode:        "pull",
			ImageSource: api.ImageSource{Protocol: "oci", Server: op.Server, Alias: op.Alias},
		}}, nil)
	})
	if err != nil {
		return c.settled(ctx, err, func() bool {
			images, err := c.images(ctx, project)
			_, ok := images[op.Want]
			return err == nil && ok
		})
	}
	got, _ := done.Metadata["fingerprint"].(string)
	if op.Want != "" && got != op.Want {
		return kinded{
			fmt.Errorf("the registry gave Incus image %.12s instead of %.12s: the tag moved meanwhile, or a mirror disagrees", got, op.Want),
			[]error{ErrMismatch, ErrRefused},
		}
	}
	return nil
}
