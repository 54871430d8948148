package incus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// hookTime bounds a post_start hook, hookOutput is how much of its output is said.
	hookTime   = 2 * time.Minute
	hookOutput = 2000
	// leastPreStop is what pre_stop hooks have together, where the grace is shorter.
	leastPreStop = 10 * time.Second
)

// runHooks runs the post_start hooks that an instance carries, unless they were begun for its present start: what was
// broken off is not run twice.
func (c *Client) runHooks(ctx context.Context, project, name string) error {
	i, _, err := c.instance(ctx, project, name)
	if err != nil {
		return err
	}
	begun := plan.HookMark(i.LastUsedAt, "", "")
	if strings.HasPrefix(i.Config[plan.KeyHooked], begun+" ") {
		return nil // its outcome is in the key
	}
	mark := func(ctx context.Context, state, why string) error {
		set := map[string]string{plan.KeyHooked: plan.HookMark(i.LastUsedAt, state, why)}
		return c.updateInstance(ctx, project, plan.UpdateInstance{Name: name, Config: set})
	}
	err = mark(ctx, plan.HookBegun, "")
	if err != nil {
		return err
	}
	for _, h := range plan.Commands(i.Config[plan.KeyPostStart]) {
		err = c.hook(ctx, project, name, h, hookTime)
		switch {
		case ctx.Err() != nil:
			return err // the mark says that it was begun
		case err != nil:
			return errors.Join(err, mark(ctx, plan.HookFailed, clip(err.Error(), 300)))
		}
	}
	return mark(ctx, plan.HookDone, "")
}

// hook runs one hook; its error tells how it ended and what it wrote.
func (c *Client) hook(ctx context.Context, project, name string, h plan.Command, within time.Duration) error {
	if len(h.Argv) == 0 {
		return nil
	}
	e, err := c.Exec(ctx, project, name, Command{
		Argv: h.Argv, UID: h.UID, GID: h.GID, Cwd: h.Cwd, Env: h.Env, Limit: hookOutput, Start: 30 * time.Second, Run: within,
	})
	if err != nil {
		return err
	}
	wrote := strings.TrimSpace(strings.ToValidUTF8(string(e.Output), "?"))
	if wrote != "" {
		wrote = ": " + wrote
	}
	switch {
	case e.Late:
		return kinded{fmt.Errorf("%s did not end within %s and was killed%s", h, within, wrote), []error{ErrFailed}}
	case e.Code != 0:
		return kinded{fmt.Errorf("%s ended with %d%s", h, e.Code, wrote), []error{ErrFailed}}
	}
	return nil
}

// preStop runs what is to run before a stop. It never holds the stop up for longer than the grace, or ten seconds.
func (c *Client) preStop(ctx context.Context, project string, op plan.StopInstance) {
	if len(op.Before) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(op.Grace, leastPreStop))
	defer cancel()
	for _, h := range op.Before {
		deadline, _ := ctx.Deadline()
		err := c.hook(ctx, project, op.Name, h, time.Until(deadline))
		if err != nil && c.log != nil {
			c.log.WarnContext(ctx, "pre_stop failed: the instance is stopped all the same", "project", project, "instance", op.Name, "err", err)
		}
	}
}

// clip shortens a text to n bytes, between runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
