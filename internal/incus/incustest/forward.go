package incustest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// postForward connects a client with what listens in an instance.
func (s *Server) postForward(w http.ResponseWriter, r *http.Request) {
	var to struct {
		Address string `json:"address"`
		Port    int    `json:"port"`
	}
	err := body(r, &to)
	if err != nil || r.Header.Get("Upgrade") != "tcp" {
		s.violation(r)(w)
		return
	}
	serve, err := s.listener(key{project(r), r.PathValue("name")}, to.Address, to.Port)
	if err != nil {
		failed(err)(w)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, err = fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
	if err == nil {
		serve(begun{conn, buf.Reader})
	}
}

// listener is what listens on a port of an instance.
func (s *Server) listener(at key, address string, port int) (func(net.Conn), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(at.project, at.name)
	switch {
	case err != nil:
		return nil, err
	case !i.running():
		return nil, errors.New("Failed getting instance port forward connection: Instance is not running") //nolint:staticcheck // Incus's words
	}
	serve := s.apps[at].Listens[port]
	if serve == nil {
		return nil, fmt.Errorf("Failed getting instance port forward connection: Failed to run forknet connect: exit status 1: Error: Failed connecting to \"%s:%d\": dial tcp %[1]s:%[2]d: connect: connection refused", address, port) //nolint:staticcheck // Incus's words
	}
	return serve, nil
}

// begun is a connection of which something may have been read already.
type begun struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was read already first.
func (b begun) Read(p []byte) (int, error) { return b.r.Read(p) }
