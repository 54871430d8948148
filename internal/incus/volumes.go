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
