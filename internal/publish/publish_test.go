package publish

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func to(targets ...netip.AddrPort) Service { return Service{Targets: targets} }

// freePort finds a port that nobody has.
func freePort(t *testing.T, protocol string) Port {
	t.Helper()
	if protocol == "udp" {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}

		defer c.Close()

		return Port{protocol, loopback, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	}

	c, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer c.Close()

	return Port{protocol, loopback, c.Addr().(*net.TCPAddr).AddrPort().Port()}
}

// answerer is an instance's app: it reads until the caller has said all and answers with its name and that.
func answerer(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, aerr := l.Accept()
			if aerr != nil {
				return
			}

			go func() {
				b, _ := io.ReadAll(c)
				_, _ = io.WriteString(c, name+" heard "+string(b))
				_ = c.Close()
			}()
		}
	}()

	return l.Addr().(*net.TCPAddr).AddrPort()
}

func ask(t *testing.T, p Port, text string) (string, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Number).String(), 5*time.Second)
	if err != nil {
		return "", err
	}

	defer c.Close()

	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.WriteString(c, text)
	if err != nil {
		return "", err
	}

	err = c.(*net.TCPConn).CloseWrite()
	if err != nil {
		return "", err
	}

	b, err := io.ReadAll(c)

	return string(b), err
}

func TestTCPIsCarriedBothWaysAndToANewTarget(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p := freePort(t, "tcp")
	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "first"))})
	long := strings.Repeat("x", 1<<20)
	got, err := ask(t, p, long)
	if err != nil || got != "first heard "+long {
		t.Fatalf("%d bytes, %v", len(got), err)
	}

	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "second"))})
	got, err = ask(t, p, "a")
	if err != nil || got != "second heard a" {
		t.Fatalf("%q, %v", got, err)
	}

	if !f.Holds(p) {
		t.Error("it does not know its own port")
	}

	f.Set(t.Context(), nil)
	_, err = ask(t, p, "a")
	if err == nil || f.Holds(p) {
		t.Error("a port that is gone still answers")
	}
}

func TestDeadTargetIsARefusedConnection(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p, dead := freePort(t, "tcp"), freePort(t, "tcp")
	f.Set(t.Context(), map[Port]Service{p: to(netip.AddrPortFrom(dead.Addr, dead.Number))})
	got, err := ask(t, p, "a")
	if err == nil {
		t.Errorf("answered %q", got)
	}
}

func TestUDPAnswersFindBack(t *testing.T) {
	app, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}

	defer app.Close()

	go func() {
		b := make([]byte, 100)
		for {
			n, from, rerr := app.ReadFromUDPAddrPort(b)
			if rerr != nil {
				return
			}

			_, _ = app.WriteToUDPAddrPort(append([]byte("heard "), b[:n]...), from)
		}
	}()

	var f Forwarder
	defer f.Close()

	p := freePort(t, "udp")
	f.Set(t.Context(), map[Port]Service{p: to(app.LocalAddr().(*net.UDPAddr).AddrPort())})
	for _, text := range []string{"one", "two"} {
		c, derr := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Number).String())
		if derr != nil {
			t.Fatal(derr)
		}

		_, _ = io.WriteString(c, text)
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 100)
		n, rerr := c.Read(b)
		if rerr != nil || string(b[:n]) != "heard "+text {
			t.Errorf("%q, %v", b[:n], rerr)
		}

		_ = c.Close()
	}
}

func TestTakenPortIsSaidAndLeft(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	defer l.Close()

	var f Forwarder
	defer f.Close()

	p := Port{"tcp", loopback, l.Addr().(*net.TCPAddr).AddrPort().Port()}
	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "app"))})
	problems := f.Problems()
	if len(problems) != 1 || !strings.Contains(problems[0], "another program has it") || f.Holds(p) {
		t.Errorf("problems: %q", problems)
	}

	f.Set(t.Context(), nil)
	if n := len(f.Problems()); n != 0 {
		t.Errorf("%d problems about a port nobody wants", n)
	}
}

// TestNoConnectionIsLostOverARestart: one forwarder after the other has the socket, and who connects in between waits.
func TestNoConnectionIsLostOverARestart(t *testing.T) {
	p := freePort(t, "tcp")
	want := map[Port]Service{p: to(answerer(t, "app"))}
	f := &Forwarder{}
	f.Set(t.Context(), want)
	over, asked := make(chan struct{}), make(chan error)
	for range 4 {
		go func() {
			for {
				select {
				case <-over:
					asked <- nil
					return
				default:
				}

				_, err := ask(t, p, "a")
				if err != nil {
					asked <- err
					return
				}
			}
		}()
	}

	for range 200 {
		var kept []*os.File
		err := f.EachSocket(func(name string, fd uintptr) error {
			twin, err := syscall.Dup(int(fd))
			kept = append(kept, os.NewFile(uintptr(twin), name))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}

		f.Close()
		f = &Forwarder{}
		f.Adopt(kept)
		f.Set(t.Context(), want)
	}

	close(over)
	for range 4 {
		err := <-asked
		if err != nil {
			t.Error(err)
		}
	}

	f.Close()
}
