package buffer

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// helper listens as systemd does, with a process for each connection, and returns its path.
func helper(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}

			f, err := conn.(*net.UnixConn).File()
			if err == nil {
				_ = Serve(f)
				_ = f.Close()
			}

			_ = conn.Close()
		}
	}()

	return path
}

// sockets returns UDP sockets with the smallest buffer there is.
func sockets(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
		}

		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = unix.Close(fd) })
		out = append(out, fd)
	}

	return out
}

// Whoever may not enlarge buffers is told so; with the right they are, as many sockets as there are.
func TestBuffersGrowWithTheRightTo(t *testing.T) {
	fds := sockets(t, atOnce+3)
	if !Narrow(uintptr(fds[0])) {
		t.Fatal("a socket with the smallest buffer is not narrow")
	}

	err := Widen(t.Context(), helper(t), fds)
	if os.Geteuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "SO_RCVBUFFORCE") {
			t.Errorf("without the right: %v", err)
		}

		return
	}

	for i, fd := range fds {
		if Narrow(uintptr(fd)) {
			t.Fatalf("socket %d is narrow: %v", i, err)
		}
	}
}

// What is no UDP socket is none of the helper's business.
func TestOnlyUDPSockets(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = unix.Close(fd) })
	err = Widen(t.Context(), helper(t), []int{fd})
	if err == nil || !strings.Contains(err.Error(), errNotUDP.Error()) {
		t.Errorf("a TCP socket: %v", err)
	}
}

// Without a helper the sockets stay as they are, and nothing is wrong.
func TestNoHelper(t *testing.T) {
	err := Widen(t.Context(), filepath.Join(t.TempDir(), "none"), sockets(t, 1))
	if err != nil {
		t.Error(err)
	}
}
