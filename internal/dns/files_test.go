package dns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	miekg "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// keepOpen does what systemd's descriptor store does.
func keepOpen(t *testing.T, s *Server) (names []string, files []*os.File) {
	t.Helper()
	err := s.EachSocket(func(name string, fd uintptr) error {
		dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		names, files = append(names, name), append(files, os.NewFile(uintptr(dup), name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, files
}

// runs has a server run; the channel is closed when it has ended.
func runs(ctx context.Context, s *Server) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx) // always nil
	}()
	return done
}

func TestD39SocketsSurviveARestart(t *testing.T) {
	free, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IP{127, 53, 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	at := free.LocalAddr().(*net.UDPAddr).AddrPort()
	free.Close()
	begin := func(files []*os.File) (*Server, func()) {
		s := New(Options{Upstreams: []netip.AddrPort{}, Readers: 3, Files: files})
		s.Publish(Build("incus", 1, loNets, replicas("web", 1)))
		s.Listen(t.Context(), []netip.AddrPort{at})
		if st := s.Status(); st.Listeners[0].Err != nil {
			t.Fatal(st.Listeners[0].Err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := runs(ctx, s)
		return s, func() { stop(); <-done }
	}
	s, stop := begin(nil)
	var conns []net.Conn
	for range 30 { // several of them for each of the three sockets
		conns = append(conns, dial(t, "udp", visitor, at))
	}
	mark := pack(t, ask4("web."))
	for _, c := range conns {
		exchange(t, c, mark)
	}
	names, files := keepOpen(t, s)
	want := []string{}
	for i := range 3 {
		want = append(want, fmt.Sprintf("dns-udp-127.53.1.1-%d-%d", at.Port(), i))
	}
	if want = append(want, fmt.Sprintf("dns-tcp-127.53.1.1-%d-0", at.Port())); !slices.Equal(names, want) {
		t.Errorf("names are %q, want %q", names, want)
	}
	stop()
	for _, c := range conns { // nobody is there
		_, err := c.Write(mark)
		if err != nil {
			t.Fatal(err)
		}
	}
	stream := dial(t, "tcp", visitor, at)
	_, stop = begin(files)
	defer stop()
	for i, c := range conns {
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:2], mark[:2]) {
			t.Errorf("client %d: what it asked meanwhile got % x, %v", i, buf[:n], err)
		}
	}
	exchange(t, stream, mark)
}

func TestD39UnwantedSocketsAreClosed(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IP{127, 53, 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Files: []*os.File{f, null}})
	s.left.expire(adoptFor - 1)
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatalf("closed too early: %v", err)
	}
	c.Close()
	s.left.expire(adoptFor)
	_, err = net.Dial("tcp", at)
	if err == nil {
		t.Error("still open")
	}
}

func TestD39ForwardsUnderWayAreAnsweredAtTheEnd(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, func(_ *upstreamTest, q *miekg.Msg) []byte {
		<-release
		return wire(answered(q, 0, "x. 300 A 192.0.2.1"))
	})
	s := New(Options{Upstreams: []netip.AddrPort{up.addr}})
	s.Publish(Build("incus", 1, loNets, nil))
	s.Listen(t.Context(), []netip.AddrPort{netip.MustParseAddrPort(frontGW)})
	ctx, stop := context.WithCancel(t.Context())
	done := runs(ctx, s)
	conn := dial(t, "udp", visitor, s.Status().Listeners[0].Addr)
	mark := pack(t, ask4("example.com."))
	_, err := conn.Write(mark)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the question goes out", func() bool { return up.count() > 0 })
	stop()
	close(release)
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil || !bytes.Equal(buf[:2], mark[:2]) {
		t.Errorf("got % x, %v", buf[:n], err)
	}
	<-done
}
