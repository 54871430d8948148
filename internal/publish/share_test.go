package publish

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counted asks a port so often, one time after the other with idle connections beside them, and counts who answered.
func counted(t *testing.T, f *Forwarder, p Port, times, idle int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range times {
		got, err := ask(t, p, "x")
		if err != nil {
			t.Fatal(err)
		}

		name, _, _ := strings.Cut(got, " ")
		out[name]++
		waitFlows(t, f, p, idle) // the one that has just ended counts no more
	}

	return out
}

func TestConnectionsAreSharedAndTheDeadPassedOver(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p, dead := freePort(t, "tcp"), freePort(t, "tcp")
	one, two := answerer(t, "one"), answerer(t, "two")
	f.Set(t.Context(), map[Port]Service{p: to(one, two, netip.AddrPortFrom(dead.Addr, dead.Number))})
	got := counted(t, &f, p, 30, 0)
	if got["one"] != 15 || got["two"] != 15 {
		t.Errorf("shared as %v", got)
	}

	f.Set(t.Context(), map[Port]Service{p: to(two)})
	if got := counted(t, &f, p, 5, 0); got["two"] != 5 {
		t.Errorf("one is no target any more, and still: %v", got)
	}
}

func TestBusyTargetGetsFewerConnections(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p := freePort(t, "tcp")
	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "one"), answerer(t, "two"))})
	// Connections that stay open go by turns; then both have one, and one more makes them unequal.
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("tcp4", netip.AddrPortFrom(p.Addr, p.Number).String())
		if err != nil {
			t.Fatal(err)
		}

		_, _ = io.WriteString(c, "x")
		open = append(open, c)
		waitFlows(t, &f, p, len(open))
	}

	got := counted(t, &f, p, 6, len(open))
	if got["one"] != 6 && got["two"] != 6 {
		t.Errorf("the one with fewer connections is not preferred: %v", got)
	}

	for _, c := range open {
		_ = c.Close()
	}
}

// waitFlows waits until the targets of a port carry so many connections.
func waitFlows(t *testing.T, f *Forwarder, p Port, want int) {
	t.Helper()
	for {
		f.mu.Lock()
		total := 0
		for _, x := range f.open[p].pool.Load().targets {
			total += int(x.flows.Load())
		}
		f.mu.Unlock()
		if total == want {
			return
		}

		select {
		case <-t.Context().Done():
			t.Fatal("the connection is not carried")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestConnectionToADrainedTargetIsNotInterrupted(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p := freePort(t, "tcp")
	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "old"))})
	c, err := net.Dial("tcp4", netip.AddrPortFrom(p.Addr, p.Number).String())
	if err != nil {
		t.Fatal(err)
	}

	defer c.Close()

	_, _ = io.WriteString(c, "begun, ")
	waitFlows(t, &f, p, 1)
	f.Set(t.Context(), map[Port]Service{p: to(answerer(t, "new"))})
	f.Set(t.Context(), nil)
	_, _ = io.WriteString(c, "and ended")
	_ = c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil || string(b) != "old heard begun, and ended" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestHeaderTellsTheClient(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p := freePort(t, "tcp")
	f.Set(t.Context(), map[Port]Service{p: {Targets: []netip.AddrPort{answerer(t, "app")}, Header: true}})
	got, err := ask(t, p, "GET /")
	if err != nil || !strings.HasPrefix(got, "app heard PROXY TCP4 127.0.0.1 127.0.0.1 ") || !strings.HasSuffix(got, "\r\nGET /") {
		t.Errorf("%q, %v", got, err)
	}
}

// echo is a UDP app that answers with its name.
func echo(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	app, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = app.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, rerr := app.ReadFromUDPAddrPort(b)
			if rerr != nil {
				return
			}

			_, _ = app.WriteToUDPAddrPort([]byte(name), from)
		}
	}()

	return app.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestUDPClientStaysWithItsTargetUntilThatGoes(t *testing.T) {
	var f Forwarder
	defer f.Close()

	p := freePort(t, "udp")
	p.Addr = netip.IPv4Unspecified()
	one, two := echo(t, "one"), echo(t, "two")
	f.Set(t.Context(), map[Port]Service{p: to(one, two)})
	// A client on another of the host's addresses hears from that one.
	c, err := net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), p.Number).String())
	if err != nil {
		t.Fatal(err)
	}

	defer c.Close()

	say := func() string {
		t.Helper()
		b := make([]byte, 100)
		for range 100 {
			_, _ = io.WriteString(c, "x")
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			n, rerr := c.Read(b)
			if rerr == nil {
				return string(b[:n])
			}
		}

		t.Fatal("no answer")

		return ""
	}
	first := say()
	for range 5 {
		if got := say(); got != first {
			t.Fatalf("first %s, then %s", first, got)
		}
	}

	other, want := two, "two"
	if first == "two" {
		other, want = one, "one"
	}

	f.Set(t.Context(), map[Port]Service{p: to(other)})
	for say() != want {
		t.Log("an answer under way")
	}
}

// TestSocketsSurviveTheAgent: what connects while nobody accepts is answered by the next agent.
func TestSocketsSurviveTheAgent(t *testing.T) {
	var f Forwarder
	p := freePort(t, "tcp")
	app := to(answerer(t, "app"))
	f.Set(t.Context(), map[Port]Service{p: app})

	var kept []*os.File
	err := f.EachSocket(func(name string, fd uintptr) error {
		file, derr := dup(fd, name)
		kept = append(kept, file)
		return derr
	})
	if err != nil {
		t.Fatal(err)
	}

	f.Close()
	answer := make(chan string, 1)
	go func() {
		got, aerr := ask(t, p, "early")
		if aerr != nil {
			got = aerr.Error()
		}
		answer <- got
	}()

	var next Forwarder
	defer next.Close()

	stranger, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}

	defer stranger.Close()

	if rest := next.Adopt(append(kept, stranger)); len(rest) != 1 || rest[0] != stranger {
		t.Errorf("not ours, and kept: %v", rest)
	}

	if !next.Holds(p) {
		t.Error("the port is taken for a stranger's")
	}

	next.Set(t.Context(), nil) // nothing is known yet
	next.Set(t.Context(), map[Port]Service{p: app})
	if got := <-answer; got != "app heard early" {
		t.Errorf("%q", got)
	}

	next.Set(t.Context(), nil)
	_, err = ask(t, p, "late")
	if err == nil {
		t.Error("a port that is gone still answers")
	}
}

func dup(fd uintptr, name string) (*os.File, error) {
	n, err := unix.Dup(int(fd))

	return os.NewFile(uintptr(n), name), err
}
