package incus

import (
	"context"
	"errors"
	"maps"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// editTries is how often a read-modify-write is begun anew after somebody else was faster.
const editTries = 5

func (c *Client) createProject(ctx context.Context, op plan.CreateProject) error {
	return c.change(ctx, "", func(s incusapi.InstanceServer) error {
		return s.CreateProject(api.ProjectsPost{
			Name:       op.Name,
			ProjectPut: api.ProjectPut{Config: set(op.Config), Description: op.Description},
		})
	})
}

func (c *Client) updateProject(ctx context.Context, op plan.UpdateProject) error {
	return edit(ctx, func() error {
		var p *api.Project
		var etag string
		err := c.read(ctx, "", func(s incusapi.InstanceServer) (err error) {
			p, etag, err = s.GetProject(op.Name)
			return err
		})
		if err != nil {
			return err
		}
		put := p.Writable()
		if !merge(put.Config, op.Set) {
			return nil
		}
		return c.change(ctx, "", func(s incusapi.InstanceServer) error {
			return s.UpdateProject(op.Name, put, etag)
		})
	})
}

func (c *Client) deleteProject(ctx context.Context, op plan.DeleteProject) error {
	c.memory.drop(op.Name)
	return gone(c.change(ctx, "", func(s incusapi.InstanceServer) error { return s.DeleteProject(op.Name) }))
}

// edit repeats a read-modify-write that answers ErrConflict.
func edit(ctx context.Context, turn func() error) error {
	for try := 1; ; try++ {
		err := turn()
		if !errors.Is(err, ErrConflict) || try == editTries {
			return err
		}
		stop := pause(ctx, backoff(try))
		if stop != nil {
			return err
		}
	}
}

// merge sets keys of have to those of want, an empty value removing one, and tells whether anything changed.
func merge(have, want map[string]string) (changed bool) {
	for k, v := range want {
		old, ok := have[k]
		switch {
		case v == "" && ok:
			delete(have, k)
			changed = true
		case v != "" && (!ok || old != v):
			have[k] = v
			changed = true
		}
	}
	return changed
}

// set returns the keys that have a value: an empty one would be stored by some calls and refused by others.
func set(config map[string]string) map[string]string {
	out := maps.Clone(config)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "" })
	return out
}

// gone makes the absence of what was to be deleted a success.
func gone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
