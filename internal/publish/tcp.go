package publish

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// serveTCP accepts until the port is closed.
func (f *Forwarder) serveTCP(ctx context.Context, l *listener) {
	for {
		conn, err := l.tcp.AcceptTCP() // what is accepted is carried, also when the port has been closed since
		if err != nil {
			if l.over.Load() || ctx.Err() != nil {
				return
			}

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
			carryTCP(ctx, conn, l.pool.Load())
		})
	}
}

// carryTCP copies both ways until both ends have said all. The end of one direction is passed on as such, because
// half-closed connections are how some protocols say "that was my question".
func carryTCP(ctx context.Context, near *net.TCPConn, p *pool) {
	defer near.Close()

	c, t, err := p.dial(ctx, "tcp")
	if err != nil {
		_ = near.SetLinger(0) // a reset: the caller sees a refused connection, not an empty answer
		return
	}

	defer t.flows.Add(-1)

	far := c.(*net.TCPConn)
	defer far.Close()

	if p.header {
		_, err = io.WriteString(far, header(near))
		if err != nil {
			return
		}
	}

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

// header is the line of the PROXY protocol, version 1, section 2.1.
func header(near *net.TCPConn) string {
	addrPort := func(a net.Addr) netip.AddrPort {
		ap := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
	}
	src, dst := addrPort(near.RemoteAddr()), addrPort(near.LocalAddr())
	family := "TCP6"
	if src.Addr().Is4() {
		family = "TCP4"
	}

	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, src.Addr(), dst.Addr(), src.Port(), dst.Port())
}

// one copies in one direction and passes its end on.
func one(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
	_ = from.CloseRead()
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
