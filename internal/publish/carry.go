package publish

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// serveTCP accepts until the port is closed.
func (f *Forwarder) serveTCP(ctx context.Context, l *listener) {
	for {
		conn, err := l.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}

		if err != nil {
			pause(ctx) // out of file descriptors: those in use end some time
			continue
		}

		if !f.admit() {
			_ = conn.SetLinger(0)
			_ = conn.Close()
			continue
		}

		f.busy.Go(func() {
			defer f.leave()
			carryTCP(ctx, conn, *l.to.Load())
		})
	}
}

// carryTCP copies both ways until both ends have said all. The end of one direction is passed on as such, because
// half-closed connections are how some protocols say "that was my question".
func carryTCP(ctx context.Context, near *net.TCPConn, to netip.AddrPort) {
	defer near.Close()

	d := net.Dialer{Timeout: dialTime}
	c, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		_ = near.SetLinger(0) // a reset: the caller sees a refused connection, not an empty answer
		return
	}

	far := c.(*net.TCPConn)
	defer far.Close()

	stop := context.AfterFunc(ctx, func() {
		_ = near.SetDeadline(time.Unix(1, 0))
		_ = far.SetDeadline(time.Unix(1, 0))
	})
	defer stop()

	var wg sync.WaitGroup
	wg.Go(func() { one(far, near) })
	one(near, far)
	wg.Wait()
}

// one copies in one direction and passes its end on.
func one(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
	_ = from.CloseRead()
}

// serveUDP gives each client a socket of its own towards the instance, by which answers find back.
func (f *Forwarder) serveUDP(ctx context.Context, l *listener) {
	var mu sync.Mutex
	clients := map[netip.AddrPort]*net.UDPConn{}
	buf := make([]byte, 65535)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			break
		}

		if err != nil {
			continue // an ICMP error about an earlier packet
		}

		mu.Lock()
		far := clients[from]
		mu.Unlock()
		if far == nil {
			far = f.client(ctx, l, from, func() {
				mu.Lock()
				delete(clients, from)
				mu.Unlock()
			})
			if far == nil {
				continue
			}

			mu.Lock()
			clients[from] = far
			mu.Unlock()
		}

		_ = far.SetReadDeadline(time.Now().Add(idleUDP))
		_, _ = far.Write(buf[:n])
	}

	mu.Lock()
	defer mu.Unlock()

	for _, far := range clients {
		_ = far.Close()
	}
}

// client opens a socket for a UDP client and carries the answers back until it has been idle for long.
func (f *Forwarder) client(ctx context.Context, l *listener, from netip.AddrPort, forget func()) *net.UDPConn {
	if !f.admit() {
		return nil
	}

	var d net.Dialer
	c, err := d.DialContext(ctx, "udp4", l.to.Load().String())
	if err != nil {
		f.leave()
		return nil
	}

	far := c.(*net.UDPConn)
	f.busy.Go(func() {
		defer f.leave()
		defer forget()
		defer far.Close()

		buf := make([]byte, 65535)
		for {
			n, rerr := far.Read(buf)
			if rerr != nil {
				return
			}

			_, _ = l.udp.WriteToUDPAddrPort(buf[:n], from)
		}
	})

	return far
}

// pause waits a moment.
func pause(ctx context.Context) {
	t := time.NewTimer(100 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
