package incus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
)

// sockets are where a packaged Incus listens. Its unix.socket.user, which shows a restricted view, is not one
// of them on purpose.
var sockets = []string{"/run/incus/unix.socket", "/var/lib/incus/unix.socket"}

// Options are the settings of a Client. The zero value is right for a host with a packaged Incus.
type Options struct {
	// Socket is the path of Incus's unix socket; empty means the first that exists of
	// /run/incus/unix.socket and /var/lib/incus/unix.socket, looked for anew at every call.
	Socket string
	// Dial opens a connection to Incus instead of Socket; nil means Socket.
	Dial func(ctx context.Context) (net.Conn, error)
	// Log receives transitions of the event stream; nil means nowhere.
	Log *slog.Logger
	// ReadTimeout bounds one GET; 0 means 10 s.
	ReadTimeout time.Duration
	// MutateTimeout bounds a change and the operation it starts; 0 means 60 s. A stop has its grace on
	// top.
	MutateTimeout time.Duration
	// StartTimeout bounds a start; 0 means 120 s.
	StartTimeout time.Duration
	// PullTimeout bounds what moves a whole image: pulling, creating, rebuilding; 0 means 30 min.
	PullTimeout time.Duration
	// Progress is told, every other second, at which stage the pull of an image is, in Incus's words; nil
	// means that nobody wants to know. It must not block.
	Progress func(fingerprint, stage string)
}

// Client talks to one Incus server. It keeps no connection: an Incus that is absent, starting or restarting
// only makes calls fail with ErrUnavailable. All methods may be called from any goroutine.
type Client struct {
	opt  Options
	log  *slog.Logger
	http *http.Client
	// base is never used for a call itself: in makes a copy for each.
	base incusapi.InstanceServer

	memory memory

	mu    sync.Mutex
	facts *facts // guarded by mu; nil until asked, and again after the connection was lost
}

// New returns a Client. It does not connect.
func New(opt Options) *Client {
	opt.ReadTimeout = cmp.Or(opt.ReadTimeout, 10*time.Second)
	opt.MutateTimeout = cmp.Or(opt.MutateTimeout, 60*time.Second)
	opt.StartTimeout = cmp.Or(opt.StartTimeout, 120*time.Second)
	opt.PullTimeout = cmp.Or(opt.PullTimeout, 30*time.Minute)
	c := &Client{opt: opt, log: opt.Log}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        c.dialHTTP,
		DialTLSContext:     c.dialHTTP, // the library says https to sockets of its caller
		DisableKeepAlives:  true,       // a connection kept over an incusd restart would fail the next write
		DisableCompression: true,
	}}
	c.base, _ = incusapi.ConnectIncusHTTP(&incusapi.ConnectionArgs{
		UserAgent:     "ic-agent",
		SkipGetEvents: true,
		SkipGetServer: true, // so no I/O happens here and no error can
	}, c.http)
	return c
}

func (c *Client) dialHTTP(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }

// dial opens a connection. Its errors say that nothing was sent.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if c.opt.Dial != nil {
		conn, err := c.opt.Dial(ctx)
		if err != nil {
			return nil, dialError{err}
		}
		return conn, nil
	}
	path, err := c.socket()
	if err != nil {
		return nil, dialError{err}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, dialError{err}
	}
	return conn, nil
}

func (c *Client) socket() (string, error) {
	if c.opt.Socket != "" {
		return c.opt.Socket, nil
	}
	for _, p := range sockets {
		_, err := os.Stat(p)
		if err == nil || errors.Is(err, fs.ErrPermission) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no Incus socket at %s or %s: is Incus installed and running?", sockets[0], sockets[1])
}

// in returns a copy of the client that works in the project under ctx. WithContext alone would change the
// context of everybody; UseProject makes the copy.
func (c *Client) in(ctx context.Context, project string) incusapi.InstanceServer {
	return c.base.UseProject(project).(*incusapi.ProtocolIncus).WithContext(ctx)
}

// read runs one GET under the read deadline.
func (c *Client) read(ctx context.Context, project string, get func(incusapi.InstanceServer) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.ReadTimeout)
	defer cancel()
	return c.judge(ctx, get(c.in(ctx, project)), false)
}

// change runs one call that changes something and answers at once.
func (c *Client) change(ctx context.Context, project string, do func(incusapi.InstanceServer) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.opt.MutateTimeout)
	defer cancel()
	return c.judge(ctx, do(c.in(ctx, project)), true)
}

// judge gives err its kind and drops what is known of the server when the connection was lost.
func (c *Client) judge(ctx context.Context, err error, change bool) error {
	err = classify(ctx, err, change)
	if errors.Is(err, ErrUnavailable) {
		c.forget()
	}
	return err
}

// forget drops what is cached of the server.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.facts = nil
}
