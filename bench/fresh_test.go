//go:build bench

package bench

import (
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// answered is how many addresses a name was answered with, from when on.
type answered struct {
	at time.Time
	n  int
}

// asking asks a server in the lab for a name every few milliseconds, from the lab's own network, and says when the number
// of addresses changes.
func asking(t *testing.T, server, name string) <-chan answered {
	t.Helper()
	made := make(chan net.Conn, 1)
	pid := strings.Split(root(t), "/")[2]
	go func() {
		defer close(made)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, in the lab's network
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			return
		}
		defer ns.Close()
		if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) == nil {
			conn, err := net.Dial("udp", server+":53")
			if err == nil {
				made <- conn
			}
		}
	}()

	conn, ok := <-made
	if !ok {
		t.Fatal("no socket in the lab's network")
	}

	t.Cleanup(func() { conn.Close() })
	changes := make(chan answered, 1000)
	go func() {
		c, last := dns.Conn{Conn: conn}, -1
		for {
			_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
			if c.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)) != nil {
				return
			}

			m, err := c.ReadMsg()
			if err == nil && len(m.Answer) != last {
				last = len(m.Answer)
				changes <- answered{time.Now(), last}
			}

			time.Sleep(3 * time.Millisecond)
		}
	}()

	return changes
}

// until is when a name is first answered with n addresses, in changes not older than since.
func until(t *testing.T, changes <-chan answered, n int, since time.Time) time.Time {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case c := <-changes:
			if c.n == n && c.at.After(since) {
				return c.at
			}
		case <-timer.C:
			t.Fatalf("never %d addresses", n)
		}
	}
}

// TestD15Fresh is the time from Incus's event of a stop or a start to the answer that knows of it.
func TestD15Fresh(t *testing.T) {
	rename(t, root(t), "fresh", "services: {web: {image: busybox, command: [sleep, inf], init: true, scale: 2}}\n")
	settled(t, "fresh")
	gateway, _, _ := strings.Cut(sh(t, "incus network get fresh-default ipv4.address"), "/")
	c, err := incusapi.ConnectIncusUnix(root(t)+"/var/lib/incus/unix.socket", nil)
	if err != nil {
		t.Fatal(err)
	}

	events := listen(t, c, "fresh")
	changes := asking(t, gateway, "web.fresh.incus.")
	until(t, changes, 2, time.Time{})
	for _, step := range []struct {
		call, event string
		n           int
	}{{"stop -f", "instance-stopped", 1}, {"start", "instance-started", 2}} {
		var took []time.Duration
		for range 25 {
			begun := time.Now()
			sh(t, "incus "+step.call+" web-2 --project fresh")
			// A start is known to Incus's list, and so to the answer, before its event comes: then it took nothing.
			event := await(t, events, step.event, "web-2")
			for event.Before(begun) { // that of a call before
				event = await(t, events, step.event, "web-2")
			}

			took = append(took, max(0, until(t, changes, step.n, begun).Sub(event)))
			other := map[string]string{"stop -f": "start", "start": "stop -f"}[step.call]
			begun = time.Now()
			sh(t, "incus "+other+" web-2 --project fresh")
			until(t, changes, 3-step.n, begun)
		}

		if step.n == 1 {
			begun := time.Now()
			sh(t, "incus stop -f web-2 --project fresh")
			until(t, changes, 1, begun)
		}

		slices.Sort(took)
		t.Logf("from the event of %q to the answer: median %s, p95 %s, most %s (goal: p99 of 250 ms)", "incus "+step.call, median(took), took[len(took)*95/100], took[len(took)-1])
	}

	gone(t, "fresh")
}
