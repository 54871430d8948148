package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
)

// systemd is the side of sd_pid_notify_with_fds(3) that keeps descriptors.
type systemd struct {
	mu   sync.Mutex
	kept map[string]*os.File
}

// listen receives until the test ends, and has the agent find it.
func (s *systemd) listen(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}

	t.Setenv("NOTIFY_SOCKET", path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.receive(t, conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		for _, f := range s.kept {
			f.Close()
		}
	})
}

func (s *systemd) receive(t *testing.T, conn *net.UnixConn) {
	for {
		msg, oob := make([]byte, 4096), make([]byte, 256)
		n, m, _, _, err := conn.ReadMsgUnix(msg, oob)
		if err != nil {
			return
		}

		err = s.take(string(msg[:n]), oob[:m])
		if err != nil {
			t.Errorf("%q: %v", msg[:n], err)
		}
	}
}

func (s *systemd) take(msg string, oob []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	_, name, found := strings.Cut(msg, "FDNAME=")
	switch {
	case !found:
		return nil
	case strings.HasPrefix(msg, "FDSTOREREMOVE=1"):
		if s.kept[name] == nil {
			return errors.New("is not in the store")
		}

		s.kept[name].Close()
		delete(s.kept, name)

		return nil
	}

	control, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(control) != 1 {
		return errors.New("no descriptor")
	}

	fds, err := syscall.ParseUnixRights(&control[0])
	if err != nil || len(fds) != 1 {
		return errors.New("not one descriptor")
	}

	s.kept[name] = os.NewFile(uintptr(fds[0]), name)

	return nil
}

// hand returns copies of what is kept, as a new process gets them.
func (s *systemd) hand(t *testing.T) []*os.File {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()

	var out []*os.File
	for name, f := range s.kept {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}

		out = append(out, os.NewFile(uintptr(fd), name))
	}

	return out
}

// question asks for the address of a name of at most 63 bytes a label.
func question(id uint16, name string) []byte {
	msg := []byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(msg, id)
	for label := range strings.SplitSeq(name, ".") {
		msg = append(append(msg, byte(len(label))), label...)
	}

	return append(msg, 0, 0, 1, 0, 1)
}

// asker asks all the time until it is told to stop, and counts what came of it.
type asker struct {
	sent, answered, empty int
	stop                  context.CancelFunc
	done                  chan struct{}
}

// ask sends a question every 5 ms to an address, each once.
func ask(t *testing.T, to netip.AddrPort, name string) *asker {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	a := &asker{stop: stop, done: make(chan struct{})}
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, rerr := conn.Read(buf)
			switch {
			case errors.Is(rerr, syscall.ECONNREFUSED):
			case rerr != nil:
				return
			case n > 12 && buf[3]&15 == 0 && buf[7] > 0:
				a.answered++
			default:
				a.empty++
			}
		}
	})
	go func() {
		defer close(a.done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			_, _ = conn.Write(question(uint16(a.sent), name)) // what is refused is not answered
			a.sent++
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}

		_ = conn.SetReadDeadline(time.Now().Add(time.Second)) // for the last answers
		reader.Wait()
		conn.Close()
	}()

	return a
}

// TestB7RestartLosesNoQuestion: the sockets outlive the agent, what is asked meanwhile is answered by the next one,
// and with the addresses the ledger knows: Incus is away then.
func TestB7RestartLosesNoQuestion(t *testing.T) {
	kept := &systemd{kept: map[string]*os.File{}}
	kept.listen(t)
	h := newHouse(t)
	h.conf.Settings.DNS.Host = new(bool)
	h.conf.DNSAddrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 53, 9, 1})}
	h.conf.DNSPort = freePort(t, h.conf.DNSAddrs[0])
	h.drop("blog.yaml", hello)
	h.begin()
	h.until("blog in sync", func(s api.Status) bool { return stackIn(s, "blog").State == api.InSync })
	h.heard("READY=1")

	a := ask(t, netip.AddrPortFrom(h.conf.DNSAddrs[0], h.conf.DNSPort), "web.blog.incus")
	for range 3 {
		h.server.Down()
		h.stop()
		h.conf.Inherited = kept.hand(t)
		if len(h.conf.Inherited) < 2 {
			t.Fatalf("kept %d sockets, want UDP and TCP", len(h.conf.Inherited))
		}

		h.begin()
		h.until("the agent is back", func(api.Status) bool { return true })
		h.server.Up()
	}

	a.stop()
	<-a.done
	if a.answered != a.sent || a.empty > 0 {
		t.Errorf("%d questions were asked, %d answered, %d with nothing", a.sent, a.answered, a.empty)
	}

	h.stop()
}

// TestD39StoreHoldsTheOpenSockets and no others.
func TestD39StoreHoldsTheOpenSockets(t *testing.T) {
	kept := &systemd{kept: map[string]*os.File{}}
	kept.listen(t)
	s := newStore(nil)
	open := map[string]*os.File{}
	each := func(f func(name string, fd uintptr) error) error {
		for name, file := range open {
			err := f(name, file.Fd())
			if err != nil {
				return err
			}
		}

		return nil
	}
	add := func(name string) {
		file, err := os.CreateTemp(t.TempDir(), "socket")
		if err != nil {
			t.Fatal(err)
		}

		open[name] = file
		t.Cleanup(func() { file.Close() })
	}
	holds := func(want ...string) {
		t.Helper()
		err := s.sync(each)
		if err != nil {
			t.Fatal(err)
		}

		deadline := time.Now().Add(10 * time.Second)
		for {
			kept.mu.Lock()
			same := len(kept.kept) == len(want)
			for _, name := range want {
				same = same && kept.kept[name] != nil && identify(kept.kept[name].Fd()) == identify(open[name].Fd())
			}
			kept.mu.Unlock()
			if same {
				return
			}

			if time.Now().After(deadline) {
				t.Fatalf("the store is not %v", want)
			}

			time.Sleep(time.Millisecond)
		}
	}
	add("dns-udp-1")
	add("dns-udp-2")
	holds("dns-udp-1", "dns-udp-2")
	add("dns-udp-1")
	holds("dns-udp-1", "dns-udp-2")
	delete(open, "dns-udp-2")
	holds("dns-udp-1")
}

func freePort(t *testing.T, at netip.Addr) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}
