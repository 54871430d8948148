package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// Status answers the API.
func (a *Agent) Status(_ context.Context) (api.Status, error) {
	s := api.Status{Version: a.conf.Version, Owner: a.stacks.host.Owner, Since: a.since}
	version, asked, err := a.server.get()
	s.Incus = api.Incus{OK: asked && err == nil, Version: version}
	if err != nil {
		s.Incus.Error = err.Error()
	}

	ds := a.dns.Status()
	s.DNS.Names = ds.Names
	var unheard string
	s.DNS.Host, unheard = a.fromHost(ds)
	for _, l := range ds.Listeners {
		if l.Err == nil {
			s.DNS.Listeners = append(s.DNS.Listeners, l.Addr.String())
			continue
		}

		if s.DNS.Failed == nil {
			s.DNS.Failed = map[string]string{}
		}

		s.DNS.Failed[l.Want.String()] = l.Err.Error()
	}

	s.Pulls = a.images.underway()
	views, skipped := a.stacks.views()
	for _, v := range views {
		s.Stacks = append(s.Stacks, stackOf(v))
	}

	for _, name := range skipped {
		s.Stacks = append(s.Stacks, api.Stack{Name: name, State: api.Skipped})
	}

	slices.SortFunc(s.Stacks, func(x, y api.Stack) int { return strings.Compare(x.Name, y.Name) })
	for _, p := range a.snap.get().Problems {
		s.Problems = append(s.Problems, p.String())
	}

	s.Problems = slices.Concat(s.Problems, ds.Problems(), a.zoning.problems(), a.local.Problems(), a.stateProblems())
	if unheard != "" {
		s.Problems = append(s.Problems, unheard)
	}

	return s, nil
}

// Plan answers the API: what is left to do, for one stack or for all.
func (a *Agent) Plan(_ context.Context, stack string) ([]api.PlanReply, error) {
	views, skipped := a.stacks.views()
	var out []api.PlanReply
	for _, v := range views {
		if stack == "" || v.Stack == stack {
			out = append(out, api.PlanOf(v.Plan))
		}
	}

	switch {
	case len(out) > 0 || stack == "":
		return out, nil
	case slices.Contains(skipped, stack):
		return nil, &api.Error{Kind: api.NotFound, Text: "the stack " + stack + " is skipped", Hint: "remove " + stack + ".skip to have it managed again"}
	}

	return nil, noSuchStack(stack)
}

func noSuchStack(stack string) error {
	return &api.Error{Kind: api.NotFound, Text: "there is no stack " + strconv.Quote(stack), Hint: "\"ic-agent status\" lists them"}
}

// Reload answers the API: it looks at the directories now; with wait, it waits for the stacks to act on it.
func (a *Agent) Reload(ctx context.Context, wait bool) (api.ReloadReply, error) {
	a.notifyReload(true)
	defer a.notifyReload(false)

	snap, err := a.watch.Rescan(ctx)
	if err != nil {
		return api.ReloadReply{}, err
	}

	var reply api.ReloadReply
	for _, p := range snap.Problems {
		reply.Problems = append(reply.Problems, p.String())
		if p.Condition == watch.InvalidName || p.Condition == watch.Untrusted || p.Condition == watch.Refused {
			reply.Stacks = append(reply.Stacks, api.ReloadResult{Stack: cmp.Or(p.Stack, filepath.Base(p.Path)), State: api.Invalid, Error: p.String()})
		}
	}

	done := map[string]chan struct{}{}
	for name, st := range snap.Stacks {
		if wait && !slices.Contains(snap.Held, name) {
			done[name] = make(chan struct{})
			a.stacks.change(st, done[name])
		}
	}

	for _, name := range slices.Sorted(maps.Keys(done)) {
		select {
		case <-done[name]:
		case <-ctx.Done():
			return reply, fmt.Errorf("wait for the stack %s: %w", name, context.Cause(ctx))
		}

		reply.Stacks = append(reply.Stacks, a.outcome(snap.Stacks[name]))
	}

	return reply, nil
}

// outcome says what became of a stack's files.
func (a *Agent) outcome(st watch.Stack) api.ReloadResult {
	r := api.ReloadResult{Stack: st.Name, State: api.Skipped}
	if st.Skip {
		return r
	}

	v := a.stacks.loop(st.Name).View()
	r.State = api.State(v.State)
	for _, c := range v.Ledger.Conditions {
		if c.Type == "Invalid" {
			r.State, r.Error = api.Invalid, c.Text
		}
	}

	return r
}

func stackOf(v *apply.View) api.Stack {
	s := api.Stack{
		Name: v.Stack, State: api.State(v.State), Generation: v.Ledger.Generation, LastApplied: v.Ledger.AppliedAt, Next: v.Next,
	}
	s.Conditions = api.ConditionsOf(v.Ledger.Conditions)
	if !v.Plan.Empty() {
		s.Plan = v.Plan.String()
	}

	p := v.Project
	if p == nil {
		return s
	}

	if !onTheWayOut(v.State) {
		s.Conditions = append(s.Conditions, api.ConditionsOf(troubles(v))...)
	}

	s.Parked = leftovers(v)
	if onTheWayOut(v.State) {
		s.Volumes = slices.Sorted(maps.Keys(v.Observed.Volumes))
	} else if len(v.Ledger.Rollouts) == 0 { // else something may go back to one of them
		s.Unused = plan.Unused(v.Desired, v.Observed, v.Owner)
	}

	s.Project, s.Source = p.Incus, p.Source
	warnings := v.Plan.Warnings
	if warnings == nil {
		warnings = p.Warnings
	}

	s.Warnings = api.WarningsOf(warnings)
	for _, svc := range p.Services {
		if v.State == apply.Parked {
			break // what is left of it is among the parked
		}

		s.Services = append(s.Services, serviceOf(v, svc))
	}

	return s
}

// troubles are those of instances that no condition is about yet.
func troubles(v *apply.View) []plan.Condition {
	all := plan.Troubles(*v.Project, v.Observed, v.Ledger)

	return slices.DeleteFunc(all, func(c plan.Condition) bool {
		return slices.ContainsFunc(v.Ledger.Conditions, func(o plan.Condition) bool { return o.Object == c.Object })
	})
}

// leftovers are the parked instances of a stack.
func leftovers(v *apply.View) []api.Leftover {
	var out []api.Leftover
	for _, name := range slices.Sorted(maps.Keys(v.Observed.Instances)) {
		inst := v.Observed.Instances[name]
		if inst.Config[plan.KeyOwner] != v.Owner || inst.Config[plan.KeyParked] == "" || inst.Status == plan.Running {
			continue
		}

		keep := v.Project.Keep
		if keep == 0 {
			keep = apply.Keep
		}

		kept := v.Ledger.Parked[name]
		out = append(out, api.Leftover{
			Name: name, Service: inst.Config[plan.KeyService], Since: kept.Since, Left: int64(max(keep-kept.For, 0) / time.Second),
		})
	}

	return out
}

func serviceOf(v *apply.View, svc plan.Service) api.Service {
	s := api.Service{Name: svc.Name, Image: svc.Image.Ref, Want: svc.Replicas, Update: updateNote(v, svc.Image.Ref)}
	for _, p := range svc.Ports {
		number := p.Published
		if number == 0 {
			number = v.Ledger.Ports[plan.PortKey(svc.Name, p)]
		}

		from := strconv.Itoa(int(number))
		if p.PublishedEnd > p.Published {
			from += "-" + strconv.Itoa(int(p.PublishedEnd))
		}

		if p.HostIP.IsValid() {
			from = p.HostIP.String() + ":" + from
		}

		s.Ports = append(s.Ports, fmt.Sprintf("%s → %d/%s", from, p.Target, p.Protocol))
	}

	for i := 1; i <= svc.Replicas; i++ {
		inst := instanceOf(v, svc, plan.InstanceName(svc, i))
		if inst.Status == string(plan.Running) {
			s.Running++
		}

		s.Instances = append(s.Instances, inst)
	}

	return s
}

func instanceOf(v *apply.View, svc plan.Service, name string) api.Instance {
	have, there := v.Observed.Instances[name]
	inst := api.Instance{Name: name, Status: string(have.Status), Health: have.Config[plan.KeyHealthStatus]}
	if have.Status == plan.Running {
		inst.Since = have.LastUsed
	}

	for _, att := range svc.Networks {
		for _, n := range v.Project.Networks {
			for _, key := range []string{n.Incus, plan.V6(n.Incus)} {
				addr := v.Ledger.Addresses[key][name]
				if n.Name == att.Network && addr.IsValid() {
					inst.Addresses = append(inst.Addresses, addr.String())
				}
			}
		}
	}

	stop, stopped := v.Ledger.Stops[name]
	switch {
	case !there:
		inst.Note = "not made yet"
	case have.Status == plan.Running:
	case stopped:
		inst.Since, inst.Note = stop.At, "stopped by "+stop.By
	case v.Ledger.Started[name] != "":
		inst.Note = "it ended by itself"
		exit := v.Ledger.Exits[name]
		if exit.Known {
			inst.Note = "it ended with " + plan.ExitWords(exit.Code)
		}
	}

	return inst
}
