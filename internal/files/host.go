package files

import (
	"context"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Server is Incus.
type Server interface {
	Observe(ctx context.Context, project string) (plan.Observed, error)
	Do(ctx context.Context, project string, op plan.Op) error
	LastWords(ctx context.Context, project, instance string) (string, error)
}

// Host is a server together with the files its instances mount, which the server knows nothing of.
type Host struct {
	Server

	Store Store
	// Make makes a directory of the host with its parents; its error says what to do.
	Make func(ctx context.Context, path string) error
}

// Observe adds to what the server has which instances have their files.
func (h Host) Observe(ctx context.Context, project string) (plan.Observed, error) {
	o, err := h.Server.Observe(ctx, project)
	if err != nil || len(o.Instances) == 0 {
		return o, err
	}

	placed, err := h.Store.Placed(project)
	if err != nil {
		return o, err
	}

	for name, inst := range o.Instances {
		inst.Placed = placed[name]
		o.Instances[name] = inst
	}

	return o, nil
}

// Do does what is about files here and leaves the rest to the server. The files of a deleted instance go with it.
func (h Host) Do(ctx context.Context, project string, op plan.Op) error {
	switch op := op.(type) {
	case plan.PlaceFiles:
		return h.Store.Place(project, op.Instance, op.Files, op.Hash)
	case plan.MakeHostDir:
		return h.Make(ctx, op.Path)
	case plan.DeleteInstance:
		err := h.Server.Do(ctx, project, op)
		if err != nil {
			return err
		}

		return h.Store.Remove(project, op.Name)
	default:
		return h.Server.Do(ctx, project, op)
	}
}
