package incus

import (
	"context"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func (c *Client) createVolume(ctx context.Context, project string, op plan.CreateVolume) error {
	return c.change(ctx, project, func(s incusapi.InstanceServer) error {
		return s.CreateStoragePoolVolume(op.Pool, api.StorageVolumesPost{
			Name:             op.Name,
			Type:             "custom",
			ContentType:      "filesystem",
			StorageVolumePut: api.StorageVolumePut{Config: set(op.Config), Description: op.Description},
		})
	})
}

func (c *Client) updateVolume(ctx context.Context, project string, op plan.UpdateVolume) error {
	return edit(ctx, func() error {
		var v *api.StorageVolume
		var etag string
		err := c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
			v, etag, err = s.GetStoragePoolVolume(op.Pool, "custom", op.Name)
			return err
		})
		if err != nil {
			return err
		}
		put := v.Writable()
		if !merge(put.Config, op.Set) {
			return nil
		}
		return c.change(ctx, project, func(s incusapi.InstanceServer) error {
			return s.UpdateStoragePoolVolume(op.Pool, "custom", op.Name, put, etag)
		})
	})
}

func (c *Client) deleteVolume(ctx context.Context, project string, op plan.DeleteVolume) error {
	return gone(c.change(ctx, project, func(s incusapi.InstanceServer) error {
		return s.DeleteStoragePoolVolume(op.Pool, "custom", op.Name)
	}))
}
