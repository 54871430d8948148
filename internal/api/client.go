package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const sameAge = "is this program as old as the agent? Compare \"ic-agent version\" with \"ic-agent status\""

// Client calls the API. Every error of its methods is an *Error, or the context's.
type Client struct {
	path string
	http http.Client
}

// NewClient makes a client of the socket at path. Nothing is opened before the first call.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status returns what the agent knows.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Plan returns what is left to do for a stack or, when its name is empty, for each.
func (c *Client) Plan(ctx context.Context, stack string) ([]PlanReply, error) {
	path := "/v1/plan"
	if stack != "" {
		path += "?" + url.Values{"stack": {stack}}.Encode()
	}
	var plans []PlanReply
	err := c.call(ctx, http.MethodGet, path, nil, &plans)
	return plans, err
}

// Reload has the agent look at its directories now; with wait, it returns what became of each changed file.
func (c *Client) Reload(ctx context.Context, wait bool) (ReloadReply, error) {
	path := "/v1/reload"
	if wait {
		path += "?wait=true"
	}
	var r ReloadReply
	err := c.call(ctx, http.MethodPost, path, nil, &r)
	return r, err
}

// ConfirmRemoval lets the named stacks go, or all that are held, and returns those that went.
func (c *Client) ConfirmRemoval(ctx context.Context, stacks ...string) ([]string, error) {
	var r ConfirmReply
	err := c.call(ctx, http.MethodPost, "/v1/confirm-removal", ConfirmRequest{Stacks: stacks}, &r)
	return r.Removed, err
}

// Adopt makes what has a stack's names and no owner the stack's.
func (c *Client) Adopt(ctx context.Context, req AdoptRequest) (AdoptReply, error) {
	var r AdoptReply
	err := c.call(ctx, http.MethodPost, "/v1/adopt", req, &r)
	return r, err
}

// Destroy deletes a stack whose file is gone.
func (c *Client) Destroy(ctx context.Context, req DestroyRequest) (DestroyReply, error) {
	var r DestroyReply
	err := c.call(ctx, http.MethodPost, "/v1/destroy", req, &r)
	return r, err
}

// History returns the generations kept of a stack, the newest first.
func (c *Client) History(ctx context.Context, stack string) ([]Generation, error) {
	var all []Generation
	err := c.call(ctx, http.MethodGet, "/v1/history?"+url.Values{"stack": {stack}}.Encode(), nil, &all)
	return all, err
}

// Generation returns one generation with its texts.
func (c *Client) Generation(ctx context.Context, stack string, number uint64) (Generation, error) {
	var g Generation
	v := url.Values{"stack": {stack}, "number": {strconv.FormatUint(number, 10)}}
	err := c.call(ctx, http.MethodGet, "/v1/generation?"+v.Encode(), nil, &g)
	return g, err
}

// Why returns what is to be known of a service.
func (c *Client) Why(ctx context.Context, stack, service string) (ActionReply, error) {
	var r ActionReply
	err := c.call(ctx, http.MethodGet, "/v1/why?"+url.Values{"stack": {stack}, "service": {service}}.Encode(), nil, &r)
	return r, err
}

// Rollback makes an earlier generation the wanted one; see RollbackRequest.
func (c *Client) Rollback(ctx context.Context, req RollbackRequest) (ActionReply, error) {
	var r ActionReply
	err := c.call(ctx, http.MethodPost, "/v1/rollback", req, &r)
	return r, err
}

// Retry tries again what was given up; without a service, of the whole stack.
func (c *Client) Retry(ctx context.Context, stack, service string) (ActionReply, error) {
	var r ActionReply
	err := c.call(ctx, http.MethodPost, "/v1/retry", RetryRequest{Stack: stack, Service: service}, &r)
	return r, err
}

// Apply has a stack looked at; see ApplyRequest.
func (c *Client) Apply(ctx context.Context, req ApplyRequest) (ActionReply, error) {
	var r ActionReply
	err := c.call(ctx, http.MethodPost, "/v1/apply", req, &r)
	return r, err
}

// Release gives a stack out of the agent's hands.
func (c *Client) Release(ctx context.Context, req ReleaseRequest) (ReleaseReply, error) {
	var r ReleaseReply
	err := c.call(ctx, http.MethodPost, "/v1/release", req, &r)
	return r, err
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return &Error{Kind: BadRequest, Text: err.Error()}
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://ic-agent"+path, body)
	if err != nil {
		return &Error{Kind: BadRequest, Text: err.Error()}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	err = json.NewDecoder(resp.Body).Decode(out)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &Error{Internal, "the agent's answer cannot be read: " + err.Error(), sameAge}
}

// refusal reads the error an agent sent.
func refusal(resp *http.Response) error {
	var e Error
	err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&e)
	if err != nil || e.Text == "" {
		return &Error{Internal, "the agent answered " + resp.Status, sameAge}
	}
	return &e
}

// unreachable says why nobody answered, and what to do.
func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{NotRunning, "ic-agent is not running", "start it with: systemctl start ic-agent"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Forbidden, "you may not talk to ic-agent", fmt.Sprintf("try it with sudo, or join the group %s", group(c.path))}
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &Error{NotRunning, "ic-agent stopped while it was asked", "systemctl status ic-agent says why"}
	}
	return &Error{NotRunning, "ic-agent cannot be reached: " + err.Error(), "systemctl status ic-agent may say why"}
}

// group names the group that may open a file.
func group(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return "incus-admin"
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "incus-admin"
	}
	gid := strconv.FormatUint(uint64(st.Gid), 10)
	g, err := user.LookupGroupId(gid)
	if err != nil {
		return gid
	}
	return g.Name
}
