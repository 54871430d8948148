package incustest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/lxc/incus/v6/shared/api"
)

// connectWithin is how long Incus waits for the connections of an exec.
const connectWithin = 10 * time.Second

// Program stands for what an exec runs in an instance. It returns the exit code and what it wrote; ctx ends when
// it is killed, and then its answer is not used. An error other than ctx's fails the operation and has no exit code.
type Program func(ctx context.Context, req api.InstanceExecPost) (code int, output string, err error)

// SetProgram says what execs of an instance run, also before the instance is made; without one they end with 0.
func (s *Server) SetProgram(project, name string, p Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs[key{project, name}] = p
}

// execution is an exec that waits for its connections. Server.mu guards conns.
type execution struct {
	conns map[string]*websocket.Conn
	ready chan struct{} // ends when all are there
}

func (e *execution) complete() bool { return len(e.conns) == 4 }

var descriptors = []string{"control", "0", "1", "2"}

func (s *Server) postExec(r *http.Request) reply {
	var req api.InstanceExecPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	if !req.WaitForWS || req.Interactive || req.RecordOutput {
		return s.violation(r)
	}
	k := key{project(r), r.PathValue("name")}
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	switch {
	case err != nil:
	case !i.running():
		err = badRequest("Instance is not running")
	case i.api.StatusCode == api.Frozen:
		err = badRequest("Instance is frozen")
	}
	if err != nil {
		s.mu.Unlock()
		return failed(err)
	}
	e := &execution{conns: map[string]*websocket.Conn{}, ready: make(chan struct{})}
	program, gone := s.programs[k], i.gone
	s.tellMore(i, "instance-exec", s.requestor(), map[string]any{"command": req.Command})
	s.mu.Unlock()
	return s.operateExec(e, func(op *operation) error {
		code, err := s.execute(op, e, program, req, gone)
		s.mu.Lock()
		op.api.Metadata["return"] = code
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case code == 126:
			return errors.New("Command not executable") //nolint:staticcheck // Incus's words
		case code == 127:
			return errors.New("Command not found") //nolint:staticcheck // Incus's words
		}
		return nil
	})
}

// operateExec is operate for an operation that has connections.
func (s *Server) operateExec(e *execution, run func(*operation) error) reply {
	return s.operateWith("Executing command", func(op *operation) {
		op.api.Class = "websocket"
		fds := map[string]any{}
		for _, fd := range descriptors {
			fds[fd] = op.api.ID + "-" + fd
		}
		op.api.Metadata["fds"] = fds
		s.execs[op.api.ID] = e
	}, func(op *operation) error {
		defer func() {
			s.mu.Lock()
			delete(s.execs, op.api.ID)
			s.mu.Unlock()
		}()
		return run(op)
	})
}

// execute waits for the connections, runs the program until it ends or is killed, and hands on its output.
func (s *Server) execute(op *operation, e *execution, program Program, req api.InstanceExecPost, gone chan struct{}) (int, error) {
	t := time.NewTimer(connectWithin)
	defer t.Stop()
	select {
	case <-e.ready:
	case <-t.C:
		return -1, errors.New("Timed out waiting for websockets to connect") //nolint:staticcheck // Incus's words
	case <-op.life:
		return -1, errLife
	}
	s.mu.Lock()
	conns := maps.Clone(e.conns)
	s.mu.Unlock()
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	// Nobody's context: an operation outlives the request that began it.
	ctx, kill := context.WithCancel(context.Background()) //nolint:forbidigo // see above
	defer kill()
	var hearing sync.WaitGroup
	hearing.Go(func() { s.obey(conns["control"], kill) })
	hearing.Go(func() { _, _, _ = conns["0"].NextReader() })
	defer hearing.Wait()
	defer func() { _ = conns["control"].Close(); _ = conns["0"].Close() }()

	type end struct {
		code int
		out  string
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		if program == nil {
			ended <- end{}
			return
		}
		code, out, err := program(ctx, req)
		ended <- end{code, out, err}
	}()
	var got end
	select {
	case got = <-ended:
	case <-ctx.Done():
		got = end{code: 137}
	case <-gone: // nil for an instance that was never started by us
		got = end{code: 137}
	case <-op.life:
		return -1, errLife
	}
	if got.err != nil && ctx.Err() == nil {
		return -1, got.err
	}
	for out := range slices.Chunk([]byte(got.out), 32<<10) {
		_ = conns["1"].WriteMessage(websocket.BinaryMessage, out)
	}
	for _, fd := range []string{"1", "2"} {
		_ = conns[fd].WriteMessage(websocket.TextMessage, []byte{})
	}
	return got.code, nil
}

// obey kills the program when it is told to, and when the control connection ends.
func (s *Server) obey(control *websocket.Conn, kill func()) {
	defer kill()
	for {
		var c api.InstanceExecControl
		err := control.ReadJSON(&c)
		if err != nil || c.Command == "signal" && c.Signal == 9 {
			return
		}
	}
}

// getExec takes one connection of an exec.
func (s *Server) getExec(w http.ResponseWriter, r *http.Request) {
	id, secret := r.PathValue("id"), r.URL.Query().Get("secret")
	fd, found := strings.CutPrefix(secret, id+"-")
	s.mu.Lock()
	e := s.execs[id]
	s.mu.Unlock()
	if e == nil || !found || !slices.Contains(descriptors, fd) {
		failed(notFound("Operation"))(w)
		return
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.conns[fd] != nil || s.execs[id] == nil {
		_ = ws.Close()
		return
	}
	e.conns[fd] = ws
	if e.complete() {
		close(e.ready)
	}
}

func (s *Server) getProjects(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "1" {
		return s.violation(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.Project{}
	for _, name := range slices.Sorted(maps.Keys(s.projects)) {
		list = append(list, s.shownProject(s.projects[name]))
	}
	return ok(list)
}

// Execs returns how many commands run in instances or are about to.
func (s *Server) Execs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.execs)
}

// Set changes config keys of an instance as a PATCH by somebody else does, with its event; an empty value
// removes a key.
func (s *Server) Set(project, name string, config map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.instances[key{project, name}]
	if !found {
		return fmt.Errorf("there is no instance %s in project %s", name, project)
	}
	for k, v := range config {
		i.api.Config[k] = v
		if v == "" {
			delete(i.api.Config, k)
		}
	}
	s.tellOf(i, api.EventLifecycleInstanceUpdated, nil)
	return nil
}
