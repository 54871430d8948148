package incustest

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Options make a Server. The zero value is a fresh, initialised Incus 7.0.2 with one pool "default".
type Options struct {
	// Version is environment.server_version; empty means "7.0.2".
	Version string
	// Without are API extensions the server lacks.
	Without []string
	// Pools are the storage pools; nil means "default". The first is the default profile's root pool.
	Pools []string
	// Listens is core.https_address; empty means that it does not listen for certificates.
	Listens string
	// User is the requestor of what clients ask for; empty means "root".
	User string
	// Delays is how long things take; the zero value means no time at all.
	Delays Delays
	// Resolve answers for images not named by AddImage; nil knows none. An error becomes the last words of
	// skopeo.
	Resolve func(server, alias string) (Image, error)
}

// Delays is how long things take, in virtual time inside a synctest bubble.
type Delays struct {
	// Request is added to every call.
	Request time.Duration
	// Create, Start, Stop, Delete, Rebuild and Pull are the lengths of operations.
	Create, Start, Stop, Delete, Rebuild, Pull time.Duration
	// Network is the time between a network's record and its bridge.
	Network time.Duration
}

// Server is a fake Incus. All methods may be called from any goroutine. Close it.
type Server struct {
	opt   Options
	mux   *http.ServeMux
	http  *http.Server
	pipes pipeListener
	user  atomic.Pointer[string]
	// closed ends everything.
	closed chan struct{}
	// working counts goroutines of operations and event streams.
	working sync.WaitGroup

	mu sync.Mutex // guards everything below
	*world
	// life ends when the server restarts, and with it all operations.
	life   chan struct{}
	down   bool
	conns  map[*conn]bool
	ops    map[string]*operation
	nextID int
	calls  []Call
	bad    []string
	faults []*Fault
	apps   map[key]App
	events streams
	// programs are what execs run, execs those at work by operation.
	programs map[key]Program
	execs    map[string]*execution
}

// New returns a running Server.
func New(opt Options) *Server {
	if opt.Version == "" {
		opt.Version = "7.0.2"
	}
	if opt.User == "" {
		opt.User = "root"
	}
	if opt.Pools == nil {
		opt.Pools = []string{"default"}
	}
	s := &Server{
		opt:      opt,
		closed:   make(chan struct{}),
		life:     make(chan struct{}),
		conns:    map[*conn]bool{},
		ops:      map[string]*operation{},
		apps:     map[key]App{},
		programs: map[key]Program{},
		execs:    map[string]*execution{},
		world:    newWorld(opt.Pools),
	}
	s.SetUser(opt.User)
	s.events.open = map[*stream]bool{}
	s.pipes = pipeListener{queue: make(chan net.Conn), closed: s.closed}
	s.mux = s.routes()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.working.Go(func() { _ = s.Serve(s.pipes) })
	return s
}

// Close stops the server and waits until nothing of it runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
		close(s.life)
	}
	s.breakLocks()
	s.mu.Unlock()
	s.cut()
	_ = s.http.Close()
	s.working.Wait()
}

// Dial opens a connection to the server over a pipe, for incus.Options.Dial.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	select {
	case s.pipes.queue <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.closed:
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
	}
}

// Listen serves a unix socket at path in the background until Close.
func (s *Server) Listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	s.working.Go(func() { _ = s.Serve(l) })
	return nil
}

// Serve answers connections of l until Close.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(tracked{l, s})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Down makes the server unreachable: connections are cut and new ones refused. The world stays.
func (s *Server) Down() {
	s.mu.Lock()
	s.down = true
	s.mu.Unlock()
	s.Restart()
}

// Up ends Down.
func (s *Server) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
}

// Restart does what a restart of incusd does: connections are cut, operations and locks forgotten, instances go
// on running.
func (s *Server) Restart() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.life)
		s.life = make(chan struct{})
	}
	clear(s.ops)
	s.breakLocks()
	s.mu.Unlock()
	s.cut()
}

// breakLocks ends all operation locks; the caller holds the lock.
func (s *Server) breakLocks() {
	for _, i := range s.instances {
		i.unlock(errLife)
	}
}

// cut closes all connections.
func (s *Server) cut() {
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// sleep waits for d; false means that the server restarted or ended meanwhile.
func (s *Server) sleep(life chan struct{}, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-life:
		return false
	}
}

// pipeListener hands out the far ends of pipes.
type pipeListener struct {
	queue  chan net.Conn
	closed chan struct{}
}

func (p pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.queue:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipeListener) Close() error   { return nil }
func (p pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// tracked is a listener whose connections Down and Restart can cut.
type tracked struct {
	net.Listener
	s *Server
}

type conn struct {
	net.Conn
	s *Server
}

func (t tracked) Accept() (net.Conn, error) {
	for {
		c, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t.s.mu.Lock()
		if t.s.down {
			t.s.mu.Unlock()
			_ = c.Close()
			continue
		}
		own := &conn{c, t.s}
		t.s.conns[own] = true
		t.s.mu.Unlock()
		return own, nil
	}
}

// Close also forgets the connection.
func (c *conn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}
