package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// saveAgain is the time before a snapshot that could not be taken is tried again.
const saveAgain = 10 * time.Minute

// ErrNoData refuses to bring data back that is not kept.
var ErrNoData = errors.New("the data cannot be brought back")

// unsaved finds updates whose snapshot could not be taken: what was stopped for them is to run on in its old version,
// until it is tried again. It reports whether there are any.
func (l *Loop) unsaved(p plan.Plan, failed map[plan.ID]error) bool {
	found := false
	for _, s := range p.Steps {
		op, snapshot := s.Op.(plan.SnapshotVolume)
		ro, active := l.led.Rollouts[op.Service]
		if !snapshot || failed[s.On] == nil || !active || ro.Phase != "" {
			continue
		}

		ro.Unsaved, ro.NotBefore = failed[s.On].Error(), time.Now().Add(saveAgain)
		for name, t := range ro.Trials {
			if !t.Passed && t.Start.IsZero() {
				delete(ro.Trials, name)
			}
		}

		l.led.Rollouts[op.Service] = ro
		found = true
		l.log.Warn("update put off: no snapshot", "service", op.Service, "err", failed[s.On])
	}

	return found
}

// RollbackWithData is Rollback, and brings back the data that the stack's volumes held when the generation was given up.
// It returns the snapshots that keep what they held until then. The error is ErrNoData, or what a step failed with.
func (l *Loop) RollbackWithData(ctx context.Context, generation uint64, by string) ([]plan.Snapshot, error) {
	var kept []plan.Snapshot
	err := l.order(ctx, func(ctx context.Context) error {
		if l.led.Project == nil || l.led.Released || !l.led.RemovedAt.IsZero() {
			return ErrOutOfForce
		}

		have, err := l.observe(ctx)
		if err != nil {
			return err
		}

		p := plan.Restore(l.stack, l.host.Owner, generation, have, l.led, time.Now().Round(0))
		if len(p.Blocked) > 0 {
			return fmt.Errorf("%w: %s", ErrNoData, p.Blocked[0].Reason)
		}

		l.log.WarnContext(ctx, "data goes back on request", "generation", generation, "by", by)
		l.turn.Observed = have
		for _, err := range l.execute(ctx, p) {
			return err
		}

		for _, s := range p.Steps {
			op, snapshot := s.Op.(plan.SnapshotVolume)
			if snapshot {
				kept = append(kept, op.Snapshot)
			}
		}

		l.goTo(order{generation: generation, by: by})

		return nil
	})

	return kept, err
}
