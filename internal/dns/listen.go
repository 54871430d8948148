package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
	lan  bool // for machines beyond our networks
	udp  []*net.UDPConn
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
	if len(l.udp) == 0 {
		return netip.AddrPort{}
	}
	return l.udp[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// open takes over the sockets the agent before us had at the address, and binds what is missing, or records
// why not.
func (l *listener) open(ctx context.Context, left *leftovers, readers int, now time.Time) {
	l.udp, l.tcp = left.take(l.want)
	l.err = l.bind(ctx, readers)
	if l.err == nil {
		l.wait, l.retry, l.served = 0, time.Time{}, false
		return
	}
	l.fail(l.err, now)
}

// bind opens the sockets that are missing. How many read is settled by the first time: a socket more would take
// the questions that the kernel had meant for another (SO_REUSEPORT, socket(7)).
func (l *listener) bind(ctx context.Context, readers int) error {
	switch {
	case len(l.udp) > 0 && l.tcp != nil:
		return nil
	case len(l.udp) == 0 && l.tcp == nil:
		udp, tcp, err := bind(ctx, l.want, readers)
		l.udp, l.tcp = udp, tcp
		return err
	case l.tcp == nil:
		tcp, err := bindTCP(ctx, l.want)
		l.tcp = tcp
		return err
	}
	udp, err := bindUDP(ctx, l.want, readers)
	l.udp = udp
	return err
}

// fail closes the sockets and puts the next try off.
func (l *listener) fail(err error, now time.Time) {
	l.close()
	l.err = err
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retry = now.Add(l.wait)
}

func (l *listener) close() {
	for _, c := range l.udp {
		c.Close()
	}
	if l.tcp != nil {
		l.tcp.Close()
	}
	l.udp, l.tcp = nil, nil
}

// rest stops reading; what has been read is still answered.
func (l *listener) rest() {
	past := time.Unix(1, 0)
	for _, c := range l.udp {
		_ = c.SetReadDeadline(past)
	}
	if l.tcp != nil {
		_ = l.tcp.SetDeadline(past)
	}
}

// bind opens UDP sockets and a TCP socket on one address. With port 0 the system picks one that both can have.
func bind(ctx context.Context, at netip.AddrPort, readers int) ([]*net.UDPConn, *net.TCPListener, error) {
	tries := 1
	if at.Port() == 0 {
		tries, readers = 8, 1
	}
	var err error
	for range tries {
		var udp []*net.UDPConn
		var tcp *net.TCPListener
		udp, err = bindUDP(ctx, at, readers)
		if err != nil {
			return nil, nil, explain(at, err)
		}
		tcp, err = bindTCP(ctx, udp[0].LocalAddr().(*net.UDPAddr).AddrPort())
		if err == nil {
			return udp, tcp, nil
		}
		for _, c := range udp {
			c.Close()
		}
	}
	return nil, nil, explain(at, err)
}

func bindUDP(ctx context.Context, at netip.AddrPort, readers int) ([]*net.UDPConn, error) {
	config := net.ListenConfig{Control: freebind(readers > 1)}
	var out []*net.UDPConn
	for range max(1, readers) {
		c, err := config.ListenPacket(ctx, "udp", at.String())
		if err != nil {
			for _, open := range out {
				open.Close()
			}
			return nil, err
		}
		out = append(out, c.(*net.UDPConn))
	}
	return out, nil
}

func bindTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: freebind(false)}
	l, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// receiveBuffer is how many bytes of questions may wait in the kernel while all else is busy; it gives less where
// net.core.rmem_max is less.
const receiveBuffer = 16 << 20

// freebind lets a socket have its address before the bridge has it (ip(7) IP_FREEBIND), so that the first
// question of the first container is answered. It keeps the address when the bridge is made anew. Shared lets
// several sockets of ours have one address.
func freebind(shared bool) func(network, _ string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd uintptr) {
			level, option := unix.SOL_IP, unix.IP_FREEBIND
			if network == "udp6" || network == "tcp6" {
				level, option = unix.SOL_IPV6, unix.IPV6_FREEBIND
			}
			err = unix.SetsockoptInt(int(fd), level, option, 1)
			if err == nil && (network == "udp4" || network == "udp6") {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
			}
			if err == nil && shared {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
		}
		control := c.Control(set)
		return errors.Join(control, err)
	}
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
	for i, a := range slices.Concat(addrs, s.options.LAN.Addrs) {
		same := func(l *listener) bool { return l.want == a }
		if slices.ContainsFunc(next, same) {
			continue
		}
		old := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.want == a && l.lan == (i >= len(addrs)) })
		if old >= 0 {
			next = append(next, s.listeners[old])
		} else {
			next = append(next, &listener{want: a, lan: i >= len(addrs)})
		}
	}
	for _, l := range s.listeners {
		if !slices.Contains(next, l) {
			l.close()
			s.socketsChanged()
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
	if len(l.udp) > 0 {
		return
	}
	before := l.err
	l.open(ctx, s.left, s.options.Readers, now)
	switch {
	case l.err == nil:
		s.socketsChanged()
		s.log.InfoContext(ctx, "dns listens", "addr", l.addr())
	case before == nil || before.Error() != l.err.Error():
		s.socketsChanged()
		s.log.WarnContext(ctx, "dns cannot listen", "addr", l.want, "err", l.err)
	}
}

// retryListeners opens what is due, gives open sockets their goroutines, and returns how long until the next
// try; 0 when nothing waits.
func (s *Server) retryListeners(ctx, work context.Context, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wait time.Duration
	for _, l := range s.listeners {
		if len(l.udp) == 0 && !now.Before(l.retry) {
			s.tryOpen(ctx, l, now)
		}
		if len(l.udp) > 0 && !l.served {
			l.served = true
			s.serve(ctx, work, l)
		}
		if len(l.udp) == 0 && (wait == 0 || l.retry.Sub(now) < wait) {
			wait = l.retry.Sub(now)
		}
	}
	return wait
}

// broken closes a listener whose socket failed under its goroutine, to be opened again. Sockets that were
// closed on purpose are none of l's any more.
func (s *Server) broken(l *listener, first *net.UDPConn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(l.udp) == 0 || l.udp[0] != first || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	l.fail(fmt.Errorf("serve %s: %w", l.want, err), time.Now())
	s.socketsChanged()
	s.log.Warn("dns socket failed", "addr", l.want, "err", err)
	s.wake()
}
