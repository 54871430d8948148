package healthd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// backend is Incus as package health sees it.
type backend struct {
	c *incus.Client
	// exits learns exit codes from the kernel; nil where that is another's.
	exits *exits
	// only is the one project to look after; empty means all that no other daemon has.
	only string

	mu      sync.Mutex
	daemons map[health.ID]bool      // instances that other daemons run in
	runs    map[health.ID]time.Time // the last that was seen of each instance, for exits
	queue   chan health.ID          // those to follow
}

func newBackend(c *incus.Client, x *exits) *backend {
	return &backend{c: c, exits: x, runs: map[health.ID]time.Time{}, queue: make(chan health.ID, 1024)}
}

// saw makes the current run of an instance be followed.
func (b *backend) saw(i health.Instance) {
	if b.exits == nil || i.Config[health.KeyEnabled] != "true" {
		return
	}

	b.mu.Lock()
	b.runs[i.ID] = i.Started
	b.mu.Unlock()
	if i.State != health.StateRunning || b.exits.knows(i.ID, i.Started) {
		return
	}

	select {
	case b.queue <- i.ID:
	default: // it is seen again
	}
}

// follow follows what was seen, until ctx ends.
func (b *backend) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-b.queue:
			b.mu.Lock()
			run := b.runs[id]
			b.mu.Unlock()
			if !b.exits.knows(id, run) {
				_ = b.followOne(ctx, id, run) // the log will have to do
			}
		}
	}
}

func (b *backend) followOne(ctx context.Context, id health.ID, run time.Time) error {
	pid, err := b.c.ProcessOf(ctx, id.Project, id.Name)
	if err != nil || pid == 0 {
		return err
	}

	return b.exits.follow(id, run, pid, func() bool {
		again, err := b.c.ProcessOf(ctx, id.Project, id.Name)
		i, lookErr := b.c.Instance(ctx, id.Project, id.Name)

		return err == nil && lookErr == nil && again == pid && i.LastUsed.Equal(run)
	})
}

// lost forgets instances that are gone.
func (b *backend) lost(gone func(health.ID) bool) {
	if b.exits == nil {
		return
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.runs {
		if gone(id) {
			delete(b.runs, id)
			b.exits.forget(id)
		}
	}
}

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

	if b.only != "" {
		return b.list(slices.DeleteFunc(all, func(o incus.Owned) bool { return o.Project != b.only })), nil, nil
	}

	scopes, err := b.c.ProjectKeys(ctx, health.KeyScope)
	if err != nil {
		return nil, nil, kindOf(err)
	}

	list := b.list(all)
	daemons := map[health.ID]bool{}
	for _, i := range list {
		if i.Config[health.KeyDaemon] == "true" {
			daemons[i.ID] = true
		}
	}

	b.mu.Lock()
	b.daemons = daemons
	b.mu.Unlock()

	return list, taken(list, scopes), nil
}

// list takes in what was read of all.
func (b *backend) list(all []incus.Owned) []health.Instance {
	list := make([]health.Instance, 0, len(all))
	there := map[health.ID]bool{}
	for _, o := range all {
		i := shown(o.Project, o.Name, o.Instance)
		list = append(list, i)
		there[i.ID] = true
		b.saw(i)
	}

	b.lost(func(id health.ID) bool { return !there[id] })

	return list
}

// announce says on the daemon's own instance that it is at work, once it is.
func (b *backend) announce(ctx context.Context, r *health.Runner) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		s, err := r.Summary(ctx)
		if err != nil || !s.Ready {
			continue
		}

		err = b.Write(ctx, health.ID{Project: b.only, Name: guestName}, string(health.Healthy), "")
		if err == nil {
			return
		}
	}
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
	if errors.Is(err, incus.ErrNotFound) {
		b.lost(func(other health.ID) bool { return other == id })
	}

	if err != nil {
		return health.Instance{}, kindOf(err)
	}

	i := shown(id.Project, id.Name, o)
	b.saw(i)

	return i, nil
}

func shown(project, name string, o plan.ObservedInstance) health.Instance {
	i := health.Instance{
		ID: health.ID{Project: project, Name: name}, State: health.StateBetween, Started: o.LastUsed, Config: o.Config,
		Devices: map[string]map[string]string{},
	}
	// It is kept for as long as the instance lives: most of what Incus tells of one is nothing to us.
	maps.DeleteFunc(i.Config, func(key, _ string) bool { return !wanted(key) })
	switch o.Status {
	case "Running", "Ready":
		i.State = health.StateRunning
	case "Frozen":
		i.State = health.StateFrozen
	case "Stopped":
		i.State = health.StateStopped
	}

	for n, d := range o.Devices {
		if d["type"] == "nic" {
			i.Devices[n] = d
		}
	}

	return i
}

// wanted tells of the keys of an instance that matter to health, or to how its checks are made.
func wanted(key string) bool {
	return slices.ContainsFunc([]string{"user.healthcheck.", "user.ic-agent.", "environment.", "oci.", "boot."}, func(prefix string) bool {
		return strings.HasPrefix(key, prefix)
	}) || key == "volatile.last_state.power"
}

// Exit tells how the program of a stopped instance ended: by the kernel, else by the container's log.
func (b *backend) Exit(ctx context.Context, id health.ID) (health.Exit, error) {
	b.mu.Lock()
	run := b.runs[id]
	b.mu.Unlock()
	if b.exits != nil {
		exit := b.exits.of(id, run)
		if exit.Known {
			return exit, nil
		}
	}

	e, err := b.c.ExitOf(ctx, id.Project, id.Name)
	if err != nil {
		return health.Exit{}, kindOf(err)
	}

	exit := health.Exit{Known: e.Known, Code: e.Code}
	if e.Signal != 0 {
		exit.Signal = fmt.Sprint(e.Signal)
	}

	if b.exits != nil {
		exit.Kills = b.exits.starved(id, run) // an older kernel tells no exit code, but counts the kills
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

func (b *backend) hostsDaemon(id health.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()

	return b.daemons[id]
}

// hints hands on the events about instances.
func (b *backend) hints(ctx context.Context, on func(health.Hint)) error {
	return b.c.Hints(ctx, func(h incus.Hint) {
		switch {
		case h.Resync:
			on(health.Hint{All: true})
		case h.Action == "instance-renamed", h.Kind == "project", h.Kind == "instance" && b.hostsDaemon(health.ID{Project: h.Project, Name: h.Name}):
			on(health.Hint{All: true}) // it may change whose the project is
		case h.Kind == "instance" && h.Name != "":
			on(health.Hint{
				ID: health.ID{Project: h.Project, Name: strings.TrimSuffix(h.Name, "/")}, By: h.User,
				Ended: h.Action == "instance-shutdown" || h.Action == "instance-stopped",
			})
		}
	})
}
