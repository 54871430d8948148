package incus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
)

// ErrNoAgent is the kind of an exec in a virtual machine whose agent is not there (yet).
var ErrNoAgent = errors.New("the agent in the virtual machine is not there")

// Command is a program to run in an instance.
type Command struct {
	// Argv is the program and its words.
	Argv []string
	// UID, GID and Cwd are whose it is and where it runs; an empty Cwd lets Incus choose.
	UID, GID uint32
	Cwd      string
	// Env is set over the instance's environment.
	Env map[string]string
	// Limit is how many bytes of output are kept.
	Limit int
	// Begun is called once it runs; nil means that nobody wants to know.
	Begun func()
	// Start bounds the time until it runs, Run the time it may run. Both must be set.
	Start, Run time.Duration
}

// Ended is how a command ended.
type Ended struct {
	// Code is the exit code; 128 and the number for a signal; 126 and 127 when it could not be run; -1 when
	// its time was over.
	Code int
	// Output is the beginning of what it wrote to both its outputs, More tells that there was more.
	Output []byte
	More   bool
	// Late is set when its time was over and its first process was killed. What it started may still run.
	Late bool
	// Began is when it was let run, Took how long it ran.
	Began time.Time
	Took  time.Duration
}

// Exec runs a command in an instance and waits for its end. An error means that nothing is known of the command,
// for reasons that are not its own. Ending ctx kills its first process.
func (c *Client) Exec(ctx context.Context, project, name string, cmd Command) (Ended, error) {
	e, err := c.exec(ctx, project, name, cmd)
	if err != nil {
		return Ended{}, fmt.Errorf("run %s in instance %s of project %s: %w", cmd.Argv[0], name, project, err)
	}
	return e, nil
}

func (c *Client) exec(ctx context.Context, project, name string, cmd Command) (Ended, error) {
	setup, cancel := context.WithTimeout(ctx, cmd.Start)
	defer cancel()
	op, err := c.execPost(setup, project, name, cmd)
	if err != nil {
		return Ended{}, err
	}
	s, err := c.execDial(setup, op)
	if err != nil {
		return Ended{}, err
	}
	defer s.close()
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	if cmd.Begun != nil {
		cmd.Begun()
	}
	out := &output{limit: cmd.Limit}
	var wg sync.WaitGroup
	for _, fd := range []string{"1", "2"} {
		wg.Go(func() { out.drain(s.conns[fd]) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	run := time.NewTimer(cmd.Run)
	defer run.Stop()
	ended := func() Ended {
		b, more := out.take()
		return Ended{Output: b, More: more, Began: began, Took: time.Since(began)}
	}
	exited := make(chan api.Operation, 1)
	go func() {
		last, err := c.wait(ctx, op, began.Add(cmd.Run+slack), nil)
		if err == nil || last.StatusCode == api.Failure {
			exited <- last
		}
		close(exited)
	}()
	select {
	case <-run.C:
		s.kill()
		e := ended()
		e.Code, e.Late = -1, true
		return e, nil
	case <-ctx.Done():
		s.kill()
		return Ended{}, ctx.Err()
	case last, ok := <-exited:
		if !ok {
			s.kill()
			return Ended{}, kinded{errors.New("the connection to Incus was lost meanwhile"), []error{ErrUnavailable}}
		}
		// A child it left behind may keep the outputs open: the rest of what was written is here by now.
		drained := time.NewTimer(time.Second)
		defer drained.Stop()
		select {
		case <-done:
		case <-drained.C:
		}
		e := ended()
		e.Code, err = codeOf(last)
		return e, err
	}
}

// codeOf reads the exit code of an exec's operation, which fails for 126 and 127.
func codeOf(op api.Operation) (int, error) {
	code, ok := op.Metadata["return"].(float64)
	if !ok || code < 0 {
		return 0, kinded{fmt.Errorf("no exit code from Incus: %s", op.Err), []error{ErrUnavailable}}
	}
	return int(code), nil
}

func (c *Client) execPost(ctx context.Context, project, name string, cmd Command) (api.Operation, error) {
	var op api.Operation
	body := api.InstanceExecPost{
		Command: cmd.Argv, WaitForWS: true, Environment: cmd.Env, User: cmd.UID, Group: cmd.GID, Cwd: cmd.Cwd,
	}
	err := c.change(ctx, project, func(s incusapi.InstanceServer) error {
		v := url.Values{"project": {project}}
		resp, _, err := s.RawQuery("POST", "/1.0/instances/"+url.PathEscape(name)+"/exec?"+v.Encode(), body, "")
		if err != nil {
			return err
		}
		return resp.MetadataAsStruct(&op)
	})
	if err != nil && strings.Contains(err.Error(), "VM agent isn't currently running") {
		return op, kinded{err, []error{ErrNoAgent}}
	}
	return op, err
}

// session is the connections of an exec: its three descriptors and the control socket, by name.
type session struct{ conns map[string]*websocket.Conn }

func (c *Client) execDial(ctx context.Context, op api.Operation) (*session, error) {
	fds, ok := op.Metadata["fds"].(map[string]any)
	if !ok {
		return nil, kinded{errors.New("no connections for the command from Incus"), []error{ErrUnavailable}}
	}
	s := &session{conns: map[string]*websocket.Conn{}}
	dialer := websocket.Dialer{
		NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}
	// The control socket is first: closing it is what ends the command.
	for _, fd := range []string{"control", "0", "1", "2"} {
		secret, _ := fds[fd].(string)
		v := url.Values{"secret": {secret}}
		conn, resp, err := dialer.DialContext(ctx, "ws://custom.socket/1.0/operations/"+url.PathEscape(op.ID)+"/websocket?"+v.Encode(), http.Header{"User-Agent": {"ic-agent"}})
		if resp != nil && resp.Body != nil {
			_ = resp.Body.Close()
		}
		if err != nil {
			s.close()
			return nil, classify(ctx, err, false)
		}
		s.conns[fd] = conn
	}
	// Nothing will come on standard input.
	_ = s.conns["0"].WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	return s, nil
}

func (s *session) close() {
	for _, conn := range s.conns {
		_ = conn.Close()
	}
}

// kill sends SIGKILL to the first process.
func (s *session) kill() {
	control := s.conns["control"]
	_ = control.SetWriteDeadline(time.Now().Add(time.Second))
	_ = control.WriteJSON(api.InstanceExecControl{Command: "signal", Signal: 9})
}

// output keeps the beginning of what is written to it.
type output struct {
	limit int

	mu   sync.Mutex
	buf  []byte
	more bool
}

// drain reads a connection to its end, so that a command that writes much is not held up.
func (o *output) drain(conn *websocket.Conn) {
	for {
		kind, r, err := conn.NextReader()
		if err != nil || kind == websocket.TextMessage { // Incus ends a stream with an empty text
			return
		}
		_, err = io.Copy(o, r)
		if err != nil {
			return
		}
	}
}

// Write takes everything and keeps what fits.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := max(0, o.limit-len(o.buf))
	o.buf = append(o.buf, p[:min(room, len(p))]...)
	o.more = o.more || len(p) > room
	return len(p), nil
}

func (o *output) take() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf, o.more
}
