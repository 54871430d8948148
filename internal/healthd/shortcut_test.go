package healthd

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// answers is a server that reads something and says something.
func answers(t *testing.T, says string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = conn.Read(make([]byte, 100))
				_, _ = io.WriteString(conn, says)
			}()
		}
	}()
	return portOf(t, l.Addr())
}

func TestX3RedisProbe(t *testing.T) {
	for _, c := range []struct {
		says string
		p    health.Probe
		want health.Verdict
		out  string
	}{
		{"+PONG\r\n", health.Probe{}, health.Passed, "PONG"},
		{"-NOAUTH Authentication required.\r\n", health.Probe{}, health.Passed, "NOAUTH"},
		{"-NOAUTH Authentication required.\r\n", health.Probe{Body: "PONG"}, health.Failed, "does not contain"},
		{"+OK\r\n+PONG\r\n", health.Probe{Password: "x", Body: "PONG"}, health.Passed, "PONG"},
		{"HTTP/1.1 400 Bad Request\r\n", health.Probe{}, health.Failed, "no redis"},
		{"", health.Probe{}, health.Failed, "no answer"},
	} {
		c.p.Type, c.p.Port = "redis", answers(t, c.says)
		r := probed(t, loopback, c.p, time.Second)
		if r.Verdict != c.want || !strings.Contains(r.Output, c.out) {
			t.Errorf("%q: %s: %s", c.says, r.Verdict, r.Output)
		}
	}
}

func TestX3PostgresProbe(t *testing.T) {
	failure := func(code string) string {
		fields := "SFATAL\x00C" + code + "\x00Mno\x00\x00"
		return fmt.Sprintf("E\x00\x00\x00%c%s", len(fields)+4, fields)
	}
	for says, want := range map[string]health.Verdict{
		"R\x00\x00\x00\x08\x00\x00\x00\x0a": health.Passed,
		failure("28000"):                    health.Passed, // nobody is let in, but the server is up
		failure("57P03"):                    health.Failed, // it starts
		"HTTP/1.1 400 Bad Request\r\n":      health.Failed,
		"":                                  health.Failed,
		"E\xff\xff\xff\xff":                 health.Failed,
	} {
		r := probed(t, loopback, health.Probe{Type: "postgres", Port: answers(t, says)}, time.Second)
		if r.Verdict != want {
			t.Errorf("%q: %s: %s", says, r.Verdict, r.Output)
		}
	}
}

func TestX3RedirectionsAreFollowedOnTheSameServerOnly(t *testing.T) {
	same := answers(t, "HTTP/1.1 302 Found\r\nLocation: http://localhost:81/x\r\nContent-Length: 0\r\n\r\n")
	other := answers(t, "HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n")
	for port, want := range map[int]string{same: "the status is 302", other: "it redirects to another server"} {
		p := health.Probe{Type: "http", Port: port, Follow: true, Host: "localhost:81"}
		r := probed(t, loopback, p, time.Second)
		if port == same && r.Verdict == health.Passed { // the loop ends at the limit, with the last answer
			continue
		}
		if r.Verdict == health.Passed || !strings.Contains(r.Output, want) {
			t.Errorf("it says %s: %s", r.Verdict, r.Output)
		}
	}
}

// A shortcut's pass counts; its failure is the command's to confirm, and one that is always wrong is given up.
func TestX3AFailedShortcutIsConfirmedByTheCommand(t *testing.T) {
	srv := incustest.New(incustest.Options{})
	t.Cleanup(srv.Close)
	srv.StoreImage("default", incustest.Image{Fingerprint: fp}, false)
	c := incus.New(incus.Options{Dial: srv.Dial})
	for _, op := range []plan.Op{
		plan.CreateProject{Name: "blog", Config: map[string]string{"features.images": "false"}},
		plan.CreateInstance{Name: "web", Fingerprint: fp, Start: true, Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}}},
	} {
		err := c.Do(t.Context(), "blog", op)
		if err != nil {
			t.Fatal(err)
		}
	}
	var execs, code atomic.Int64
	srv.SetProgram("blog", "web", func(context.Context, api.InstanceExecPost) (int, string, error) {
		execs.Add(1)
		return int(code.Load()), "", nil
	})
	up, p := web(t, false), newProber(c)
	inst := health.Instance{ID: health.ID{Project: "blog", Name: "web"}, Devices: loopback, Started: time.Unix(1, 0)}
	check := func(path string, want health.Verdict, ran int64) {
		t.Helper()
		execs.Store(0)
		spec := health.Spec{Test: []string{"CMD", "curl"}, Timeout: 5 * time.Second, Shortcut: &health.Probe{Type: "http", Port: up, Path: path}}
		r, _ := p.Probe(t.Context(), inst, spec)
		if r.Verdict != want || execs.Load() != ran {
			t.Fatalf("%s: it %s with %d commands: %s", path, r.Verdict, execs.Load(), r.Output)
		}
	}
	check("/200", health.Passed, 0)
	p.guest = true // whose way costs what a command does
	check("/200", health.Passed, 1)
	p.guest = false
	code.Store(1)
	for range 2 * shortcutTries {
		check("/500", health.Failed, 1) // both agree: it stays in use
	}
	check("/200", health.Passed, 0)
	code.Store(0)
	for range shortcutTries {
		check("/500", health.Passed, 1) // the command knows better
	}
	check("/200", health.Passed, 1) // given up for this run
	inst.Started = time.Unix(2, 0)
	check("/200", health.Passed, 0)
}
