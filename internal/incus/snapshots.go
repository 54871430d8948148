package incus

import (
	"context"
	"errors"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// snapshotVolume takes a snapshot; one of the name is a success, because the name is of this very moment.
func (c *Client) snapshotVolume(ctx context.Context, project string, op plan.SnapshotVolume) error {
	there := func() bool {
		err := c.read(ctx, project, func(s incusapi.InstanceServer) error {
			_, _, err := s.GetStoragePoolVolumeSnapshot(op.Pool, "custom", op.Volume, op.Name)
			return err
		})
		return err == nil
	}
	_, err := c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.CreateStoragePoolVolumeSnapshot(op.Pool, "custom", op.Volume, api.StorageVolumeSnapshotsPost{Name: op.Name})
	})
	if errors.Is(err, ErrExists) && there() {
		return nil
	}
	return c.settled(ctx, err, there)
}

func (c *Client) deleteSnapshot(ctx context.Context, project string, op plan.DeleteSnapshot) error {
	_, err := c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.DeleteStoragePoolVolumeSnapshot(op.Pool, "custom", op.Volume, op.Name)
	})
	return gone(err)
}

// restoreVolume makes a volume that no running instance uses hold what a snapshot of it does.
func (c *Client) restoreVolume(ctx context.Context, project string, op plan.RestoreVolume) error {
	return edit(ctx, func() error {
		var v *api.StorageVolume
		var etag string
		err := c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
			v, etag, err = s.GetStoragePoolVolume(op.Pool, "custom", op.Volume)
			return err
		})
		if err != nil {
			return err
		}
		put := v.Writable()
		put.Restore = op.Name
		return c.change(ctx, project, func(s incusapi.InstanceServer) error {
			return s.UpdateStoragePoolVolume(op.Pool, "custom", op.Volume, put, etag)
		})
	})
}
