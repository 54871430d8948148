package incus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// startInstance starts. A start by somebody else that is under way is waited for by Incus itself.
func (c *Client) startInstance(ctx context.Context, project string, op plan.StartInstance) error {
	c.cleared(ctx, project, op.Name)
	err := patiently(ctx, func() error {
		err := c.state(ctx, project, op.Name, c.opt.StartTimeout, api.InstanceStatePut{Action: "start"})
		if errors.Is(err, errRunning) {
			return c.runs(ctx, project, op.Name)
		}
		return c.explained(ctx, project, op.Name, err)
	})
	return c.settled(ctx, err, func() bool { return c.is(ctx, project, op.Name, api.Running) })
}

// restful is how long after the begin of a run its hooks may still be at work, unseen, if it ended while it began.
const restful = 500 * time.Millisecond

// cleared waits while Incus has still to clear up after a program that has ended: the hooks of the run before would
// take devices and rights from one that begins now. It shows in the power state that Incus keeps, which a crash of
// the host leaves as it was for good, so the wait has an end; and not at all when the run ended while it began.
func (c *Client) cleared(ctx context.Context, project, name string) {
	for try := 1; try <= 3; try++ {
		i, _, err := c.instance(ctx, project, name)
		if err != nil || i.StatusCode != api.Stopped {
			return
		}
		wait := restful - time.Since(i.LastUsedAt)
		if i.Config["volatile.last_state.power"] == "RUNNING" {
			wait = max(wait, backoff(try))
		}
		if wait <= 0 || pause(ctx, wait) != nil {
			return
		}
	}
}

// runs tells whether an instance runs of which Incus says so. While Incus clears up after a program that has ended it
// says "running" of it too, to reads as well; only its process is gone then: the instance is busy, to be asked again.
func (c *Client) runs(ctx context.Context, project, name string) error {
	pid, err := c.ProcessOf(ctx, project, name)
	if err != nil {
		return err
	}
	if pid == 0 {
		return kinded{errors.New("its last run is not cleared up"), []error{ErrBusy}}
	}
	return nil
}

// stopInstance marks, and stops all the same where it cannot: a stop that is under way keeps others from writing.
func (c *Client) stopInstance(ctx context.Context, project string, op plan.StopInstance) error {
	if len(op.Mark) == 0 {
		return c.end(ctx, project, op)
	}
	mark := plan.UpdateInstance{Name: op.Name, Config: op.Mark}
	marked := c.updateInstance(ctx, project, mark)
	err := c.end(ctx, project, op)
	if err == nil && errors.Is(marked, ErrBusy) {
		marked = c.updateInstance(ctx, project, mark) // somebody else was stopping it
	}
	return errors.Join(err, marked)
}

// end asks the app to end, and ends it when it does not. Without the second part a timed-out stop would hold the
// instance's lock, and every later call would be busy.
func (c *Client) end(ctx context.Context, project string, op plan.StopInstance) error {
	c.preStop(ctx, project, op)
	err := c.stopGently(ctx, project, op)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotGently), errors.Is(err, errOverdue), errors.Is(err, ErrFailed):
	default: // unreachable, busy, unknown: the app may still be within its grace
		return c.settled(ctx, err, func() bool { return c.is(ctx, project, op.Name, api.Stopped) })
	}
	err = patiently(ctx, func() error {
		return c.state(ctx, project, op.Name, c.opt.MutateTimeout, api.InstanceStatePut{Action: "stop", Force: true})
	})
	if errors.Is(err, errStopped) {
		return nil
	}
	return c.settled(ctx, err, func() bool { return c.is(ctx, project, op.Name, api.Stopped) })
}

// errNotGently sends stopInstance on to the forced stop.
var errNotGently = errors.New("no grace")

func (c *Client) stopGently(ctx context.Context, project string, op plan.StopInstance) error {
	if op.Grace <= 0 {
		return errNotGently
	}
	secs := seconds(op.Grace) // zero would be a kill, -1 ten minutes
	budget := time.Duration(secs)*time.Second + c.opt.MutateTimeout
	err := patiently(ctx, func() error {
		return c.state(ctx, project, op.Name, budget, api.InstanceStatePut{Action: "stop", Timeout: secs})
	})
	if errors.Is(err, errStopped) {
		return nil
	}
	return err
}

// state changes the state of an instance and waits for the end of it.
func (c *Client) state(ctx context.Context, project, name string, budget time.Duration, put api.InstanceStatePut) error {
	_, err := c.run(ctx, project, budget, func(s incusapi.InstanceServer) (incusapi.Operation, error) {
		return s.UpdateInstanceState(name, put, "")
	})
	return err
}

// is tells whether an instance is known to be in a state.
func (c *Client) is(ctx context.Context, project, name string, want api.StatusCode) bool {
	i, _, err := c.instance(ctx, project, name)
	return err == nil && i.StatusCode == want
}

// signalInstance runs kill in the instance: Incus itself can only stop.
func (c *Client) signalInstance(ctx context.Context, project string, op plan.SignalInstance) error {
	const most = 200
	ended, err := c.Exec(ctx, project, op.Name, Command{
		Argv: []string{"kill", "-" + strings.TrimPrefix(op.Signal, "SIG"), "1"}, Limit: most,
		Start: c.opt.ReadTimeout, Run: c.opt.ReadTimeout,
	})
	switch {
	case err != nil:
		return err
	case ended.Code == 126, ended.Code == 127:
		return kinded{errors.New("its image has no kill program: use another on-change, such as restart"), []error{ErrRefused}}
	case ended.Code != 0:
		return kinded{fmt.Errorf("kill ended with %d: %s", ended.Code, strings.TrimSpace(string(ended.Output))), []error{ErrRefused}}
	}
	return nil
}
