package healthd

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/incus-compose/ic-agent/internal/health"
)

var loopback = map[string]map[string]string{
	"eth0": {"type": "nic", "ipv4.address": "127.0.0.1/8"}, "root": {"type": "disk", "ipv4.address": "10.0.0.1"},
}

func portOf(t *testing.T, addr net.Addr) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr.String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(p)
	return n
}

// web is a server whose answer is the number in the path.
func web(t *testing.T, secure bool) int {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if r.URL.Path == "/stream" {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		if err != nil {
			code = http.StatusBadRequest
		}
		if code == 302 {
			w.Header().Set("Location", "/500")
		}
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, r.Header.Get("X-Key"))
	}))
	if secure {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return portOf(t, srv.Listener.Addr())
}

// probed makes a probe of what listens on this machine.
func probed(t *testing.T, devices map[string]map[string]string, p health.Probe, timeout time.Duration) health.Result {
	t.Helper()
	return prober{}.fromHost(t.Context(), health.Instance{Devices: devices}, p, timeout)
}

func TestX3HTTPProbe(t *testing.T) {
	plain, secure := web(t, false), web(t, true)
	for _, c := range []struct {
		name string
		p    health.Probe
		want health.Verdict
		says string
	}{
		{"200 passes", health.Probe{Path: "/200"}, health.Passed, "200 OK"},
		{"a redirection passes, and is not followed", health.Probe{Path: "/302"}, health.Passed, "302"},
		{"404 fails", health.Probe{Path: "/404"}, health.Failed, "the status is 404"},
		{"500 fails", health.Probe{Path: "/500"}, health.Failed, "the status is 500"},
		{"404 where it is expected", health.Probe{Path: "/404", Status: 404}, health.Passed, "404"},
		{"200 where another is expected", health.Probe{Path: "/200", Status: 204}, health.Failed, "not 204"},
		{"method, host and headers", health.Probe{Path: "/200", Method: "POST", Host: "a.example", Headers: map[string]string{"X-Key": "k"}, Body: "POST a.example k"}, health.Passed, ""},
		{"a body that is not there", health.Probe{Path: "/200", Body: "absent"}, health.Failed, `does not contain "absent"`},
		{"TLS", health.Probe{Path: "/200", TLS: true, Port: secure}, health.Passed, ""},
		{"TLS that cannot be trusted", health.Probe{Path: "/200", TLS: true, Verify: true, Port: secure}, health.Failed, "certificate"},
		{"a stream without an end", health.Probe{Path: "/stream"}, health.Passed, "200 OK"},
		{"no answer in time", health.Probe{Path: "/hang"}, health.TimedOut, "exceeded timeout (300ms)"},
		{"nobody there", health.Probe{Path: "/200", Port: 1}, health.Failed, "refused"},
		{"no such NIC", health.Probe{Path: "/200", Device: "eth9"}, health.NoAnswer, "no static address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.Type = "http"
			if c.p.Port == 0 {
				c.p.Port = plain
			}
			timeout := 20 * time.Second
			if c.want == health.TimedOut {
				timeout = 300 * time.Millisecond
			}
			r := probed(t, loopback, c.p, timeout)
			if r.Verdict != c.want || !strings.Contains(r.Output, c.says) {
				t.Errorf("%s, %q", r.Verdict, r.Output)
			}
		})
	}
}

func TestX3TCPProbe(t *testing.T) {
	r := probed(t, loopback, health.Probe{Type: "tcp", Port: web(t, false)}, 20*time.Second)
	if r.Verdict != health.Passed {
		t.Errorf("%+v", r)
	}
	r = probed(t, loopback, health.Probe{Type: "tcp", Port: 1}, 20*time.Second)
	if r.Verdict != health.Failed || r.Code != 1 {
		t.Errorf("%+v", r)
	}
}

func TestX3GRPCProbe(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" {
			http.Error(w, "no gRPC", http.StatusBadRequest)
			return
		}
		frame := make([]byte, 64)
		n, _ := r.Body.Read(frame)
		service := ""
		if n > 7 {
			service = string(frame[7:n])
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		status := map[string]byte{"": 1, "up": 1, "down": 2}[service]
		if status == 0 {
			w.Header().Set("Grpc-Status", "5")
			return
		}
		msg := []byte{1 << 3, status}
		_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...))
		w.Header().Set("Grpc-Status", "0")
	}))
	srv.Config.Protocols = &http.Protocols{}
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	port := portOf(t, srv.Listener.Addr())
	for service, want := range map[string]string{"": "SERVING", "up": "SERVING", "down": "not SERVING", "other": `gRPC status "5"`} {
		r := probed(t, loopback, health.Probe{Type: "grpc", Port: port, Service: service}, 20*time.Second)
		if !strings.Contains(r.Output, want) || (r.Verdict == health.Passed) != (want == "SERVING") {
			t.Errorf("%q: %+v", service, r)
		}
	}
	r := probed(t, loopback, health.Probe{Type: "grpc", Port: web(t, false)}, 20*time.Second)
	if r.Verdict != health.Failed {
		t.Errorf("a server without gRPC: %+v", r)
	}
}

func TestX3DNSProbe(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name != "up.example." {
			m.Rcode = dns.RcodeNameError
		} else if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = srv.ActivateAndServe() }()
	t.Cleanup(func() { _ = srv.Shutdown() })
	port := portOf(t, pc.LocalAddr())
	for name, want := range map[string]health.Verdict{"up.example": health.Passed, "down.example": health.Failed} {
		r := probed(t, loopback, health.Probe{Type: "dns", Port: port, Name: name}, 20*time.Second)
		if r.Verdict != want {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestH32WhatIsKept(t *testing.T) {
	s := store{t.TempDir()}
	all, err := s.load()
	if err != nil || all != nil {
		t.Fatalf("a new directory: %v, %v", all, err)
	}
	want := map[health.ID]health.Saved{
		{Project: "blog", Name: "web-1"}: {Status: health.Healthy, Run: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Manual: "root", Count: 2},
	}
	err = s.save(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	whole, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{
		"cut":              string(whole[:len(whole)/2]),
		"a changed number": strings.Replace(string(whole), `"count":2`, `"count":3`, 1),
		"empty":            "",
		"newer":            strings.Replace(string(whole), `"version":1`, `"version":9`, 1),
	} {
		err := os.WriteFile(s.path(), []byte(b), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.load()
		if err == nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		aside, _ := filepath.Glob(s.path() + ".*")
		if len(aside) == 0 {
			t.Errorf("%s: not put aside", name)
		}
		got, err = s.load()
		if err != nil || got != nil {
			t.Errorf("%s: the next start: %v, %v", name, got, err)
		}
	}
}

func TestH24ASecondDaemonStandsBy(t *testing.T) {
	s := store{t.TempDir()}
	unlock, err := s.lock(t.Context(), func() { t.Error("the first had to wait") })
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.lock(t.Context(), unlock) // it is told to wait, and then the first ends
	if err != nil {
		t.Fatal(err)
	}
}

func TestPressure(t *testing.T) {
	dir := t.TempDir()
	p := pressure{dir: dir}
	if p.look() {
		t.Error("a kernel that does not tell is starved")
	}
	for _, c := range []struct {
		file, text string
		want       bool
	}{
		{"cpu", "some avg10=99.00 avg60=1.00 avg300=1.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", true},
		{"cpu", "some avg10=50.00 avg60=99.00 avg300=1.00 total=1\n", false},
		{"io", "some avg10=99.00 avg60=1.00 avg300=1.00 total=1\nfull avg10=20.00 avg60=0.00 avg300=0.00 total=0\n", false},
		{"io", "some avg10=99.00 avg60=1.00 avg300=1.00 total=1\nfull avg10=60.00 avg60=0.00 avg300=0.00 total=0\n", true},
	} {
		err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if p.look() != c.want {
			t.Errorf("%s %q: %v", c.file, c.text, !c.want)
		}
	}
}
