package incus

import (
	"context"
	"errors"
	"fmt"
	"strings"

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

// restoreVolume makes a volume that no running instance uses hold what a snapshot of it does. Pools like zfs restore only
// the newest one, unless they may delete those after it, which is nothing to ask them for.
func (c *Client) restoreVolume(ctx context.Context, project string, op plan.RestoreVolume) error {
	err := edit(ctx, func() error {
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
	if err != nil && strings.Contains(err.Error(), "cannot be restored due to subsequent") {
		at := op.Pool + "/" + op.Volume
		return kinded{fmt.Errorf("this pool restores only the newest snapshot of a volume, and there are newer ones: nothing was changed. Copy it to a volume of its own, "+
			"\"incus storage volume copy %s/%s %s-then --project %s\", and take from that what is wanted", at, op.Name, at, project), []error{err, ErrRefused}}
	}
	return err
}
