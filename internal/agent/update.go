package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// Update answers the API: it asks the registries about newer images now.
func (a *Agent) Update(ctx context.Context, req api.UpdateRequest) ([]api.UpdateReply, error) {
	type asked struct {
		loop   *apply.Loop
		before *apply.View
		done   chan struct{}
	}

	var all []asked
	for _, l := range a.stacks.all() {
		v := l.View()
		if v.Project == nil || req.Stack != "" && v.Stack != req.Stack {
			continue
		}

		q := asked{l, v, make(chan struct{})}
		l.Refresh(req.Apply, "ic-agent update", q.done)
		all = append(all, q)
	}

	if len(all) == 0 && req.Stack != "" {
		return nil, noSuchStack(req.Stack)
	}

	var out []api.UpdateReply
	for _, q := range all {
		select {
		case <-q.done:
		case <-ctx.Done():
			return out, fmt.Errorf("wait for the stack %s: %w", q.before.Stack, context.Cause(ctx))
		}

		now := q.loop.View()
		if now.Project == nil {
			continue
		}

		for _, svc := range now.Project.Services {
			out = append(out, updateOf(q.before, now, svc))
		}
	}

	return out, nil
}

// updateOf says what asking found out about a service's image.
func updateOf(before, now *apply.View, svc plan.Service) api.UpdateReply {
	ref := svc.Image.Ref
	old, img, u := before.Ledger.Images[ref], now.Ledger.Images[ref], now.Ledger.Updates[ref]
	r := api.UpdateReply{Stack: now.Stack, Service: svc.Name, Image: ref, Before: old.Digest, Now: img.Digest}
	switch {
	case img.Digest == "":
		r.Text, r.Failed = "not known yet: see ic-agent status "+now.Stack, true
	case old.Digest != img.Digest:
		r.Text = "updated: " + digests(old.Digest, img.Digest)
	case u.Failures > 0:
		r.Text, r.Failed = u.Error, true
	case u.Digest != "":
		r.Text = available(ref, img, u)
	case img.BuildKey != "":
		r.Text = "built from its sources"
	case strings.Contains(ref, "@"):
		r.Text = "named by its digest: nothing can be newer"
	default:
		r.Text = "up to date"
	}

	return r
}

// available says that there is a newer image: "update available: nginx:1.27 0123… → 4567…, since …".
func available(ref string, img plan.Image, u plan.Update) string {
	return "update available: " + ref + " " + digests(img.Digest, u.Digest) + ", since " + u.Seen.Format(time.DateTime)
}

func digests(from, to string) string { return short(from) + " → " + short(to) }

func short(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")

	return hex[:min(12, len(hex))]
}

// updateNote is what the status says of a service's image; empty when there is nothing to say.
func updateNote(v *apply.View, ref string) string {
	u := v.Ledger.Updates[ref]
	switch {
	case u.Digest != "":
		return available(ref, v.Ledger.Images[ref], u)
	case u.Failures > 0:
		return "update check failed, next " + u.Next.Format(time.DateTime) + ": " + u.Error
	}

	return ""
}
