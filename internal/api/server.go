package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	maxBody = 1 << 20
	// goodbye is how long requests under way have when the server stops.
	goodbye = time.Second
)

// Backend is the agent behind the API. An *Error chooses its kind; any other error is Internal.
type Backend interface {
	// Status tells what is known, without asking anybody.
	Status(ctx context.Context) (Status, error)
	// Plan tells what is left to do, for one stack or, when its name is empty, for each.
	Plan(ctx context.Context, stack string) ([]PlanReply, error)
	// Reload looks at the directories now. With wait it returns when each changed file was accepted or
	// refused, else at once.
	Reload(ctx context.Context, wait bool) (ReloadReply, error)
	// ConfirmRemoval lets stacks go that were held because too many vanished at once; none means all. It
	// returns those that went.
	ConfirmRemoval(ctx context.Context, stacks []string) ([]string, error)
	// Destroy deletes a stack whose file is gone.
	Destroy(ctx context.Context, req DestroyRequest) (DestroyReply, error)
	// History lists the generations kept of a stack, the newest first; Generation returns one with its texts.
	History(ctx context.Context, stack string) ([]Generation, error)
	Generation(ctx context.Context, stack string, number uint64) (Generation, error)
	// Rollback and Retry carry out a user's word and return when the stack's loop has acted on it; by names the user.
	Rollback(ctx context.Context, r RollbackRequest, by string) (ActionReply, error)
	Retry(ctx context.Context, r RetryRequest, by string) (ActionReply, error)
	// Apply looks at a stack, and returns when its loop has; with r.Now, what waits for its window waits no more.
	Apply(ctx context.Context, r ApplyRequest, by string) (ActionReply, error)
	// Why says of a service what it is, since when, what last touched it, and what it waits for.
	Why(ctx context.Context, stack, service string) (ActionReply, error)
	// Update asks the registries about newer images now, and returns when they answered, service by service.
	Update(ctx context.Context, req UpdateRequest) ([]UpdateReply, error)
	// Adopt makes what has a stack's names and no owner the stack's.
	Adopt(ctx context.Context, req AdoptRequest) (AdoptReply, error)
	// Release takes the agent's mark off everything of a stack; what runs runs on.
	Release(ctx context.Context, req ReleaseRequest) (ReleaseReply, error)
	// DNS explains what an instance ("web-1", "shop/web-1"), an address, or, with an empty from, the host is
	// answered when it asks for a name.
	DNS(ctx context.Context, name, from string) (DNSReply, error)
	// Names says what the DNS server has and does.
	Names(ctx context.Context) (NamesReply, error)
}

// Server serves the API.
type Server struct {
	backend Backend
	log     *slog.Logger
	mux     *http.ServeMux
	limits  limits
}

// limits bound what callers can take.
type limits struct {
	// header is for reading a request's header, body for the rest of it, idle for the next request.
	header, body, idle time.Duration
	// quick and slow are for answering: slow where Incus, registries or the parser are waited for.
	quick, slow time.Duration
	// conns is how many connections are served at once; more wait.
	conns int
}

// NewServer makes a server of a backend.
func NewServer(b Backend, log *slog.Logger) *Server {
	return newServer(b, log, limits{
		header: 5 * time.Second, body: 10 * time.Second, idle: 5 * time.Second,
		quick: 10 * time.Second, slow: 10 * time.Minute, conns: 64,
	})
}

func newServer(b Backend, log *slog.Logger, lim limits) *Server {
	s := &Server{backend: b, log: log, mux: http.NewServeMux(), limits: lim}
	s.mux.HandleFunc("GET /v1/status", s.answer(s.limits.quick, s.status))
	s.mux.HandleFunc("GET /v1/plan", s.answer(s.limits.slow, s.plan))
	s.mux.HandleFunc("GET /v1/dns", s.answer(s.limits.quick, s.dns))
	s.mux.HandleFunc("GET /v1/history", s.answer(s.limits.quick, s.history))
	s.mux.HandleFunc("GET /v1/generation", s.answer(s.limits.quick, s.generation))
	s.mux.HandleFunc("GET /v1/why", s.answer(s.limits.quick, s.why))
	s.mux.HandleFunc("POST /v1/rollback", s.answer(s.limits.slow, s.rollback))
	s.mux.HandleFunc("POST /v1/retry", s.answer(s.limits.slow, s.retry))
	s.mux.HandleFunc("POST /v1/apply", s.answer(s.limits.slow, s.apply))
	s.mux.HandleFunc("POST /v1/update", s.answer(s.limits.slow, s.update))
	s.mux.HandleFunc("POST /v1/reload", s.answer(s.limits.slow, s.reload))
	s.mux.HandleFunc("POST /v1/confirm-removal", s.answer(s.limits.quick, s.confirm))
	s.mux.HandleFunc("POST /v1/destroy", s.answer(s.limits.slow, asked(s.backend.Destroy)))
	s.mux.HandleFunc("POST /v1/adopt", s.answer(s.limits.slow, asked(s.backend.Adopt)))
	s.mux.HandleFunc("POST /v1/release", s.answer(s.limits.slow, asked(s.backend.Release)))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, &Error{NotFound, "the API has no " + r.Method + " " + r.URL.Path, sameAge})
	})
	return s
}

// Metrics adds /metrics. Call it before Serve.
func (s *Server) Metrics(g prometheus.Gatherer) {
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
}

// Serve answers on l until ctx ends, then lets requests under way end for a second, closes l, and returns nil.
// Any other end is an error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.guard(rulesFor(l.Addr().String())),
		ReadHeaderTimeout: s.limits.header,
		ReadTimeout:       s.limits.body,
		WriteTimeout:      s.limits.quick,
		IdleTimeout:       s.limits.idle,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
		defer cancel()
		err := srv.Shutdown(grace)
		if err != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(limit(l, s.limits.conns))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

type peerKey struct{}

// withPeer puts who is calling into the context of a connection; nobody when the kernel does not say.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	own, ok := c.(*conn)
	if !ok {
		return ctx
	}
	p, err := peerOf(own.Conn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// guard lets in who may do what is asked, with a body of bounded size.
func (s *Server) guard(rules rules) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(peer)
		reading := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case !ok || !rules.known(p):
			s.refuse(w, r, &Error{Forbidden, "the kernel does not say who you are here", "call from the host itself, not from a container"})
			return
		case !reading && !rules.change(p):
			s.refuse(w, r, &Error{Forbidden, "only root and members of the group incus-admin may do that", "try it with sudo"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		s.mux.ServeHTTP(w, r)
	})
}

// answer makes a handler of a function that returns what to send.
func (s *Server) answer(within time.Duration, f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(within + s.limits.quick))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), within)
		defer cancel()
		v, err := f(r.WithContext(ctx))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.write(w, r, http.StatusOK, v)
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Kind: Internal, Text: err.Error(), Hint: "journalctl -u ic-agent may say more"}
	}
	s.write(w, r, e.Kind.code(), e)
}

func (s *Server) write(w http.ResponseWriter, r *http.Request, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	err := json.NewEncoder(w).Encode(v)
	if err != nil {
		s.log.DebugContext(r.Context(), "API answer not sent", "path", r.URL.Path, "err", err)
	}
}

func (s *Server) status(r *http.Request) (any, error) {
	st, err := s.backend.Status(r.Context())
	st.Stacks, st.DNS.Listeners = list(st.Stacks), list(st.DNS.Listeners)
	return st, err
}

func (s *Server) plan(r *http.Request) (any, error) {
	plans, err := s.backend.Plan(r.Context(), r.URL.Query().Get("stack"))
	return list(plans), err
}

func (s *Server) reload(r *http.Request) (any, error) {
	reply, err := s.backend.Reload(r.Context(), r.URL.Query().Get("wait") == "true")
	reply.Stacks = list(reply.Stacks)
	return reply, err
}

func (s *Server) confirm(r *http.Request) (any, error) {
	req, err := decode[ConfirmRequest](r)
	if err != nil {
		return nil, err
	}
	removed, err := s.backend.ConfirmRemoval(r.Context(), req.Stacks)
	return ConfirmReply{Removed: list(removed)}, err
}

// decode reads a request; an empty body is an empty one.
func decode[T any](r *http.Request) (T, error) {
	var req T
	err := json.NewDecoder(r.Body).Decode(&req)
	_, large := errors.AsType[*http.MaxBytesError](err)
	if large {
		return req, &Error{Kind: BadRequest, Text: "the request is larger than 1 MiB"}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return req, &Error{Kind: BadRequest, Text: "the request is not the JSON expected: " + err.Error()}
	}
	return req, nil
}

// asked makes a handler's body of a backend's method that takes a request and gives a reply.
func asked[Q, A any](do func(context.Context, Q) (A, error)) func(r *http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		req, err := decode[Q](r)
		if err != nil {
			return nil, err
		}
		return do(r.Context(), req)
	}
}

// list makes of nothing an empty list, so that programs always find one.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
