package incus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Observe reads all of one Incus project: at most six requests for a host with one storage pool, lists in
// parallel. A project that does not exist gives a nil Project, no volumes and no instances; its Images are
// then those of the default project, which a project without images of its own will see.
func (c *Client) Observe(ctx context.Context, project string) (plan.Observed, error) {
	o, err := c.observe(ctx, project)
	if err != nil {
		return plan.Observed{}, fmt.Errorf("observe project %s: %w", project, err)
	}
	return o, nil
}

func (c *Client) observe(ctx context.Context, project string) (plan.Observed, error) {
	o := plan.Observed{Volumes: map[string]plan.ObservedVolume{}, Instances: map[string]plan.ObservedInstance{}}
	var known facts
	var usedBy []string
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		known, err = c.look(gctx)
		return err
	})
	g.Go(func() (err error) {
		o.Project, usedBy, err = c.project(gctx, project)
		return err
	})
	g.Go(func() (err error) {
		o.Networks, err = c.networks(gctx)
		return err
	})
	err := g.Wait()
	if err != nil {
		return o, err
	}
	o.Server = known.server

	g, gctx = errgroup.WithContext(ctx)
	if o.Project == nil {
		g.Go(func() (err error) {
			o.Images, err = c.images(gctx, "default")
			return err
		})
		return o, g.Wait()
	}
	g.Go(func() (err error) {
		o.Images, err = c.images(gctx, project)
		return err
	})
	g.Go(func() (err error) {
		o.Instances, err = c.instances(gctx, project)
		return err
	})
	var mu sync.Mutex
	for _, pool := range poolsOf(o.Project, usedBy, known.pools) {
		g.Go(func() error {
			vols, err := c.volumes(gctx, project, pool)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(o.Volumes, vols)
			return err
		})
	}
	return o, g.Wait()
}

// poolsOf returns the pools that may hold volumes of a project: those its used_by list names, or all when the
// volumes are the default project's.
func poolsOf(p *plan.ObservedProject, usedBy, all []string) []string {
	if p.Config["features.storage.volumes"] != "true" {
		return all
	}
	var pools []string
	for _, u := range usedBy {
		rest, ok := strings.CutPrefix(u, "/1.0/storage-pools/")
		if !ok {
			continue
		}
		pool, _, _ := strings.Cut(rest, "/")
		pool, err := url.PathUnescape(pool)
		if err == nil && !slices.Contains(pools, pool) {
			pools = append(pools, pool)
		}
	}
	return pools
}

// project returns nil for a project that does not exist.
func (c *Client) project(ctx context.Context, name string) (*plan.ObservedProject, []string, error) {
	p, err := recall(ctx, c, name, "/1.0/projects/"+url.PathEscape(name), nil, object[projectAnswer])
	if errors.Is(err, ErrNotFound) {
		c.memory.drop(name)
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return &plan.ObservedProject{Name: name, Config: p.Config, Description: p.Description}, p.UsedBy, nil
}

func (c *Client) networks(ctx context.Context) (map[string]plan.ObservedNetwork, error) {
	return table(ctx, c, "/1.0/networks", networkProject, func(n networkAnswer) (string, plan.ObservedNetwork) {
		return n.Name, plan.ObservedNetwork{
			Type: n.Type, Managed: n.Managed, Config: n.Config, Description: n.Description, UsedBy: len(n.UsedBy), Status: n.Status,
		}
	})
}

// volumes returns the custom volumes of a project in a pool by "pool/name", snapshots left out.
func (c *Client) volumes(ctx context.Context, project, pool string) (map[string]plan.ObservedVolume, error) {
	path := "/1.0/storage-pools/" + url.PathEscape(pool) + "/volumes/custom"
	vols, err := table(ctx, c, path, project, func(v volumeAnswer) (string, plan.ObservedVolume) {
		return pool + "/" + v.Name, plan.ObservedVolume{Pool: pool, Config: v.Config, UsedBy: len(v.UsedBy)}
	})
	maps.DeleteFunc(vols, func(id string, _ plan.ObservedVolume) bool { return strings.Count(id, "/") > 1 })
	return vols, err
}

func (c *Client) instances(ctx context.Context, project string) (map[string]plan.ObservedInstance, error) {
	return table(ctx, c, "/1.0/instances", project, func(i instanceAnswer) (string, plan.ObservedInstance) {
		return i.Name, observed(i)
	})
}

// table reads all of a kind in a project by what entry calls them. The map is the caller's own; what its values hold
// is shared and must not be changed.
func table[A, V any](ctx context.Context, c *Client, path, project string, entry func(A) (string, V)) (map[string]V, error) {
	all, err := recall(ctx, c, project, path, allOf(project), func(d *json.Decoder) (map[string]V, error) {
		m := map[string]V{}
		return m, each(d, func(a A) {
			k, v := entry(a)
			m[k] = v
		})
	})
	if all == nil {
		return map[string]V{}, err
	}
	return maps.Clone(all), err
}

// Owned is an instance found by its owner's id.
type Owned struct {
	Project, Name string
	Instance      plan.ObservedInstance
}

// Owned returns the instances of all projects whose user.ic-agent.owner is owner, sorted by project and name,
// with one request.
func (c *Client) Owned(ctx context.Context, owner string) ([]Owned, error) {
	list, err := objects[instanceAnswer](ctx, c, "/1.0/instances", "")
	if err != nil {
		return nil, fmt.Errorf("list the instances of all projects: %w", err)
	}
	var mine []Owned
	for _, i := range list {
		if owner != "" && i.Config[plan.KeyOwner] == owner {
			mine = append(mine, Owned{i.Project, i.Name, observed(i)})
		}
	}
	slices.SortFunc(mine, func(a, b Owned) int {
		return strings.Compare(a.Project+"/"+a.Name, b.Project+"/"+b.Name)
	})
	return mine, nil
}

func observed(i instanceAnswer) plan.ObservedInstance {
	o := plan.ObservedInstance{
		Status:      i.Status,
		Type:        i.Type,
		Config:      i.Config,
		Devices:     i.Devices,
		Fingerprint: i.Config["volatile.base_image"],
		Created:     i.CreatedAt,
		LastUsed:    i.LastUsedAt,
		Addresses:   map[string]netip.Addr{},
		Addresses6:  map[string]netip.Addr{},
	}
	if o.Devices == nil {
		o.Devices = map[string]plan.Device{}
	}
	for name, dev := range i.Devices {
		if dev["type"] != "nic" {
			continue
		}
		bare, _, _ := strings.Cut(dev["ipv4.address"], "/")
		addr, err := netip.ParseAddr(bare)
		if err == nil {
			o.Addresses[name] = addr
		}
		bare, _, _ = strings.Cut(dev["ipv6.address"], "/")
		addr, err = netip.ParseAddr(bare)
		if err == nil {
			o.Addresses6[name] = addr
		}
	}
	return o
}
