package buffer

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

var errNotUDP = errors.New("not a UDP socket")

// Serve reads one message of sockets from the unix socket f, enlarges their receive buffers, and answers "ok" or why
// not. The error is that of the conversation.
func Serve(f *os.File) error {
	c, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("listen to the agent: %w", err)
	}
	defer c.Close()

	conn, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("listen to the agent: a %s socket", c.LocalAddr().Network())
	}

	fds, err := receive(conn)
	if err != nil {
		return fmt.Errorf("receive sockets: %w", err)
	}

	answer := "ok"
	for _, fd := range fds {
		err = enlarge(fd)
		if err != nil && answer == "ok" {
			answer = err.Error()
		}

		_ = unix.Close(fd)
	}

	_, err = conn.Write([]byte(answer + "\n"))
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}

	return nil
}

func receive(conn *net.UnixConn) ([]int, error) {
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*atOnce))
	_, n, _, _, err := conn.ReadMsgUnix(data, rights)
	if err != nil {
		return nil, err
	}

	msgs, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		return nil, err
	}

	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return nil, err
		}

		fds = append(fds, got...)
	}

	return fds, nil
}

// enlarge lets a UDP socket hold Size bytes, whatever net.core.rmem_max is.
func enlarge(fd int) error {
	domain, derr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol, perr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if derr != nil || perr != nil || domain != unix.AF_INET && domain != unix.AF_INET6 || protocol != unix.IPPROTO_UDP {
		return errNotUDP
	}

	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, Size)
	if err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}

	return nil
}
