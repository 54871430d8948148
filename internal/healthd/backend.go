package healthd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// backend is Incus as package health sees it.
type backend struct{ c *incus.Client }

// kinded gives an error a kind of package health without a word more.
type kinded struct {
	error
	kind error
}

func (k kinded) Unwrap() []error { return []error{k.error, k.kind} }

// kindOf translates kinds of errors. What failed in Incus itself stays as it is.
func kindOf(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, incus.ErrNotFound):
		return kinded{err, health.ErrGone}
	case errors.Is(err, incus.ErrUnavailable), errors.Is(err, incus.ErrForbidden), errors.Is(err, incus.ErrBusy), errors.Is(err, incus.ErrUnknownOutcome):
		return kinded{err, health.ErrAway}
	}

	return err
}

// List reads all instances, and finds the projects that a daemon of lxc/incus-compose watches.
func (b *backend) List(ctx context.Context) ([]health.Instance, map[string]string, error) {
	all, err := b.c.Instances(ctx)
	if err != nil {
		return nil, nil, kindOf(err)
	}

	scopes, err := b.c.ProjectKeys(ctx, health.KeyScope)
	if err != nil {
		return nil, nil, kindOf(err)
	}

	list := make([]health.Instance, 0, len(all))
	for _, o := range all {
		list = append(list, shown(o.Project, o.Name, o.Instance))
	}

	return list, taken(list, scopes), nil
}

// taken returns the projects that another daemon watches: those it is told to by the scope key, while it runs.
func taken(list []health.Instance, scopes map[string]string) map[string]string {
	refused := map[string]string{}
	for _, i := range list {
		if i.Config[health.KeyDaemon] != "true" || i.State != health.StateRunning {
			continue
		}

		for project, scope := range scopes {
			if scope == "global" || scope == "project" && project == i.ID.Project {
				refused[project] = fmt.Sprintf("the health daemon in instance %s of project %s watches it (%s=%s): stop that daemon, or unset the key of the project", i.ID.Name, i.ID.Project, health.KeyScope, scope)
			}
		}
	}

	return refused
}

// Look reads one instance.
func (b *backend) Look(ctx context.Context, id health.ID) (health.Instance, error) {
	o, err := b.c.Instance(ctx, id.Project, id.Name)
	if err != nil {
		return health.Instance{}, kindOf(err)
	}

	return shown(id.Project, id.Name, o), nil
}

func shown(project, name string, o plan.ObservedInstance) health.Instance {
	i := health.Instance{
		ID: health.ID{Project: project, Name: name}, State: health.StateBetween, Started: o.LastUsed, Config: o.Config,
		Devices: make(map[string]map[string]string, len(o.Devices)),
	}
	switch o.Status {
	case "Running", "Ready":
		i.State = health.StateRunning
	case "Frozen":
		i.State = health.StateFrozen
	case "Stopped":
		i.State = health.StateStopped
	}

	for n, d := range o.Devices {
		i.Devices[n] = d
	}

	return i
}

// Exit reads how the program of a stopped instance ended.
func (b *backend) Exit(ctx context.Context, id health.ID) (health.Exit, error) {
	e, err := b.c.ExitOf(ctx, id.Project, id.Name)
	if err != nil {
		return health.Exit{}, kindOf(err)
	}

	exit := health.Exit{Known: e.Known, Code: e.Code}
	if e.Signal != 0 {
		exit.Signal = fmt.Sprint(e.Signal)
	}

	return exit, nil
}

// Write sets the two keys with one PATCH.
func (b *backend) Write(ctx context.Context, id health.ID, status, detail string) error {
	return kindOf(b.c.Do(ctx, id.Project, plan.UpdateInstance{
		Name: id.Name, Config: map[string]string{health.KeyStatus: status, health.KeyDetail: detail},
	}))
}

// Start starts an instance.
func (b *backend) Start(ctx context.Context, id health.ID) error {
	return kindOf(b.c.Do(ctx, id.Project, plan.StartInstance{Name: id.Name}))
}

// Stop stops an instance, gracefully at first.
func (b *backend) Stop(ctx context.Context, id health.ID, grace time.Duration) error {
	return kindOf(b.c.Do(ctx, id.Project, plan.StopInstance{Name: id.Name, Grace: grace}))
}

// hints hands on the events about instances.
func (b *backend) hints(ctx context.Context, on func(health.Hint)) error {
	return b.c.Hints(ctx, func(h incus.Hint) {
		switch {
		case h.Resync:
			on(health.Hint{All: true})
		case h.Action == "instance-renamed", h.Kind == "project":
			on(health.Hint{All: true})
		case h.Kind == "instance" && h.Name != "":
			on(health.Hint{
				ID: health.ID{Project: h.Project, Name: strings.TrimSuffix(h.Name, "/")}, By: h.User,
				Ended: h.Action == "instance-shutdown" || h.Action == "instance-stopped",
			})
		}
	})
}
