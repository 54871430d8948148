package incus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// ErrNoListener is the kind of a Forward that reached the instance, in which nobody takes the connection.
var ErrNoListener = errors.New("nobody takes the connection")

// noListener is how Incus begins what the dialer in the instance's network said (7.0.2, "forknet connect").
const noListener = "Failed connecting to "

// Forward opens a TCP connection from within an instance, in its own network, to an address there. It lasts until ctx
// ends or it is closed. The kind is ErrNoListener when nobody takes it, and ErrUnsupported before Incus 7.0.2.
func (c *Client) Forward(ctx context.Context, project, name, address string, port int) (net.Conn, error) {
	conn, err := c.forward(ctx, project, name, address, port)
	if err != nil {
		return nil, fmt.Errorf("connect to port %d in instance %s of project %s: %w", port, name, project, err)
	}
	return conn, nil
}

func (c *Client) forward(ctx context.Context, project, name, address string, port int) (net.Conn, error) {
	body, err := json.Marshal(map[string]any{"address": address, "port": port})
	if err != nil {
		return nil, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, c.judge(ctx, err, false)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	at := "instances/" + url.PathEscape(name) + "/port-forward?" + url.Values{"project": {project}}.Encode()
	rest, err := upgrade(ctx, conn, "tcp", http.MethodPost, at, body)
	if err == nil {
		return forwarded{conn, rest}, nil
	}
	_ = conn.Close()
	_, why, found := strings.Cut(err.Error(), noListener)
	switch status, _ := errors.AsType[api.StatusError](err); {
	case found:
		return nil, kinded{errors.New(why), []error{ErrNoListener}}
	case status.Status() == http.StatusNotFound && status.Error() == "not found": // an object has its name there
		return nil, kinded{errors.New("Incus 7.0.2 or newer is needed for it"), []error{ErrUnsupported}} //nolint:staticcheck // Incus is a name
	}
	return nil, c.judge(ctx, err, false)
}

// forwarded is a connection of which something may have been read already.
type forwarded struct {
	net.Conn
	r io.Reader
}

func (f forwarded) Read(p []byte) (int, error) { return f.r.Read(p) }

// upgrade makes another protocol of a connection to Incus. What the far end has sent already is in the reader.
func upgrade(ctx context.Context, conn net.Conn, protocol, method, at string, body []byte) (*bufio.Reader, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://custom.socket/1.0/"+at, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Upgrade": {protocol}, "Connection": {"Upgrade"}, "User-Agent": {"ic-agent"}}
	err = req.Write(conn)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return r, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var answer api.Response
	_ = json.NewDecoder(resp.Body).Decode(&answer) // the status says enough
	return nil, api.StatusErrorf(resp.StatusCode, "%s", answer.Error)
}
