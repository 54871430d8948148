package hostdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/errand"
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

	return errand.Service{Socket: socket, Unit: "ic-agent-mkdir@.service", Patience: patience}.Ask(ctx, path+"\n")
}
