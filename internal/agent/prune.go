package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// The time between two looks for images that nobody needs.
const (
	leastPrune = time.Second
	mostPrune  = 10 * time.Minute
)

// prune deletes, at calm moments, the images that we brought and nobody needs any more. One goes only when two looks
// in a row agree.
func (a *Agent) prune(ctx context.Context) error {
	keep, err := a.conf.Settings.keepUnused()
	if err != nil {
		return err
	}

	tick := time.NewTicker(min(max(keep/4, leastPrune), mostPrune))
	defer tick.Stop()

	var before []string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}

		if !a.calm() {
			before = nil
			continue
		}

		surplus, err := a.surplus(ctx, keep)
		if err != nil {
			a.log.DebugContext(ctx, "images not looked at", "err", err)
			continue
		}

		for _, fp := range surplus {
			if !slices.Contains(before, fp) {
				continue
			}

			err = a.incus.Do(ctx, "default", plan.DeleteImage{Fingerprint: fp, Owner: a.stacks.host.Owner})
			if err != nil {
				a.log.WarnContext(ctx, "image not deleted", "fingerprint", fp[:12], "err", err)
				continue
			}

			a.log.InfoContext(ctx, "image deleted: no stack needs it", "fingerprint", fp[:12])
		}

		before = surplus
	}
}

// calm tells whether nothing is being changed, fetched or built.
func (a *Agent) calm() bool {
	views, _ := a.stacks.views()
	busy := slices.ContainsFunc(views, func(v *apply.View) bool {
		return v.State == apply.Applying || v.State == apply.Waiting || !v.Plan.Empty()
	})

	return !busy && len(a.images.underway()) == 0
}

// surplus names the images that no ledger and no instance of any project needs. When anything cannot be read,
// nothing is.
func (a *Agent) surplus(ctx context.Context, keep time.Duration) ([]string, error) {
	needed := map[string]bool{}
	names, err := a.db.Stacks()
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}

	for _, name := range names {
		l, err := a.db.Load(name)
		if err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}

		l.Needs(needed)
	}

	views, _ := a.stacks.views()
	for _, v := range views {
		v.Ledger.Needs(needed)
	}

	all, err := a.incus.Instances(ctx)
	if err != nil {
		return nil, err
	}

	for _, i := range all {
		needed[i.Instance.Fingerprint] = true
	}

	have, err := a.incus.Images(ctx, "default")
	if err != nil {
		return nil, err
	}

	return plan.Surplus(have, a.stacks.host.Owner, needed, keep, time.Now()), nil
}
