// Package imagetest is a registry in memory, for tests and for running the agent where no registry can be
// reached. It speaks the registry protocol (go-containerregistry's own server does) both as an
// http.RoundTripper, without a network, and as an http.Handler, and it fails on demand.
//
// It looks at repositories only: whatever registry a reference names, a Registry answers for it.
package imagetest

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Registry is a registry in memory. It is safe for concurrent use.
type Registry struct {
	inner http.Handler

	mu       sync.Mutex
	makeUp   bool            // see Anything
	made     map[string]bool // paths of the manifests there are
	faults   []*Fault
	user     string
	password string
	requests []string
}

// New returns an empty registry without a login.
func New() *Registry {
	return &Registry{
		inner: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))),
		made:  map[string]bool{},
	}
}

// Fault replaces answers. The zero value answers every request with status 500.
type Fault struct {
	// Path is part of the paths of the requests to hit ("/manifests/", "/token"); empty means all.
	Path string
	// Method is the method to hit; empty means all.
	Method string
	// Times is how many requests are hit; 0 means all from now on.
	Times int
	// Down refuses the connection.
	Down bool
	// Hang answers only when the request is cancelled.
	Hang bool
	// Truncate cuts the true answer's body in half.
	Truncate bool
	// Strip removes these headers from the true answer.
	Strip []string
	// Status and Body are the answer when none of the above is set; 0 means 500. Registries' error bodies
	// are JSON: {"errors":[{"code":"TOOMANYREQUESTS"}]}.
	Status int
	Body   string
	// RetryAfter is that header of the answer; empty means none.
	RetryAfter string
}

// Inject adds a fault; the first of the faults that match a request hits it. Calling mend takes it away.
func (r *Registry) Inject(f Fault) (mend func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, &f)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = slices.DeleteFunc(r.faults, func(g *Fault) bool { return g == &f })
	}
}

// RequireLogin makes all repositories private to one user, by the token protocol.
func (r *Registry) RequireLogin(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user, r.password = user, password
}

// Requests returns the requests so far, as "GET /v2/", in the order they came.
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Count returns how many requests so far contain part: a method, a path, or a piece of either.
func (r *Registry) Count(part string) int {
	n := 0
	for _, req := range r.Requests() {
		if strings.Contains(req, part) {
			n++
		}
	}
	return n
}

// RoundTrip answers a request without a network.
func (r *Registry) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }() // a RoundTripper must; nothing was written
	}
	err := req.Context().Err()
	if err != nil {
		return nil, err
	}
	f := r.record(req)
	switch {
	case f == nil:
		return r.answer(req), nil
	case f.Down:
		return nil, &downError{req.URL.Host}
	case f.Hang:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case f.Truncate:
		resp := r.answer(req)
		resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, resp.ContentLength/2), cut{}))
		return resp, nil
	case len(f.Strip) > 0:
		resp := r.answer(req)
		for _, name := range f.Strip {
			resp.Header.Del(name)
		}
		return resp, nil
	}
	rec := &recorder{header: http.Header{"Content-Type": {"application/json"}}, code: f.Status}
	if rec.code == 0 {
		rec.code = http.StatusInternalServerError
	}
	if f.RetryAfter != "" {
		rec.header.Set("Retry-After", f.RetryAfter)
	}
	rec.body.WriteString(f.Body)
	return rec.response(req), nil
}

// ServeHTTP answers over a network; a fault that concerns the connection breaks it.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	resp, err := r.RoundTrip(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = resp.Body.Close() }() // a buffer
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, resp.Body)
	if err != nil {
		_ = http.NewResponseController(w).Flush() // the half there is, and then nothing
		panic(http.ErrAbortHandler)
	}
}

// record notes a request and returns the fault that hits it, if any.
func (r *Registry) record(req *http.Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	for i, f := range r.faults {
		if !strings.Contains(req.URL.Path, f.Path) || (f.Method != "" && f.Method != req.Method) {
			continue
		}
		if f.Times == 1 {
			r.faults = slices.Delete(r.faults, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		hit := *f
		return &hit
	}
	return nil
}

// answer is the true answer to a request.
func (r *Registry) answer(req *http.Request) *http.Response {
	rec := &recorder{header: http.Header{}}
	r.mu.Lock()
	user, password, makeUp := r.user, r.password, r.makeUp
	r.mu.Unlock()
	switch {
	case req.URL.Path == "/token":
		giveToken(rec, req, user, password)
	case user != "" && req.Header.Get("Authorization") != "Bearer "+token(user):
		askForToken(rec, req)
	default:
		var err error
		if makeUp {
			err = r.invent(req.URL.Path)
		}
		if err != nil {
			http.Error(rec, err.Error(), http.StatusInternalServerError)
			break
		}
		r.inner.ServeHTTP(rec, local(req))
	}
	return rec.response(req)
}

// local strips the host: the server keeps the blobs of each host apart, and we were asked to ignore it.
func local(req *http.Request) *http.Request {
	out := req.Clone(req.Context())
	out.URL.Host, out.Host = "", ""
	if out.Body == nil {
		out.Body = http.NoBody
	}
	return out
}

func token(user string) string { return "token-of-" + user }

// giveToken is the token server: strangers get a token that opens nothing, wrong passwords none.
func giveToken(rec *recorder, req *http.Request, user, password string) {
	u, p, ok := req.BasicAuth()
	switch {
	case !ok:
		fmt.Fprintf(rec, `{"token":%q}`, token("nobody"))
	case u == user && p == password:
		fmt.Fprintf(rec, `{"token":%q}`, token(user))
	default:
		rec.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(rec, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
	}
}

func askForToken(rec *recorder, req *http.Request) {
	host, scheme := req.URL.Host, req.URL.Scheme
	if host == "" {
		host, scheme = req.Host, "http"
		if req.TLS != nil {
			scheme = "https"
		}
	}
	rec.header.Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s://%s/token",service=%q`, scheme, host, host))
	rec.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(rec, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
}

// recorder collects an answer.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (rec *recorder) Header() http.Header { return rec.header }

// WriteHeader implements http.ResponseWriter.
func (rec *recorder) WriteHeader(code int) { rec.code = code }

// Write implements http.ResponseWriter.
func (rec *recorder) Write(p []byte) (int, error) { return rec.body.Write(p) }

func (rec *recorder) response(req *http.Request) *http.Response {
	if rec.code == 0 {
		rec.code = http.StatusOK
	}
	resp := &http.Response{
		Status:     fmt.Sprintf("%d %s", rec.code, http.StatusText(rec.code)),
		StatusCode: rec.code,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        rec.header,
		ContentLength: int64(rec.body.Len()),
		Body:          io.NopCloser(&rec.body),
		Request:       req,
	}
	if req.Method == http.MethodHead {
		_, err := fmt.Sscan(rec.header.Get("Content-Length"), &resp.ContentLength)
		if err != nil {
			resp.ContentLength = -1
		}
		resp.Body = http.NoBody
	}
	return resp
}

// cut is a body's end that comes too early.
type cut struct{}

// Read implements io.Reader.
func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// downError is a connection refused.
type downError struct{ host string }

// Error implements error.
func (e *downError) Error() string { return "dial tcp " + e.host + ": " + syscall.ECONNREFUSED.Error() }

// Unwrap returns ECONNREFUSED.
func (e *downError) Unwrap() error { return syscall.ECONNREFUSED }
