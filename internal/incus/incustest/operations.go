package incustest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

// keepFor is how long a finished operation can be asked for.
const keepFor = 5 * time.Second

// errLife is the end of an operation whose server restarted; nobody sees it.
var errLife = errors.New("the server restarted")

// operation is a background operation. Server.mu guards api.
type operation struct {
	api  api.Operation
	done chan struct{}
	life chan struct{}
	// user is the requestor; nil for nobody.
	user *api.EventLifecycleRequestor
}

// operate begins an operation and answers with it. run works without the lock.
func (s *Server) operate(what string, resources []string, run func(*operation) error) reply {
	return s.operateWith(what, func(op *operation) {
		op.api.Resources = map[string][]string{"instances": resources}
	}, run)
}

// operateWith is operate for an operation with something more to it, which more adds with the lock held.
func (s *Server) operateWith(what string, more func(*operation), run func(*operation) error) reply {
	s.mu.Lock()
	s.nextID++
	now := time.Now()
	op := &operation{
		done: make(chan struct{}),
		life: s.life,
		user: s.requestor(),
		api: api.Operation{
			ID:    fmt.Sprintf("00000000-0000-4000-8000-%012d", s.nextID),
			Class: "task", Description: what, CreatedAt: now, UpdatedAt: now,
			Status: api.Running.String(), StatusCode: api.Running,
			Metadata: map[string]any{},
			Location: "none",
		},
	}
	more(op)
	s.ops[op.api.ID] = op
	shown := op.shown()
	s.working.Go(func() { s.finish(op, run(op)) })
	s.mu.Unlock()
	return func(w http.ResponseWriter) {
		w.Header().Set("Location", "/1.0/operations/"+shown.ID)
		writeJSON(w, http.StatusAccepted, map[string]any{
			"type": "async", "status": "Operation created", "status_code": 100, "operation": "/1.0/operations/" + shown.ID,
			"error_code": 0, "error": "", "metadata": shown,
		})
	}
}

// shown is a copy as clients see it.
func (op *operation) shown() api.Operation {
	o := op.api
	o.Metadata = maps.Clone(op.api.Metadata)
	return o
}

func (s *Server) finish(op *operation, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	op.api.UpdatedAt = time.Now()
	op.api.StatusCode = api.Success
	if err != nil {
		op.api.StatusCode = api.Failure
		op.api.Err = err.Error()
	}
	op.api.Status = op.api.StatusCode.String()
	close(op.done)
	time.AfterFunc(keepFor, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ops, op.api.ID)
	})
}

func (s *Server) getOperation(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, found := s.ops[r.PathValue("id")]
	if !found {
		return failed(notFound("Operation"))
	}
	return ok(op.shown())
}

func (s *Server) waitOperation(r *http.Request) reply {
	secs := -1
	if t := r.URL.Query().Get("timeout"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil {
			return failed(err)
		}
		secs = n
	}
	s.mu.Lock()
	op, found := s.ops[r.PathValue("id")]
	life := s.life
	s.mu.Unlock()
	if !found {
		return failed(notFound("Operation"))
	}
	var timeout <-chan time.Time
	if secs >= 0 {
		t := time.NewTimer(time.Duration(secs) * time.Second)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-op.done:
	case <-timeout:
	case <-r.Context().Done():
	case <-life:
		panic(http.ErrAbortHandler)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(op.shown())
}

// requestor is whoever is at the other end of a socket.
func (s *Server) requestor() *api.EventLifecycleRequestor {
	return &api.EventLifecycleRequestor{Username: *s.user.Load(), Protocol: "unix", Address: "@"}
}

// SetUser changes who is at the other end.
func (s *Server) SetUser(name string) { s.user.Store(&name) }
