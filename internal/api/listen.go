package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// maxPath is the longest path of a unix socket (sun_path in unix(7), without the zero at its end).
const maxPath = 107

// Listen opens the API's socket: mode 0660, of the group incus-admin where that exists and we may give it, so
// that whoever administrates Incus needs no second group. A socket that nobody serves any more is replaced;
// one that answers, or a file that is no socket, is an error.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("open API socket: %s is longer than the %d bytes a socket's path may have", path, maxPath)
	}
	err := makeWay(path)
	if err != nil {
		return nil, fmt.Errorf("open API socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open API socket: %s does not exist: make the directory, or name another one with --api", filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open API socket: %w", err)
	}
	gid, ok := incusAdmin()
	if ok {
		_ = os.Chown(path, -1, int(gid)) // not one of our groups: it stays with ours
	}
	err = os.Chmod(path, 0o660)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open API socket: %w", err), l.Close())
	}
	return l, nil
}

// makeWay removes a socket that nobody listens to: what a crash leaves.
func makeWay(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket: remove it, or name another one with --api", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another ic-agent serves %s: stop it, or name another socket with --api", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// limited is a listener of which at most cap(slots) connections are open at once.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limit(l net.Listener, conns int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, conns), closed: make(chan struct{})}
}

// Accept waits for a free slot, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close closes the listener and ends an Accept that waits.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// conn is a connection that has a slot.
type conn struct {
	net.Conn
	release func()
}

// Close closes the connection and frees its slot.
func (c *conn) Close() error {
	c.release()
	return c.Conn.Close()
}
