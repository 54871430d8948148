package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Waiting times before a listener that could not be opened is tried again.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 15 * time.Second
)

// listener is one address we are to answer at.
type listener struct {
	want netip.AddrPort
	udp  *net.UDPConn
	tcp  *net.TCPListener
	// served is whether the sockets have their goroutines.
	served bool
	// err is why the sockets are not open; wait and retry say how long and until when to leave them.
	err   error
	wait  time.Duration
	retry time.Time
}

// addr is the bound address, the zero AddrPort when there is none.
func (l *listener) addr() netip.AddrPort {
	if l.udp == nil {
		return netip.AddrPort{}
	}
	return l.udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// open binds both sockets, or records why not.
func (l *listener) open(ctx context.Context, now time.Time) {
	l.udp, l.tcp, l.err = bind(ctx, l.want)
	if l.err == nil {
		l.wait, l.retry, l.served = 0, time.Time{}, false
		return
	}
	l.fail(l.err, now)
}

// fail closes the sockets and puts the next try off.
func (l *listener) fail(err error, now time.Time) {
	l.close()
	l.err = err
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retry = now.Add(l.wait)
}

func (l *listener) close() {
	if l.udp != nil {
		l.udp.Close()
		l.tcp.Close()
	}
	l.udp, l.tcp = nil, nil
}

// bind opens a UDP and a TCP socket on one address. With port 0 the system picks one that both can have.
func bind(ctx context.Context, at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	tries := 1
	if at.Port() == 0 {
		tries = 8
	}
	var err error
	for range tries {
		var udp *net.UDPConn
		var tcp *net.TCPListener
		udp, tcp, err = bindPair(ctx, at)
		if err == nil {
			return udp, tcp, nil
		}
	}
	return nil, nil, explain(at, err)
}

func bindPair(ctx context.Context, at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	config := net.ListenConfig{Control: freebind}
	packet, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, nil, err
	}
	udp := packet.(*net.UDPConn)
	stream, err := config.Listen(ctx, "tcp", udp.LocalAddr().String())
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, stream.(*net.TCPListener), nil
}

// receiveBuffer is how many bytes of questions may wait in the kernel while all else is busy.
const receiveBuffer = 1 << 20

// freebind lets a socket have its address before the bridge has it (ip(7) IP_FREEBIND), so that the first
// question of the first container is answered. It keeps the address when the bridge is made anew.
func freebind(network, _ string, c syscall.RawConn) error {
	var err error
	set := func(fd uintptr) {
		switch network {
		case "udp6", "tcp6":
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
		default:
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		}
		if err == nil && (network == "udp4" || network == "udp6") {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
		}
	}
	control := c.Control(set)
	return errors.Join(control, err)
}

// explain says what an error of bind means and what to do about it.
func explain(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s is taken by another program ('ss -lnp sport = :%d' names it): "+
			"make it leave this address alone: %w", at, at.Port(), err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s may not be used: the service needs the capability CAP_NET_BIND_SERVICE: %w", at, err)
	}
	return fmt.Errorf("listen at %s: %w", at, err)
}

// Listen makes these the addresses answered at, over UDP and TCP: opens the missing ones, closes those gone,
// and leaves all others alone. When it returns, each is bound or its Status says why not; Run tries those
// again. An address is bound even before its bridge exists. Port 0 lets the system choose.
func (s *Server) Listen(ctx context.Context, addrs []netip.AddrPort) {
	now := time.Now()
	s.mu.Lock()
	next := make([]*listener, 0, len(addrs))
	for _, a := range addrs {
		same := func(l *listener) bool { return l.want == a }
		if slices.ContainsFunc(next, same) {
			continue
		}
		i := slices.IndexFunc(s.listeners, same)
		if i >= 0 {
			next = append(next, s.listeners[i])
		} else {
			next = append(next, &listener{want: a})
		}
	}
	for _, l := range s.listeners {
		if !slices.Contains(next, l) {
			l.close()
			s.log.InfoContext(ctx, "dns stopped listening", "addr", l.want)
		}
	}
	s.listeners = next
	for _, l := range s.listeners {
		s.tryOpen(ctx, l, now)
	}
	s.mu.Unlock()
	s.useUpstreams()
	s.wake()
}

// tryOpen opens a listener that is not open, and says so when that changes anything. The caller holds mu.
func (s *Server) tryOpen(ctx context.Context, l *listener, now time.Time) {
	if l.udp != nil {
		return
	}
	before := l.err
	l.open(ctx, now)
	switch {
	case l.err == nil:
		s.log.InfoContext(ctx, "dns listens", "addr", l.addr())
	case before == nil || before.Error() != l.err.Error():
		s.log.WarnContext(ctx, "dns cannot listen", "addr", l.want, "err", l.err)
	}
}

// retryListeners opens what is due, gives open sockets their goroutines, and returns how long until the next
// try; 0 when nothing waits.
func (s *Server) retryListeners(ctx context.Context, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wait time.Duration
	for _, l := range s.listeners {
		if l.udp == nil && !now.Before(l.retry) {
			s.tryOpen(ctx, l, now)
		}
		if l.udp != nil && !l.served {
			l.served = true
			s.serve(ctx, l)
		}
		if l.udp == nil && (wait == 0 || l.retry.Sub(now) < wait) {
			wait = l.retry.Sub(now)
		}
	}
	return wait
}

// broken closes a listener whose socket failed under its goroutine, to be opened again. Sockets that were
// closed on purpose are none of l's any more.
func (s *Server) broken(l *listener, udp *net.UDPConn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.udp != udp || errors.Is(err, net.ErrClosed) {
		return
	}
	l.fail(fmt.Errorf("serve %s: %w", l.want, err), time.Now())
	s.log.Warn("dns socket failed", "addr", l.want, "err", err)
	s.wake()
}
