package incus

import (
	"context"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// networkProject is where bridges live, whatever project their instances are in.
const networkProject = "default"

// networkTime is within which Incus makes a network; it takes a third of a second.
const networkTime = 10 * time.Second

// createNetwork is not broken off: Incus would leave the network half made, and never finish it.
func (c *Client) createNetwork(ctx context.Context, op plan.CreateNetwork) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), networkTime)
	defer cancel()

	return c.change(ctx, networkProject, func(s incusapi.InstanceServer) error {
		return s.CreateNetwork(api.NetworksPost{
			Name:       op.Name,
			Type:       "bridge",
			NetworkPut: api.NetworkPut{Config: set(op.Config), Description: op.Description},
		})
	})
}

func (c *Client) updateNetwork(ctx context.Context, op plan.UpdateNetwork) error {
	return edit(ctx, func() error {
		var n *api.Network
		var etag string
		err := c.read(ctx, networkProject, func(s incusapi.InstanceServer) (err error) {
			n, etag, err = s.GetNetwork(op.Name)
			return err
		})
		if err != nil {
			return err
		}
		put := n.Writable()
		if !merge(put.Config, op.Set) {
			return nil // a write would restart the network for nothing
		}
		return c.change(ctx, networkProject, func(s incusapi.InstanceServer) error {
			return s.UpdateNetwork(op.Name, put, etag)
		})
	})
}

func (c *Client) deleteNetwork(ctx context.Context, op plan.DeleteNetwork) error {
	return gone(c.change(ctx, networkProject, func(s incusapi.InstanceServer) error {
		return s.DeleteNetwork(op.Name)
	}))
}
