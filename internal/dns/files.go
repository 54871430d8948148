package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// adoptFor is how long sockets of the agent before us wait for Listen to name their address.
const adoptFor = time.Minute

// leftovers are the open sockets of the agent before us, by address. What clients asked meanwhile waits in them.
type leftovers struct {
	mu  sync.Mutex // guards what follows
	udp map[netip.AddrPort][]*net.UDPConn
	tcp map[netip.AddrPort]*net.TCPListener
}

// adopt makes sockets of descriptors. What is no socket of ours is closed and logged.
func (s *Server) adopt(files []*os.File) *leftovers {
	left := &leftovers{udp: map[netip.AddrPort][]*net.UDPConn{}, tcp: map[netip.AddrPort]*net.TCPListener{}}
	// In the order of their names, so that each has its name again.
	files = slices.SortedFunc(slices.Values(files), func(a, b *os.File) int { return strings.Compare(a.Name(), b.Name()) })
	for _, f := range files {
		err := left.add(f)
		f.Close()
		if err != nil {
			s.log.Warn("inherited descriptor is no dns socket", "name", f.Name(), "err", err)
		}
	}
	return left
}

// add takes a copy of a descriptor.
func (l *leftovers) add(f *os.File) error {
	packet, err := net.FilePacketConn(f)
	if err == nil {
		udp, ok := packet.(*net.UDPConn)
		if !ok {
			packet.Close()
			return fmt.Errorf("a %s socket", packet.LocalAddr().Network())
		}
		at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
		l.udp[at] = append(l.udp[at], udp)
		return nil
	}
	stream, err := net.FileListener(f)
	if err != nil {
		return err
	}
	tcp, ok := stream.(*net.TCPListener)
	if !ok {
		stream.Close()
		return fmt.Errorf("a %s socket", stream.Addr().Network())
	}
	at := tcp.Addr().(*net.TCPAddr).AddrPort()
	if l.tcp[at] != nil {
		tcp.Close()
		return fmt.Errorf("a second tcp socket of %s", at)
	}
	l.tcp[at] = tcp
	return nil
}

// take hands the sockets of an address over; either may be missing.
func (l *leftovers) take(at netip.AddrPort) ([]*net.UDPConn, *net.TCPListener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	udp, tcp := l.udp[at], l.tcp[at]
	delete(l.udp, at)
	delete(l.tcp, at)
	return udp, tcp
}

// expire closes what nobody has wanted for so long, and tells whether there was any.
func (l *leftovers) expire(age time.Duration) bool {
	if age < adoptFor {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	some := len(l.udp)+len(l.tcp) > 0
	for _, conns := range l.udp {
		for _, c := range conns {
			c.Close()
		}
	}
	for _, c := range l.tcp {
		c.Close()
	}
	clear(l.udp)
	clear(l.tcp)
	return some
}

// due is how long what is left may still be wanted, 0 when nothing is left.
func (l *leftovers) due(age time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.udp)+len(l.tcp) == 0 {
		return 0
	}
	return adoptFor - age
}

// each calls f with every socket and its name.
func (l *leftovers) each(f func(name string, fd uintptr) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, conns := range l.udp {
		for i, c := range conns {
			err := control(c, socketName("udp", at, i), f)
			if err != nil {
				return err
			}
		}
	}
	for at, c := range l.tcp {
		err := control(c, socketName("tcp", at, 0), f)
		if err != nil {
			return err
		}
	}
	return nil
}

// Sockets counts how often the set of open sockets has changed: as long as it stays, EachSocket has nothing new.
func (s *Server) Sockets() uint64 { return s.sockets.Load() }

// EachSocket calls f with every open socket, those of the server before that still wait for their address included,
// and a name that is its own as long as its address is, in the form
// systemd's descriptor store wants (sd_pid_notify_with_fds(3) FDNAME): who keeps the descriptors open over a
// restart and hands them to the next Server as Options.Files loses no question. The descriptor is valid during
// the call. EachSocket returns f's first error.
func (s *Server) EachSocket(f func(name string, fd uintptr) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		for i, c := range l.udp {
			err := control(c, socketName("udp", l.addr(), i), f)
			if err != nil {
				return err
			}
		}
		if l.tcp == nil {
			continue
		}
		err := control(l.tcp, socketName("tcp", l.addr(), 0), f)
		if err != nil {
			return err
		}
	}
	return s.left.each(f)
}

// control calls f with a socket's descriptor without changing how it blocks, which os.File would.
func control(c syscall.Conn, name string, f func(string, uintptr) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	called := error(nil)
	err = raw.Control(func(fd uintptr) { called = f(name, fd) })
	if err != nil {
		return err
	}
	return called
}

// socketName is "dns-udp-10.1.0.1-53-0"; a colon would end the name.
func socketName(network string, at netip.AddrPort, i int) string {
	addr := strings.ReplaceAll(at.Addr().String(), ":", "_")
	return fmt.Sprintf("dns-%s-%s-%d-%d", network, addr, at.Port(), i)
}
