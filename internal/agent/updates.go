package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// History answers the API: what is kept of a stack.
func (a *Agent) History(_ context.Context, stack string) ([]api.Generation, error) {
	v, err := a.view(stack)
	if err != nil {
		return nil, err
	}

	all, err := a.db.Generations(stack)
	if err != nil {
		return nil, err
	}

	var out []api.Generation
	for _, g := range slices.Backward(all) {
		out = append(out, generationOf(g, v))
	}

	return out, nil
}

func generationOf(g plan.Generation, v *apply.View) api.Generation {
	var snapshots, left []string
	for _, s := range v.Ledger.Snapshots {
		name := s.Pool + "/" + s.Volume + "/" + s.Name
		switch {
		case s.Generation != g.Number:
		case s.Service != "":
			snapshots = append(snapshots, name)
		default:
			left = append(left, name)
		}
	}

	return api.Generation{
		Snapshots: snapshots, Left: left,
		Number: g.Number, At: g.At, Who: g.Who, Why: g.Why, Outcome: g.Outcome, OutcomeAt: g.OutcomeAt, Evidence: g.Evidence,
		Digests: g.Digests, Plan: g.Plan, Current: g.Number == v.Ledger.Generation,
	}
}

// Generation answers the API: one generation, its files, and what they mean in Incus.
func (a *Agent) Generation(_ context.Context, stack string, number uint64) (api.Generation, error) {
	v, err := a.view(stack)
	if err != nil {
		return api.Generation{}, err
	}

	g, err := a.db.Generation(stack, number)
	if err != nil {
		return api.Generation{}, notKept(stack, err)
	}

	out := generationOf(g, v)
	for _, f := range g.Files {
		out.Documents = append(out.Documents, api.Document{Name: f.Path, Text: string(f.Content), Omitted: f.Omitted})
	}

	in := plan.Input{
		Owner: a.stacks.host.Owner, Images: g.Images, Segments: v.Segments, Addresses: v.Ledger.Addresses, Pool: v.Observed.Server.Pool,
		Domain: a.conf.Settings.domain(), FilesDir: a.conf.Files, Homes: plan.Homes(v.Observed, v.Owner),
	}
	out.Documents = append(out.Documents, api.Document{Name: "Incus", Text: plan.Render(*g.Project, in).Listing()})

	return out, nil
}

func notKept(stack string, err error) error {
	return &api.Error{Kind: api.NotFound, Text: err.Error(), Hint: "\"ic-agent history " + stack + "\" lists what is kept"}
}

// Rollback answers the API: an earlier generation becomes the wanted one.
func (a *Agent) Rollback(ctx context.Context, r api.RollbackRequest, by string) (api.ActionReply, error) {
	v, err := a.view(r.Stack)
	if err != nil {
		return api.ActionReply{}, err
	}

	if r.Generation == 0 {
		r.Generation, err = a.previous(v)
		if err != nil {
			return api.ActionReply{}, err
		}
	}

	g, err := a.db.Generation(r.Stack, r.Generation)
	if err != nil {
		return api.ActionReply{}, notKept(r.Stack, err)
	}

	if v.Project == nil || g.Project.Incus != v.Project.Incus {
		return api.ActionReply{}, &api.Error{Kind: api.BadRequest, Text: "generation " + strconv.FormatUint(r.Generation, 10) + " was the project " + g.Project.Name}
	}

	var kept []plan.Snapshot
	if r.Data {
		kept, err = a.stacks.loop(r.Stack).RollbackWithData(ctx, r.Generation, by)
	} else {
		done := make(chan struct{})
		a.stacks.loop(r.Stack).Rollback(r.Generation, by, done)
		err = await(ctx, done)
	}

	if err != nil {
		return api.ActionReply{}, refusal(r.Stack, err)
	}

	var text strings.Builder
	fmt.Fprintf(&text, "%s is generation %d again. Its file is another one now: edit it, or run \"ic-agent retry %s\", to go on with it.",
		r.Stack, r.Generation, r.Stack)
	for _, s := range kept {
		fmt.Fprintf(&text, "\nThe volume %s holds its data of then; what it held until now is its snapshot %s.", s.Volume, s.Name)
	}

	return api.ActionReply{Text: text.String()}, nil
}

// previous is the newest generation that did well and is another one than the one in force.
func (a *Agent) previous(v *apply.View) (uint64, error) {
	all, err := a.db.Generations(v.Stack)
	if err != nil {
		return 0, err
	}

	for _, g := range slices.Backward(all) {
		if g.Number < v.Ledger.Generation && g.Outcome == "did well" && (v.Project == nil || g.Hash != v.Project.Hash) {
			return g.Number, nil
		}
	}

	return 0, &api.Error{
		Kind: api.NotFound, Text: "no earlier generation of " + v.Stack + " is known to have done well",
		Hint: "name one of \"ic-agent history " + v.Stack + "\"",
	}
}

// Retry answers the API: what was given up is tried again.
func (a *Agent) Retry(ctx context.Context, r api.RetryRequest, by string) (api.ActionReply, error) {
	v, err := a.view(r.Stack)
	if err != nil {
		return api.ActionReply{}, err
	}

	if r.Service != "" && !has(v, r.Service) {
		return api.ActionReply{}, noSuchService(v, r.Service)
	}

	what := ""
	switch {
	case r.Service == "" && v.Ledger.Pin != nil:
		what = "the file of " + r.Stack + " is followed again"
	case r.Service == "" && len(v.Ledger.Rollouts) > 0, v.Ledger.Rollouts[r.Service].Hash != "":
		what = "tried again; \"ic-agent status " + r.Stack + "\" shows how it goes"
	default:
		what = "nothing of it was given up; it has been looked at"
	}

	done := make(chan struct{})
	a.stacks.loop(r.Stack).Retry(r.Service, by, done)
	err = await(ctx, done)

	return api.ActionReply{Text: what}, err
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the stack: %w", context.Cause(ctx))
	}
}

// view finds a stack's view.
func (a *Agent) view(stack string) (*apply.View, error) {
	views, _ := a.stacks.views()
	for _, v := range views {
		if v.Stack == stack {
			return v, nil
		}
	}

	return nil, noSuchStack(stack)
}

func has(v *apply.View, service string) bool {
	return v.Project != nil && slices.ContainsFunc(v.Project.Services, func(s plan.Service) bool { return s.Name == service })
}

func noSuchService(v *apply.View, service string) error {
	var names []string
	if v.Project != nil {
		for _, s := range v.Project.Services {
			names = append(names, s.Name)
		}
	}

	return &api.Error{
		Kind: api.NotFound, Text: fmt.Sprintf("the stack %s has no service %q", v.Stack, service), Hint: "it has " + strings.Join(names, ", "),
	}
}

// Why answers the API: what a service is, since when, what last touched it, and what it waits for.
func (a *Agent) Why(_ context.Context, stack, service string) (api.ActionReply, error) {
	v, err := a.view(stack)
	if err != nil {
		return api.ActionReply{}, err
	}

	if !has(v, service) {
		return api.ActionReply{}, noSuchService(v, service)
	}

	var b strings.Builder
	now := time.Now()
	s := stackOf(v)
	i := slices.IndexFunc(s.Services, func(s api.Service) bool { return s.Name == service })
	fmt.Fprintf(&b, "%s/%s: %d of %d running, image %s, stack %s\n", stack, service, s.Services[i].Running, s.Services[i].Want, s.Services[i].Image, s.State)
	for _, inst := range s.Services[i].Instances {
		fmt.Fprintf(&b, "%s: %s%s%s%s\n", inst.Name, word(inst.Status), lasting(inst.Since, now), healthOf(inst.Health), noted(inst.Note))
		last, known := v.Ledger.Last[inst.Name]
		if known {
			fmt.Fprintf(&b, "  last step, %s ago: %s\n", now.Sub(last.At).Round(time.Second), last.Text)
		}

		conditions(&b, v, "instance/"+inst.Name)
	}

	conditions(&b, v, "service/"+service)
	conditions(&b, v, "")
	ro, active := v.Ledger.Rollouts[service]
	if active && ro.Evidence != "" {
		fmt.Fprintf(&b, "what the failed instance last wrote:\n  %s\n", strings.ReplaceAll(ro.Evidence, "\n", "\n  "))
	}

	good, known := v.Ledger.Good[service]
	if known {
		fmt.Fprintf(&b, "last known to do well: generation %d (image %.19s)\n", good.Generation, good.Digest)
	}

	return api.ActionReply{Text: b.String()}, nil
}

func conditions(b *strings.Builder, v *apply.View, object string) {
	for _, c := range v.Ledger.Conditions {
		if c.Object == object {
			fmt.Fprintf(b, "  %s: %s\n", c.Type, c.Text)
		}
	}
}

func word(status string) string {
	if status == "" {
		return "not there"
	}

	return status
}

func lasting(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}

	return " for " + now.Sub(since).Round(time.Second).String()
}

func healthOf(health string) string {
	if health == "" {
		return ""
	}

	return ", " + health
}

func noted(note string) string {
	if note == "" {
		return ""
	}

	return " (" + note + ")"
}

// readFile reads a file of a stack, unless it is larger than any is.
func readFile(path string) ([]byte, error) {
	const most = 1 << 20
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, errors.New("it is no plain file")
	case fi.Size() > most:
		return nil, fmt.Errorf("it has %d bytes", fi.Size())
	}

	return os.ReadFile(path)
}

// author names the owner of a file.
func author(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return ""
	}

	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}

	id := strconv.FormatUint(uint64(st.Uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return "uid " + id
	}

	return u.Username
}
