package buffer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/errand"
)

// Socket is where systemd listens for the helper.
const Socket = "/run/ic-agent-buffer.sock"

// Size is how many bytes of questions a socket shall hold, as SO_RCVBUF counts them: some 26,000 questions, which is
// a second at 20,000 a second on one socket. The kernel takes the memory when they come, not before.
const Size = 16 << 20

// patience is how long the helper may take.
const patience = 5 * time.Second

// atOnce is how many descriptors one message may carry; the kernel allows a few more (unix(7) SCM_RIGHTS).
const atOnce = 200

// Narrow tells whether a socket holds less than Size.
func Narrow(fd uintptr) bool {
	// The kernel doubles what it is told, for its own needs, and returns that.
	have, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)

	return err == nil && have < 2*Size
}

// Widen has the helper at the socket enlarge the receive buffers. Where nobody listens there nothing is done: the
// sockets have what the kernel gives to everybody.
func Widen(ctx context.Context, socket string, fds []int) error {
	helper := errand.Service{Socket: socket, Unit: "ic-agent-buffer@.service", Patience: patience}
	for len(fds) > 0 {
		n := min(len(fds), atOnce)
		err := helper.Ask(ctx, "\n", fds[:n]...)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}

		if err != nil {
			return fmt.Errorf("enlarge receive buffers: %w", err)
		}

		fds = fds[n:]
	}

	return nil
}
