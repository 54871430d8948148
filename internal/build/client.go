package build

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// The helper as the package installs it.
const (
	Socket = "/run/ic-agent-build.sock"
	Cache  = "/var/cache/ic-agent-build"
)

// Client asks the helper to build.
type Client struct {
	// Path is the helper's socket.
	Path string
}

// Build has an image made and returns the directory it is in. line is told each line of the output. Ending ctx ends
// the build.
func (c Client) Build(ctx context.Context, req Request, line func(string)) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "", errors.New("the build service is not there: systemctl enable --now ic-agent-build.socket")
	case err != nil:
		return "", fmt.Errorf("reach the build service: %w", err)
	}

	defer func() { _ = conn.Close() }() // its end is the helper's
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	err = json.NewEncoder(conn).Encode(req)
	if err != nil {
		return "", fmt.Errorf("ask the build service: %w", err)
	}

	replies := json.NewDecoder(bufio.NewReader(conn))
	for {
		var r Reply
		err = replies.Decode(&r)
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err != nil:
			return "", fmt.Errorf("the build service went away: \"journalctl -u 'ic-agent-build@*'\" may say why: %w", err)
		case r.Error != "":
			return "", errors.New(r.Error)
		case r.Dir != "":
			return r.Dir, nil
		default:
			line(r.Line)
		}
	}
}
