package incustest

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxCalls is how many calls are remembered.
const maxCalls = 100_000

// Call is a request the server got.
type Call struct {
	Method, Path, Project string
	// At is when it came.
	At time.Time
}

// String returns "PATCH /1.0/instances/web".
func (c Call) String() string { return c.Method + " " + c.Path }

// Calls returns all requests since the start or the last ForgetCalls, in order of arrival.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Writes returns the Calls that are neither GET nor HEAD.
func (s *Server) Writes() []Call {
	return slices.DeleteFunc(s.Calls(), func(c Call) bool {
		return c.Method == http.MethodGet || c.Method == http.MethodHead
	})
}

// ForgetCalls empties Calls.
func (s *Server) ForgetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// Violations returns what was asked that the server does not model, as "GET /1.0/warnings". A test ends by
// checking that there are none.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bad)
}

// Fault makes matching calls go wrong. With neither Status, Op, Drop, DropAnswer, Garbage, Empty nor Hang the
// call is only delayed.
type Fault struct {
	// Method is the HTTP method; empty means any.
	Method string
	// Path is the URL's path, where * stands for any text, slashes too; empty means any.
	Path string
	// Project is the project parameter; empty means any.
	Project string
	// Nth is the first matching call that fails, from 1; 0 means 1.
	Nth int
	// Times is how many calls fail from there; 0 means 1, negative means all.
	Times int

	// Delay passes before anything else.
	Delay time.Duration
	// Status and Message are answered instead of doing anything.
	Status  int
	Message string
	// Op lets the operation begin and fail with this text at once, nothing done.
	Op string
	// Drop cuts the connection before anything is done, DropAnswer after it was done.
	Drop, DropAnswer bool
	// Garbage answers 200 with something that is not JSON, nothing done.
	Garbage bool
	// Empty answers 200 with a list of nothing.
	Empty bool
	// Hang never answers, nothing done.
	Hang bool

	seen int
	glob *regexp.Regexp
}

// Fail adds a fault. The first that matches a call acts.
func (s *Server) Fail(f Fault) {
	f.glob = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(cmp.Or(f.Path, "*")), `\*`, ".*") + "$")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Mend removes all faults.
func (s *Server) Mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// fault returns the fault that hits a call, if any.
func (s *Server) fault(c Call) *Fault {
	for _, f := range s.faults {
		if f.Method != "" && f.Method != c.Method || f.Project != "" && f.Project != c.Project || !f.glob.MatchString(c.Path) {
			continue
		}
		f.seen++
		first := max(f.Nth, 1)
		if f.seen >= first && (f.Times < 0 || f.seen < first+max(f.Times, 1)) {
			return f
		}
	}
	return nil
}

// ServeHTTP records the call, lets a fault act, and else answers as Incus does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := Call{Method: r.Method, Path: r.URL.Path, Project: r.URL.Query().Get("project"), At: time.Now()}
	s.mu.Lock()
	if len(s.calls) == maxCalls {
		s.calls = slices.Delete(s.calls, 0, maxCalls/2)
	}
	s.calls = append(s.calls, c)
	f := s.fault(c)
	life := s.life
	s.mu.Unlock()

	delay := s.opt.Delays.Request
	if f != nil {
		delay += f.Delay
	}
	if !s.sleep(life, delay) {
		panic(http.ErrAbortHandler)
	}
	if f == nil || f.Status == 0 && f.Op == "" && !f.Drop && !f.DropAnswer && !f.Garbage && !f.Empty && !f.Hang {
		s.mux.ServeHTTP(w, r)
		return
	}
	s.misbehave(f, life, w, r)
}

func (s *Server) misbehave(f *Fault, life chan struct{}, w http.ResponseWriter, r *http.Request) {
	switch {
	case f.Hang:
		select {
		case <-r.Context().Done():
		case <-life:
		}
		panic(http.ErrAbortHandler)
	case f.Drop:
		panic(http.ErrAbortHandler)
	case f.DropAnswer:
		s.mux.ServeHTTP(discard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	case f.Garbage:
		_, _ = fmt.Fprint(w, `{"type": "sync", "metadata": [{]`)
	case f.Empty:
		ok([]any{})(w)
	case f.Op != "":
		s.operate("A scripted failure", nil, func(*operation) error { return fmt.Errorf("%s", f.Op) })(w)
	default:
		fail(f.Status, "%s", cmp.Or(f.Message, http.StatusText(f.Status)))(w)
	}
}

// discard is an answer nobody hears.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
