package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Limits of a TCP connection (RFC 7766): how long a client may take to send its next question, how long to take
// an answer, and how many questions it may ask.
const (
	tcpIdle    = 10 * time.Second
	tcpWrite   = 5 * time.Second
	tcpQueries = 128
)

// maxQuery is how long a question may be: a name, and options such as padding and cookies.
const maxQuery = 4096

var errTooLong = errors.New("question too long")

// acceptPause is how long accepting rests when the process has no descriptor left.
const acceptPause = 50 * time.Millisecond

// serve starts the goroutines of a listener's sockets. They end when the sockets are closed.
// Ctx ends the reading, work the waiting for upstreams.
func (s *Server) serve(ctx, work context.Context, l *listener) {
	from := arrival{local: l.addr().Addr(), lan: l.lan}
	first, tcp := l.udp[0], l.tcp
	for _, udp := range l.udp {
		s.serving.Go(func() { s.broken(l, first, s.serveUDP(work, udp, from)) })
	}
	stream := from
	stream.tcp = true
	s.serving.Go(func() { s.broken(l, first, s.serveTCP(ctx, work, tcp, stream)) })
}

// serveUDP answers what is ours in the reading goroutine itself: that takes microseconds and waits for nobody.
// What goes to an upstream gets a goroutine, of which the gate allows so many.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn, from arrival) error {
	buf, out := make([]byte, maxQuery), make([]byte, maxPayload)
	var q hotQuery
	for {
		n, src, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		from.src, from.logged = src.Addr(), s.samples.pick()
		length := s.fast(out, buf[:n], &from, &q)
		if length > 0 {
			sendUDP(conn, out[:length], src)
			continue
		}
		reply, ask := s.answer(buf[:n], from)
		if ask != nil {
			s.serving.Go(func() { sendUDP(conn, s.finish(ctx, ask), src) })
			continue
		}
		if reply != nil {
			sendUDP(conn, reply, src)
		}
	}
}

// sendUDP sends a reply. A client that cannot be reached asks again or is gone: nobody here could do more.
func sendUDP(conn *net.UDPConn, reply []byte, to netip.AddrPort) {
	_, _ = conn.WriteToUDPAddrPort(reply, to)
}

func (s *Server) serveTCP(ctx, work context.Context, listener *net.TCPListener, from arrival) error {
	for {
		conn, err := listener.AcceptTCP()
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			pause(ctx, acceptPause)
			continue
		}
		if err != nil {
			return err
		}
		src := plain(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
		who := s.published.Load().zone.View(from.local, src).client(src)
		if !s.conns.enter(who) {
			conn.Close()
			continue
		}
		s.serving.Go(func() {
			defer s.conns.leave(who)
			mine := from
			mine.src = src
			s.serveConn(ctx, work, conn, mine)
		})
	}
}

// serveConn answers the questions of one connection. Those that go to an upstream do not hold up the ones
// behind them (RFC 7766 6.2.1.1). What is no question ends the connection.
func (s *Server) serveConn(ctx, work context.Context, conn *net.TCPConn, from arrival) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseRead() })
	defer stop()
	var pending sync.WaitGroup
	defer pending.Wait()
	var mu sync.Mutex // one reply at a time
	send := func(reply []byte) error {
		mu.Lock()
		defer mu.Unlock()
		err := conn.SetWriteDeadline(time.Now().Add(tcpWrite))
		if err != nil {
			return err
		}
		_, err = conn.Write(framed(reply))
		return err
	}
	buf := make([]byte, maxQuery)
	for range tcpQueries {
		n, err := readFrame(conn, buf)
		if err != nil {
			return
		}
		parts := s.transfer(buf[:n], from)
		for _, part := range parts {
			err = send(part)
			if err != nil {
				return
			}
		}
		if parts != nil {
			continue
		}
		from.logged = s.samples.pick()
		reply, ask := s.answer(buf[:n], from)
		if ask != nil {
			pending.Go(func() { _ = send(s.finish(work, ask)) })
			continue
		}
		if reply == nil {
			return
		}
		err = send(reply)
		if err != nil {
			return
		}
	}
}

// readFrame reads one message with its length before it (RFC 1035 4.2.2).
func readFrame(r net.Conn, buf []byte) (int, error) {
	err := r.SetReadDeadline(time.Now().Add(tcpIdle))
	if err != nil {
		return 0, err
	}
	_, err = io.ReadFull(r, buf[:2])
	if err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(buf))
	if n > len(buf) {
		return 0, errTooLong
	}
	return io.ReadFull(r, buf[:n])
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// probeEvery is how long one question of a probe waits before it is asked again.
const probeEvery = 500 * time.Millisecond

// probe asks a listener from its own address, which no other machine has, until it answers or ctx ends.
func probe(ctx context.Context, at netip.AddrPort) error {
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0))
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(at))
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	for ctx.Err() == nil {
		err := probeOnce(conn, deadline(ctx, probeEvery))
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return ctx.Err()
}

// probing tells whether a question is a probe's.
func probing(q Question) bool { return q.Name == "." && q.Class == miekg.ClassCHAOS }

// probeOnce asks something that is refused without a look at the zone, and waits for that.
func probeOnce(conn *net.UDPConn, until time.Time) error {
	question := want{question: Question{Name: ".", Type: miekg.TypeSOA, Class: miekg.ClassCHAOS}}
	msg, err := question.message(false)
	if err != nil {
		return err
	}
	err = conn.SetDeadline(until)
	if err != nil {
		return err
	}
	_, err = conn.Write(msg)
	if err != nil {
		return err
	}
	buf := make([]byte, minPayload)
	for {
		n, err := conn.Read(buf)
		if err != nil || answers(msg, buf[:n]) == same {
			return err
		}
	}
}

// deadline is the end of a wait that ctx may end sooner.
func deadline(ctx context.Context, wait time.Duration) time.Time {
	at := time.Now().Add(wait)
	end, ok := ctx.Deadline()
	if ok && end.Before(at) {
		return end
	}
	return at
}
