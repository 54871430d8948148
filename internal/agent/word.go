package agent

import (
	"context"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
)

// Apply answers the API: a stack is looked at, and what waits for its window waits no more when r.Now says so.
func (a *Agent) Apply(ctx context.Context, r api.ApplyRequest, by string) (api.ActionReply, error) {
	before, err := a.view(r.Stack)
	if err != nil {
		return api.ActionReply{}, err
	}

	if r.Service != "" && !has(before, r.Service) {
		return api.ActionReply{}, noSuchService(before, r.Service)
	}

	done := make(chan struct{})
	a.stacks.loop(r.Stack).Apply(r.Service, r.Now, by, done)
	err = await(ctx, done)
	if err != nil {
		return api.ActionReply{}, err
	}

	now := a.stacks.loop(r.Stack).View().State
	what := r.Stack + " is " + string(now)
	switch {
	case now == apply.Scheduled && !r.Now:
		what += ": \"ic-agent status " + r.Stack + "\" shows what waits, and --now does not"
	case now != apply.InSync:
		what += "; \"ic-agent status " + r.Stack + "\" shows how it goes"
	}

	return api.ActionReply{Text: what}, nil
}

// Release answers the API: a stack is given out of our hands.
func (a *Agent) Release(ctx context.Context, req api.ReleaseRequest) (api.ReleaseReply, error) {
	v, err := a.view(req.Stack)
	if err != nil {
		return api.ReleaseReply{}, err
	}

	got, err := a.stacks.loop(req.Stack).Release(ctx, req.Dry)
	if err != nil {
		return api.ReleaseReply{}, refusal(req.Stack, err)
	}

	if !req.Dry {
		done := make(chan struct{})
		a.stacks.loop(req.Stack).Apply("", false, "", done) // What is answered next is to be true already.
		err = await(ctx, done)
		if err != nil {
			return api.ReleaseReply{}, err
		}
	}

	reply := api.ReleaseReply{Notes: got.Notes}
	for _, s := range got.Marks.Steps {
		reply.Objects = append(reply.Objects, s.On.String())
	}

	if v.Project != nil && !onTheWayOut(v.State) {
		reply.Source = v.Project.Source
	}

	return reply, nil
}
