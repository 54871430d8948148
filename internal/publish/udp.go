package publish

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// askWhere has the kernel say which of the host's addresses a packet came to, so that the answer leaves from there.
func askWhere(addr netip.Addr) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			if addr.Is4() {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			} else {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})

		return errors.Join(err, cerr)
	}
}

// answerFrom turns what the kernel said of a packet into what it is told about the answer (ip(7), ipv6(7)).
func answerFrom(oob []byte) []byte {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}

	for _, m := range msgs {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			var info unix.Inet4Pktinfo
			copy(info.Spec_dst[:], m.Data[4:8]) // ipi_spec_dst, behind ipi_ifindex

			return unix.PktInfo4(&info)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			var info unix.Inet6Pktinfo
			copy(info.Addr[:], m.Data[:16])

			return unix.PktInfo6(&info)
		}
	}

	return nil
}

// clients are those of one UDP port, each with a socket of its own towards its instance, by which answers find back.
type clients struct {
	mu sync.Mutex
	by map[netip.AddrPort]*net.UDPConn
}

// serveUDP carries packets until the port is closed. A client stays with its instance until it has been silent for
// long, or the instance is no longer one to send clients to.
func (f *Forwarder) serveUDP(ctx context.Context, l *listener) {
	cs := clients{by: map[netip.AddrPort]*net.UDPConn{}}
	buf, oob := make([]byte, 65535), make([]byte, 128)
	for {
		n, m, _, from, err := l.udp.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			break
		}

		if err != nil {
			continue // an ICMP error about an earlier packet
		}

		cs.mu.Lock()
		far := cs.by[from]
		cs.mu.Unlock()
		if far == nil {
			far = f.client(ctx, l, &cs, from, answerFrom(oob[:m]))
		}

		if far != nil {
			_ = far.SetReadDeadline(time.Now().Add(idleUDP))
			_, _ = far.Write(buf[:n])
		}
	}

	cs.mu.Lock()
	defer cs.mu.Unlock()

	for _, far := range cs.by {
		_ = far.Close()
	}
}

// client opens a socket for a UDP client and carries the answers back until it has been idle for long.
func (f *Forwarder) client(ctx context.Context, l *listener, cs *clients, from netip.AddrPort, via []byte) *net.UDPConn {
	if !f.admit() {
		return nil
	}

	c, t, err := l.pool.Load().dial(ctx, "udp")
	if err != nil {
		f.leave()
		return nil
	}

	far := c.(*net.UDPConn)
	cs.mu.Lock()
	cs.by[from] = far
	cs.mu.Unlock()

	done := make(chan struct{})
	f.busy.Go(func() {
		select {
		case <-t.gone:
			_ = far.Close()
		case <-done:
		}
	})
	f.busy.Go(func() {
		defer close(done)
		defer f.leave()
		defer t.flows.Add(-1)
		defer far.Close()
		defer func() {
			cs.mu.Lock()
			delete(cs.by, from)
			cs.mu.Unlock()
		}()

		buf := make([]byte, 65535)
		for {
			n, rerr := far.Read(buf)
			if rerr != nil {
				return
			}

			_, _, _ = l.udp.WriteMsgUDPAddrPort(buf[:n], via, from)
		}
	})

	return far
}
