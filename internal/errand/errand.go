// Package errand has one of the package's root services do one thing: a message over its socket, and a line as answer.
// systemd starts a process of it for each connection.
package errand

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Service is who does it.
type Service struct {
	// Socket is where systemd listens for it, Unit its name for messages.
	Socket, Unit string
	// Patience is how long it may take in all.
	Patience time.Duration
}

// Ask sends a message, with descriptors, and returns nil when the answer is "ok", else an error with the answer. One that
// is fs.ErrNotExist or ECONNREFUSED says that nobody listens.
func (s Service) Ask(ctx context.Context, message string, fds ...int) error {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", s.Socket)
	if err != nil {
		return err
	}

	conn := c.(*net.UnixConn)
	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(s.Patience))
	if err != nil {
		return err
	}

	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}

	_, _, err = conn.WriteMsgUnix([]byte(message), rights, nil)
	if err != nil {
		return fmt.Errorf("ask the helper: %w", err)
	}

	answer, err := bufio.NewReader(conn).ReadString('\n')
	answer = strings.TrimSpace(answer)
	switch {
	case answer == "ok":
		return nil
	case answer != "":
		return errors.New(answer)
	case err != nil:
		return fmt.Errorf("the helper (%s) gave no answer: %w", s.Unit, err)
	}

	return fmt.Errorf("the helper (%s) gave no answer", s.Unit)
}
