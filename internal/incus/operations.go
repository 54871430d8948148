package incus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
)

const (
	// slice is how long one wait for an operation lasts on the server's side.
	slice = 30 * time.Second
	// toldSlice is the same for an operation whose progress is shown.
	toldSlice = 2 * time.Second
	// slack is what an answer may take on top of it.
	slack = 10 * time.Second
	// lostTries is how often a wait whose connection broke is taken up again: an incusd restart takes a
	// few seconds.
	lostTries = 6
)

// errOverdue marks an operation that did not end within its budget.
var errOverdue = errors.New("overdue")

// run starts an operation and waits for its end, at most for budget. Ending ctx leaves the operation running.
func (c *Client) run(ctx context.Context, project string, budget time.Duration, start func(incusapi.InstanceServer) (incusapi.Operation, error)) (api.Operation, error) {
	return c.runTold(ctx, project, budget, start, nil)
}

// runTold is run for operations that are worth watching: tell is given their state every other second.
func (c *Client) runTold(ctx context.Context, project string, budget time.Duration, start func(incusapi.InstanceServer) (incusapi.Operation, error), tell func(api.Operation)) (api.Operation, error) {
	until := time.Now().Add(budget)
	var op api.Operation
	err := c.change(ctx, project, func(srv incusapi.InstanceServer) error {
		o, err := start(srv)
		if err != nil {
			return err
		}
		op = o.Get()
		return nil
	})
	if err != nil {
		return op, err
	}
	return c.wait(ctx, op, until, tell)
}

// wait polls an operation to its end. The library's own wait cancels operations, ignores contexts and calls a
// timeout a success.
func (c *Client) wait(ctx context.Context, op api.Operation, until time.Time, tell func(api.Operation)) (api.Operation, error) {
	lost, most := 0, slice
	if tell != nil {
		most = toldSlice
	}
	for {
		switch op.StatusCode {
		case api.Success:
			return op, nil
		case api.Failure:
			return op, said(op.Err, 0)
		case api.Cancelled:
			return op, kinded{errors.New("the operation was cancelled in Incus"), []error{ErrFailed}}
		}
		if tell != nil {
			tell(op)
		}
		left := time.Until(until)
		if left <= 0 {
			return op, kinded{errors.New("the operation has not ended yet and goes on in Incus"), []error{ErrUnknownOutcome, errOverdue}}
		}
		next, err := c.poll(ctx, op.ID, min(left, most))
		switch {
		case err == nil:
			op, lost = next, 0
		case ctx.Err() != nil:
			return op, kinded{ctx.Err(), []error{ErrUnknownOutcome}}
		case errors.Is(err, ErrNotFound):
			return op, kinded{errors.New("the operation is unknown to Incus by now, as after a restart"), []error{ErrUnknownOutcome}}
		case errors.Is(err, ErrUnavailable) && lost < lostTries:
			lost++
			err = pause(ctx, backoff(lost))
			if err != nil {
				return op, kinded{err, []error{ErrUnknownOutcome}}
			}
		default:
			return op, kinded{err, []error{ErrUnknownOutcome}}
		}
	}
}

// poll waits on the server's side for the end of an operation, at most for d rounded up to a second. It does
// not use GetOperationWait, which writes to the transport all calls share.
func (c *Client) poll(ctx context.Context, id string, d time.Duration) (api.Operation, error) {
	secs := seconds(d)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(secs)*time.Second+slack)
	defer cancel()
	var op api.Operation
	path := fmt.Sprintf("/1.0/operations/%s/wait?timeout=%d", url.PathEscape(id), secs)
	resp, _, err := c.in(ctx, "").RawQuery("GET", path, nil, "")
	if err == nil {
		err = resp.MetadataAsStruct(&op)
	}
	if err == nil && op.ID == "" {
		return op, kinded{errors.New("talk to Incus: an operation without an id"), []error{ErrUnavailable}}
	}
	return op, c.judge(ctx, err, false)
}

// settled turns an unknown outcome into success when done finds the object as it should be. The call whose answer
// was lost may still be at work, so it is given about a second.
func (c *Client) settled(ctx context.Context, err error, done func() bool) error {
	if !errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	for try := 1; try <= 4 && ctx.Err() == nil; try++ {
		if done() {
			return nil
		}
		if errors.Is(err, errOverdue) {
			break // it had its time
		}
		stop := pause(ctx, backoff(try))
		if stop != nil {
			break
		}
	}
	return err
}

// patiently repeats a call while the instance is busy, for about five seconds.
func patiently(ctx context.Context, call func() error) error {
	for try := 1; ; try++ {
		err := call()
		if !errors.Is(err, ErrBusy) || try > 6 {
			return err
		}
		stop := pause(ctx, backoff(try))
		if stop != nil {
			return err
		}
	}
}

// backoff grows from 0.1 s by doubling to 2 s, with a third of jitter.
func backoff(try int) time.Duration {
	return jitter(min(100*time.Millisecond<<(try-1), 2*time.Second))
}

// jitter takes up to a third off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/3+1) }

// pause waits for d or for the end of ctx, whose error it returns.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seconds rounds up, as Incus counts in whole ones and reads zero as "at once".
func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }
