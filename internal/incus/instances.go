package incus

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// createInstance makes an instance from a local image without any profile: what it has is what the op says.
func (c *Client) createInstance(ctx context.Context, project string, op plan.CreateInstance) error {
	_, err := c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.CreateInstance(api.InstancesPost{
			Name:   op.Name,
			Type:   api.InstanceTypeContainer,
			Start:  op.Start,
			Source: api.InstanceSource{Type: "image", Fingerprint: op.Fingerprint},
			InstancePut: api.InstancePut{
				Description: op.Description,
				Config:      set(op.Config),
				Devices:     devices(op.Devices),
				Profiles:    []string{},
			},
		})
	})
	err = c.settled(ctx, err, func() bool {
		i, _, err := c.instance(ctx, project, op.Name)
		return err == nil && i.Config[plan.KeyOwner] == op.Config[plan.KeyOwner] &&
			(!op.Start || i.StatusCode == api.Running)
	})
	err = c.explained(ctx, project, op.Name, err)
	if op.Start && errors.Is(err, ErrBusy) { // with what was left of an instance of that name
		return c.startInstance(ctx, project, plan.StartInstance{Name: op.Name})
	}
	return err
}

func (c *Client) instance(ctx context.Context, project, name string) (i *api.Instance, etag string, err error) {
	err = c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
		i, etag, err = s.GetInstance(name)
		return err
	})
	return i, etag, err
}

// updateInstance uses PATCH, which touches the named keys only. PATCH can not remove a device, so that takes a
// whole PUT, under an ETag: without one a stale read would overwrite volatile keys.
func (c *Client) updateInstance(ctx context.Context, project string, op plan.UpdateInstance) error {
	removes, unsets := false, false
	for k, v := range op.Config {
		if strings.HasPrefix(k, "volatile.") {
			return kinded{fmt.Errorf("%s belongs to Incus", k), []error{ErrRefused}}
		}
		unsets = unsets || v == ""
	}
	for _, d := range op.Devices {
		removes = removes || d == nil
	}
	return patiently(ctx, func() error {
		switch {
		case removes:
			return edit(ctx, func() error { return c.putInstance(ctx, project, op) })
		case op.Stopped:
			return edit(ctx, func() error { return c.patchUnset(ctx, project, op) })
		case unsets:
			return c.patchUnset(ctx, project, op)
		default:
			return c.patchInstance(ctx, project, op.Name, op.Config, op.Devices, "")
		}
	})
}

// begun refuses to change an instance behind a program that somebody has started meanwhile.
func begun(i *api.Instance, op plan.UpdateInstance) error {
	if !op.Stopped || i.StatusCode == api.Stopped || i.StatusCode == api.Error {
		return nil
	}
	return kinded{errors.New("somebody started it while it was being changed"), []error{ErrInUse}}
}

// patchUnset sends an empty value only for keys that are set. With op.Stopped the ETag, which covers what a start
// notes, says that it is stopped still.
func (c *Client) patchUnset(ctx context.Context, project string, op plan.UpdateInstance) error {
	i, etag, err := c.instance(ctx, project, op.Name)
	if err == nil {
		err = begun(i, op)
	}
	if err != nil {
		return err
	}
	if !op.Stopped {
		etag = ""
	}
	config := map[string]string{}
	for k, v := range op.Config {
		_, isSet := i.Config[k]
		if v != "" || isSet {
			config[k] = v
		}
	}
	return c.patchInstance(ctx, project, op.Name, config, op.Devices, etag)
}

// patchInstance changes the named keys and devices; an etag that is not empty has to be that of what is there.
func (c *Client) patchInstance(ctx context.Context, project, name string, config map[string]string, devs map[string]plan.Device, etag string) error {
	body := map[string]any{}
	if len(config) > 0 {
		body["config"] = config
	}
	if len(devs) > 0 {
		body["devices"] = devices(devs)
	}
	if len(body) == 0 {
		return nil // it would be rewritten and announced for nothing
	}
	return c.change(ctx, project, func(s incusapi.InstanceServer) error {
		v := url.Values{"project": {project}}
		_, _, err := s.RawQuery("PATCH", "/1.0/instances/"+url.PathEscape(name)+"?"+v.Encode(), body, etag)
		return err
	})
}

func (c *Client) putInstance(ctx context.Context, project string, op plan.UpdateInstance) error {
	i, etag, err := c.instance(ctx, project, op.Name)
	if err == nil {
		err = begun(i, op)
	}
	if err != nil {
		return err
	}
	put := i.Writable()
	if !mergeInstance(&put, op) {
		return nil
	}
	_, err = c.run(ctx, project, c.opt.MutateTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.UpdateInstance(op.Name, put, etag)
	})
	return c.settled(ctx, err, func() bool {
		i, _, err := c.instance(ctx, project, op.Name)
		if err != nil {
			return false
		}
		put := i.Writable()
		return !mergeInstance(&put, op)
	})
}

// mergeInstance applies op and tells whether anything changed.
func mergeInstance(put *api.InstancePut, op plan.UpdateInstance) (changed bool) {
	if put.Config == nil {
		put.Config = map[string]string{}
	}
	if put.Devices == nil {
		put.Devices = map[string]map[string]string{}
	}
	changed = merge(put.Config, op.Config)
	for name, dev := range op.Devices {
		old, ok := put.Devices[name]
		switch {
		case dev == nil && ok:
			delete(put.Devices, name)
			changed = true
		case dev != nil && !reflect.DeepEqual(old, map[string]string(dev)):
			put.Devices[name] = dev
			changed = true
		}
	}
	return changed
}

func devices(in map[string]plan.Device) map[string]map[string]string {
	out := make(map[string]map[string]string, len(in))
	for name, d := range in {
		out[name] = d
	}
	return out
}

// rebuildInstance replaces the root filesystem. An unknown outcome stays one: the state would look the same
// before and after when only the image's config changed.
func (c *Client) rebuildInstance(ctx context.Context, project string, op plan.RebuildInstance) error {
	err := patiently(ctx, func() error {
		_, err := c.run(ctx, project, c.opt.PullTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
			return s.RebuildInstance(op.Name, api.InstanceRebuildPost{
				Source: api.InstanceSource{Type: "image", Fingerprint: op.Fingerprint},
			})
		})
		return err
	})
	return c.explained(ctx, project, op.Name, err)
}

func (c *Client) deleteInstance(ctx context.Context, project string, op plan.DeleteInstance) error {
	if op.Rootless {
		err := c.withoutSnapshots(ctx, project, op.Name)
		if err != nil {
			return err
		}
	}
	err := patiently(ctx, func() error {
		_, err := c.run(ctx, project, c.opt.MutateTimeout, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
			return s.DeleteInstance(op.Name)
		})
		return err
	})
	absent := func() bool {
		_, _, err := c.instance(ctx, project, op.Name)
		return errors.Is(err, ErrNotFound)
	}
	if (errors.Is(err, ErrNotFound) || errors.Is(err, ErrRootless)) && absent() { // what was not found may be its volume
		return nil
	}
	return c.settled(ctx, err, absent)
}

// withoutSnapshots refuses an instance whose deletion would take snapshots along.
func (c *Client) withoutSnapshots(ctx context.Context, project, name string) error {
	var list []string
	err := c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
		list, err = s.GetInstanceSnapshotNames(name)
		return err
	})
	if err != nil || len(list) == 0 {
		return err
	}
	return kinded{fmt.Errorf("its root filesystem is gone and it has snapshots: \"incus snapshot restore %s %s --project %s\" brings one back, or delete them to have it made anew", name, list[len(list)-1], project), []error{ErrRefused}}
}
