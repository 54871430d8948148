package healthd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/incus-compose/ic-agent/internal/health"
)

// connect opens a connection whose reads and writes end with ctx.
func (w way) connect(ctx context.Context, at string) (net.Conn, func(), error) {
	conn, err := w(ctx, "tcp", at)
	if err != nil {
		return nil, nil, err
	}

	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })

	return conn, func() { stop(); _ = conn.Close() }, nil
}

// redis sends PING as a client would (redis.io, "Redis serialization protocol specification"). Any answer will do,
// also an error, unless a text is asked for.
func (w way) redis(ctx context.Context, at string, p health.Probe) (string, error) {
	conn, done, err := w.connect(ctx, at)
	if err != nil {
		return "", err
	}

	defer done()
	request := "*1\r\n$4\r\nPING\r\n"
	if p.Password != "" {
		request = fmt.Sprintf("*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n", len(p.Password), p.Password) + request
	}

	_, err = io.WriteString(conn, request)
	if err != nil {
		return "", err
	}

	r := bufio.NewReader(io.LimitReader(conn, bodyLimit))
	line, err := r.ReadString('\n')
	if err == nil && p.Password != "" {
		line, err = r.ReadString('\n')
	}

	line = strings.TrimRight(line, "\r\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("no answer: %w", err)
	case line == "" || strings.IndexByte("+-$*", line[0]) < 0:
		return "", fmt.Errorf("it is no redis: it says %q", line)
	case !strings.Contains(line, p.Body):
		return "", fmt.Errorf("the answer %q does not contain %q", line[1:], p.Body)
	}

	return line[1:], nil
}

// startup is the beginning of a session of a user and database of that name; nobody need have them (PostgreSQL
// documentation, "Message Formats").
const startup = "user\x00ic-healthd\x00database\x00ic-healthd\x00application_name\x00ic-healthd\x00\x00"

// cannotConnectNow is the SQLSTATE of a server that starts, stops or recovers.
const cannotConnectNow = "57P03"

// postgres asks whether a server takes connections, as pg_isready does: one that asks for a password or knows no
// such user takes them.
func (w way) postgres(ctx context.Context, at string) (string, error) {
	conn, done, err := w.connect(ctx, at)
	if err != nil {
		return "", err
	}

	defer done()
	msg := binary.BigEndian.AppendUint32(nil, uint32(8+len(startup)))
	msg = binary.BigEndian.AppendUint32(msg, 3<<16) // protocol 3.0
	_, err = conn.Write(append(msg, startup...))
	if err != nil {
		return "", err
	}

	var head [5]byte
	_, err = io.ReadFull(conn, head[:])
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}

	size := binary.BigEndian.Uint32(head[1:])
	switch {
	case size < 4 || size > bodyLimit || head[0] != 'R' && head[0] != 'E':
		return "", errors.New("it is no PostgreSQL")
	case head[0] == 'R':
		return "accepting connections", nil
	}

	body, err := io.ReadAll(io.LimitReader(conn, int64(size-4)))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}

	for field := range strings.SplitSeq(string(body), "\x00") {
		if field == "C"+cannotConnectNow {
			return "", errors.New("rejecting connections")
		}
	}

	return "accepting connections", nil
}
