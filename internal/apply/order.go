package apply

import (
	"context"
	"errors"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// ErrInForce refuses what is only done to a stack whose file is gone, and was understood once.
var ErrInForce = errors.New("its file is there")

// ErrProtected refuses to destroy what is protected.
var ErrProtected = errors.New("it is protected")

// order has the loop's own goroutine do something between two passes, and waits for the end of it. What was not
// begun when ctx ends is not done.
func (l *Loop) order(ctx context.Context, do func(ctx context.Context) error) error {
	done := make(chan error, 1)
	l.post(func(m *mail) {
		m.dirty = true
		m.orders = append(m.orders, func(own context.Context) {
			if ctx.Err() == nil {
				done <- do(own)
			}
		})
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Destroy deletes a stack whose file is gone: instances and networks, with volumes also its volumes. With dry it only
// says what it would do. The error is ErrInForce, ErrProtected, or what a step failed with.
func (l *Loop) Destroy(ctx context.Context, volumes, dry bool) (plan.Plan, error) {
	var p plan.Plan
	err := l.order(ctx, func(ctx context.Context) error {
		if l.led.RemovedAt.IsZero() || l.led.Project == nil {
			return ErrInForce
		}

		have, err := l.observe(ctx)
		if err != nil {
			return err
		}

		p = plan.Destroy(l.stack, l.host.Owner, have, l.led, volumes)
		switch {
		case len(p.Blocked) > 0:
			return ErrProtected
		case dry:
			return nil
		}

		l.log.WarnContext(ctx, "stack is destroyed on request", "volumes", volumes)
		l.turn.Observed = have
		for _, err := range l.execute(ctx, p) {
			return err
		}

		if l.host.Ports != nil {
			l.host.Ports(ctx, l.stack, nil, nil)
		}

		return nil
	})

	return p, err
}

// ConfirmRemoval lets a protected service go that the file no longer has, or, with an empty name, the whole stack.
func (l *Loop) ConfirmRemoval(ctx context.Context, service string) error {
	return l.order(ctx, func(ctx context.Context) error {
		if l.led.Confirmed == nil {
			l.led.Confirmed = map[string]bool{}
		}

		l.led.Confirmed[service] = true
		l.log.InfoContext(ctx, "removal confirmed", "service", service)

		return nil
	})
}

// Orphan tells the loop that its stack was found in an Incus project, with neither a file nor a ledger.
func (l *Loop) Orphan(project string) {
	l.post(func(m *mail) { m.orphan, m.dirty = project, true })
}
