package incus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// protocols of images by the beginning of their server's URL: Incus images have "simplestreams+" before it.
const simplestreams = "simplestreams+"

// pullImage has Incus fetch an image by POST /1.0/images, which always asks the registry; creating by alias
// would take a stale copy. The image is then ours to prune: Incus neither expires nor replaces it. One that is
// there already is left as it is.
func (c *Client) pullImage(ctx context.Context, project string, op plan.PullImage) error {
	there, err := c.hasImage(ctx, project, op)
	if there || err != nil {
		return err
	}
	protocol := "oci"
	server, native := strings.CutPrefix(op.Server, simplestreams)
	if native {
		protocol = "simplestreams"
	}
	post := api.ImagesPost{Source: &api.ImagesPostSource{
		Type:        "image",
		Mode:        "pull",
		ImageSource: api.ImageSource{Protocol: protocol, Server: server, Alias: op.Alias},
	}}
	post.Properties = noted(op)
	done, err := c.runTold(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.CreateImage(post, nil)
	}, func(op1 api.Operation) {
		stage, _ := op1.Metadata["download_progress"].(string)
		if stage != "" && c.opt.Progress != nil {
			c.opt.Progress(op.Want, stage)
		}
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

// hasImage tells whether the image is there. One with the same layers and another config is an error: Incus
// cannot keep both, and the next plan asks for a marked one.
func (c *Client) hasImage(ctx context.Context, project string, op plan.PullImage) (bool, error) {
	if op.Want == "" {
		return false, nil
	}
	var have *api.Image
	err := c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
		have, _, err = s.GetImage(op.Want)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	config := have.Properties[plan.KeyConfig]
	if config != "" && op.Config != "" && config != op.Config {
		return false, kinded{
			fmt.Errorf("the image %s, which is here, has the same layers and another config: this one is fetched beside it next", have.Properties[plan.KeyImage]),
			[]error{ErrMismatch, ErrBusy},
		}
	}
	return true, nil
}

// noted are the properties that an image gets.
func noted(op plan.PullImage) map[string]string {
	all := map[string]string{}
	for k, v := range map[string]string{plan.KeyOwner: op.Owner, plan.KeyConfig: op.Config, plan.KeyImage: op.Origin} {
		if v != "" {
			all[k] = v
		}
	}
	return all
}

// deleteImage deletes an image that carries the owner's mark.
func (c *Client) deleteImage(ctx context.Context, project string, op plan.DeleteImage) error {
	have, err := c.images(ctx, project)
	if err != nil {
		return err
	}
	img, there := have[op.Fingerprint]
	if !there {
		return nil
	}
	if op.Owner == "" || img.Owner != op.Owner {
		return kinded{errors.New("the image is not ours"), []error{ErrRefused}}
	}
	_, err = c.run(ctx, project, c.opt.MutateTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.DeleteImage(op.Fingerprint)
	})
	return c.settled(ctx, err, func() bool {
		left, err := c.images(ctx, project)
		_, still := left[op.Fingerprint]
		return err == nil && !still
	})
}

// Images returns the images of a project, by fingerprint.
func (c *Client) Images(ctx context.Context, project string) (map[string]plan.ObservedImage, error) {
	all, err := c.images(ctx, project)
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	return all, nil
}

func (c *Client) images(ctx context.Context, project string) (map[string]plan.ObservedImage, error) {
	return table(ctx, c, "/1.0/images", project, func(i imageAnswer) (string, plan.ObservedImage) {
		return i.Fingerprint, plan.ObservedImage{
			Cached: i.Cached, Owner: i.Properties[plan.KeyOwner], Config: i.Properties[plan.KeyConfig], Origin: i.Properties[plan.KeyImage],
			Touched: latest(i.UploadedAt, i.LastUsedAt), Size: i.Size,
		}
	})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
