package agent

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/buffer"
)

// widen has the helper enlarge the buffers of the DNS server's UDP sockets, when there are new ones: what is asked
// while the agent restarts waits in them. Inherited sockets are wide. Only the goroutine that tells systemd how we are
// calls it.
func (a *Agent) widen(ctx context.Context) {
	set := a.dns.Sockets()
	if a.store == nil || a.store.widened == set {
		return
	}

	var fds []int
	err := a.dns.EachSocket(func(name string, fd uintptr) error {
		if !strings.HasPrefix(name, "dns-udp-") || !buffer.Narrow(fd) {
			return nil
		}

		// The socket may be closed while the helper has its turn.
		own, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			fds = append(fds, own)
		}

		return err
	})
	if err == nil {
		err = buffer.Widen(ctx, buffer.Socket, fds)
	}

	for _, fd := range fds {
		_ = unix.Close(fd)
	}

	if err != nil {
		a.log.WarnContext(ctx, "at many questions a second some are lost when the agent restarts", "err", err)
	}

	a.store.widened = set
}
