package hostdir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Socket is where systemd listens for the helper.
const Socket = "/run/ic-agent-mkdir.sock"

// patience is how long the helper may take: it waits for a disk at most.
const patience = 10 * time.Second

// Maker makes directories through the helper. The zero value asks at Socket.
type Maker struct {
	// Socket is the helper's; empty means Socket. Where nobody listens, the directory is made by this process, which
	// works for one with the right to.
	Socket string
}

// Make makes the directory and its missing parents unless there is something of that name. Its error says what to do.
func (m Maker) Make(ctx context.Context, path string) error {
	_, err := os.Stat(path)
	if err == nil {
		return nil
	}

	err = m.ask(ctx, path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		err = create(path)
	}

	if err != nil {
		return fmt.Errorf("make the directory %s on the host, which the file mounts: %w; make it with \"mkdir -p %s\", or mend what is in its way", path, err, path)
	}

	return nil
}

// ask has the helper make it. An error that is fs.ErrNotExist or ECONNREFUSED says that there is no helper.
func (m Maker) ask(ctx context.Context, path string) error {
	socket := m.Socket
	if socket == "" {
		socket = Socket
	}

	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}

	defer conn.Close()
	err = conn.SetDeadline(time.Now().Add(patience))
	if err != nil {
		return err
	}

	_, err = conn.Write([]byte(path + "\n"))
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
		return fmt.Errorf("the helper (ic-agent-mkdir@.service) gave no answer: %w", err)
	}

	return errors.New("the helper (ic-agent-mkdir@.service) gave no answer")
}
