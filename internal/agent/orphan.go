package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// askAgain is the time between attempts to ask Incus for orphans.
const askAgain = 10 * time.Second

// orphans finds, once after the start, the stacks that Incus has with our mark and that neither the directories nor
// the ledger know: their ledger was lost while their file was gone.
func (a *Agent) orphans(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-ready:
	}

	for {
		owners, err := a.incus.ProjectKeys(ctx, plan.KeyOwner)
		names, nerr := a.incus.ProjectKeys(ctx, plan.KeyStack)
		if err == nil && nerr == nil {
			for _, project := range slices.Sorted(maps.Keys(owners)) {
				stack := names[project]
				if owners[project] == a.stacks.host.Owner && stack != "" && !a.accounted(stack) {
					a.stacks.seed(stack, project)
					a.stacks.loop(stack).Orphan(project)
				}
			}

			return nil
		}

		t := time.NewTimer(askAgain)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// accounted reports whether a stack has a file, or did when it was last looked, or a ledger.
func (a *Agent) accounted(stack string) bool {
	snap := a.snap.get()
	_, seen := snap.Stacks[stack]

	return seen || a.stacks.has(stack) || slices.Contains(snap.Held, stack) ||
		slices.ContainsFunc(snap.Problems, func(p watch.Problem) bool { return p.Stack == stack })
}

// Destroy answers the API: a stack whose file is gone is deleted, or, with dry, the plan of it shown.
func (a *Agent) Destroy(ctx context.Context, req api.DestroyRequest) (api.DestroyReply, error) {
	if !a.stacks.has(req.Stack) {
		return api.DestroyReply{}, noSuchStack(req.Stack)
	}

	p, err := a.stacks.loop(req.Stack).Destroy(ctx, req.Volumes, req.Dry)
	if err != nil {
		return api.DestroyReply{}, refusal(req.Stack, err)
	}

	reply := api.DestroyReply{Plan: p.String()}
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case plan.DeleteInstance:
			reply.Instances = append(reply.Instances, op.Name)
		case plan.DeleteNetwork:
			reply.Networks = append(reply.Networks, op.Name)
		case plan.DeleteVolume:
			reply.Volumes = append(reply.Volumes, op.Name)
		default:
		}
	}

	v := a.stacks.loop(req.Stack).View()
	for _, name := range slices.Sorted(maps.Keys(v.Observed.Volumes)) {
		if !req.Volumes {
			reply.Kept = append(reply.Kept, name)
		}
	}

	return reply, nil
}

// Adopt answers the API: what has a stack's names and no owner becomes the stack's.
func (a *Agent) Adopt(ctx context.Context, req api.AdoptRequest) (api.AdoptReply, error) {
	if !a.stacks.has(req.Stack) {
		return api.AdoptReply{}, noSuchStack(req.Stack)
	}

	got, err := a.stacks.loop(req.Stack).Adopt(ctx, req.Networks, req.Yes, req.Dry)
	if err != nil {
		return api.AdoptReply{}, refusal(req.Stack, err)
	}

	reply := api.AdoptReply{Left: len(got.Then.Steps), Done: got.Done}
	for _, s := range got.Marks.Steps {
		text := s.On.String()
		more, ok := strings.CutPrefix(s.Cause, plan.Adopted+"; ")
		if ok {
			text += ": " + more
		}

		reply.Objects = append(reply.Objects, text)
	}

	for _, b := range got.Marks.Blocked {
		reply.Conflicts = append(reply.Conflicts, b.String())
	}

	if !got.Then.Empty() || len(got.Then.Blocked) > 0 {
		reply.Plan = got.Then.String()
	}

	return reply, nil
}

// ConfirmRemoval answers the API: what vanished together, and what is protected, may go. A name is a stack's or
// "stack/service"; none means all stacks that vanished together.
func (a *Agent) ConfirmRemoval(ctx context.Context, names []string) ([]string, error) {
	var vanished, confirmed []string
	held := a.snap.get().Held
	for _, name := range names {
		stack, service, _ := strings.Cut(name, "/")
		if service == "" && slices.Contains(held, stack) {
			vanished = append(vanished, stack)
		}

		if !a.stacks.has(stack) {
			return nil, noSuchStack(stack)
		}

		if !slices.Contains(held, stack) && !removable(a.stacks.loop(stack).View(), service) {
			return nil, &api.Error{Kind: api.NotFound, Text: "no removal of " + name + " is held", Hint: "\"ic-agent status\" shows which are"}
		}

		err := a.stacks.loop(stack).ConfirmRemoval(ctx, service)
		if err != nil {
			return nil, refusal(stack, err)
		}

		confirmed = append(confirmed, name)
	}

	if len(vanished) == 0 && len(names) > 0 {
		return confirmed, nil
	}

	removed, err := a.watch.ConfirmRemoval(ctx, vanished...)
	if err != nil {
		return nil, &api.Error{Kind: api.NotFound, Text: err.Error(), Hint: "\"ic-agent status\" shows which are held"}
	}

	confirmed = append(confirmed, removed...)
	slices.Sort(confirmed)

	return slices.Compact(confirmed), nil
}

// removable reports whether a stack, or a service of it, is gone and waits for somebody's word.
func removable(v *apply.View, service string) bool {
	if service == "" && (v.State == apply.Removed || v.State == apply.Orphaned) {
		return true
	}

	return slices.ContainsFunc(v.Ledger.Conditions, func(c plan.Condition) bool {
		_, instance, _ := strings.Cut(c.Object, "/")
		return c.Type == "RemovalHeld" && (service == "" || v.Observed.Instances[instance].Config[plan.KeyService] == service)
	})
}

// refusal puts a loop's refusal into the API's words.
func refusal(stack string, err error) error {
	switch {
	case errors.Is(err, apply.ErrInForce):
		return &api.Error{Kind: api.BadRequest, Text: "the file of " + stack + " is there", Hint: "remove the file first; it is the stack"}
	case errors.Is(err, apply.ErrOutOfForce):
		return &api.Error{Kind: api.BadRequest, Text: "the stack " + stack + " has no file, or none that was accepted", Hint: "put its compose file into the directory first; \"ic-agent check FILE\" says what is wrong with one"}
	case errors.Is(err, apply.ErrNoData):
		return &api.Error{Kind: api.BadRequest, Text: err.Error(), Hint: "without --data only the version goes back, and the data stays"}
	case errors.Is(err, apply.ErrProtected):
		return &api.Error{Kind: api.BadRequest, Text: stack + " is protected", Hint: fmt.Sprintf("\"ic-agent confirm-removal %s\" comes first", stack)}
	case away(err):
		return &api.Error{Kind: api.AwayIncus, Text: err.Error()}
	}

	return err
}
