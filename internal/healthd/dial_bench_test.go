package healthd

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// BenchmarkHostProbe is the processor time of a check from the host, with that of a server that does next to nothing.
func BenchmarkHostProbe(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				_ = req.Body.Close()
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			}
			_ = c.Close()
		}
	}()
	for _, kind := range []string{"tcp", "http"} {
		b.Run(kind, func(b *testing.B) {
			used := func() time.Duration {
				var u syscall.Rusage
				err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
				if err != nil {
					b.Fatal(err)
				}
				return time.Duration(u.Utime.Nano() + u.Stime.Nano())
			}
			i := health.Instance{Devices: loopback}
			p := health.Probe{Type: kind, Port: l.Addr().(*net.TCPAddr).Port}
			before := used()
			b.ReportAllocs()
			for b.Loop() {
				r := prober{}.fromHost(b.Context(), i, p, time.Second)
				if r.Verdict != health.Passed {
					b.Fatal(r.Output)
				}
			}
			b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
