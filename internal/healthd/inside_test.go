package healthd

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// A daemon without a network makes its checks through Incus, and what Incus does not bring about says nothing.
func TestX3FromInsideThroughIncus(t *testing.T) {
	onHost(t, func(h *host) {
		var hosts []string
		h.srv.SetApp("blog", "web", incustest.App{Listens: map[int]func(net.Conn){
			80: func(c net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				hosts = append(hosts, req.Host)
				code, more := 200, ""
				switch req.URL.Path {
				case "/ill":
					code = 500
				case "/moved":
					code, more = 302, "Location: /\r\n"
				case "/hang":
					_, _ = c.Read(make([]byte, 1))
				}
				_, _ = fmt.Fprintf(c, "HTTP/1.1 %d x\r\n%sContent-Length: 0\r\n\r\n", code, more)
			},
			6379: func(c net.Conn) { _, _ = c.Read(make([]byte, 64)); _, _ = c.Write([]byte("+PONG\r\n")) },
		}})
		h.create("web", keys())
		p := newProber(h.c)
		p.guest = true
		static := map[string]map[string]string{"eth0": {"type": "nic", "ipv4.address": "10.1.2.3/24"}}
		for _, c := range []struct {
			name    string
			probe   health.Probe
			fault   *incustest.Fault
			verdict health.Verdict
			output  string
		}{
			{"it answers", health.Probe{Type: "http"}, nil, health.Passed, "200"},
			{"it answers that it is ill", health.Probe{Type: "http", Path: "/ill"}, nil, health.Failed, "the status is 500"},
			{"a redirection takes another connection", health.Probe{Type: "http", Path: "/moved", Follow: true}, nil, health.Passed, "200"},
			{"it says nothing", health.Probe{Type: "http", Path: "/hang"}, nil, health.TimedOut, "exceeded timeout (5s)"},
			{"redis", health.Probe{Type: "redis", Body: "PONG"}, nil, health.Passed, "PONG"},
			{"nobody listens", health.Probe{Type: "tcp", Port: 81}, nil, health.Failed, "connection refused"},
			{"Incus is slower than the check may be", health.Probe{Type: "http"}, &incustest.Fault{Path: "*/port-forward", Delay: 20 * time.Second}, health.Passed, "200"},
			{"Incus does not answer", health.Probe{Type: "http"}, &incustest.Fault{Path: "*/port-forward", Hang: true}, health.NoAnswer, ""},
			{"Incus fails", health.Probe{Type: "http"}, &incustest.Fault{Path: "*/port-forward", Status: 500, Message: "database is locked"}, health.NoAnswer, "database is locked"},
			{"an older Incus", health.Probe{Type: "http"}, &incustest.Fault{Path: "*/port-forward", Status: 404, Message: "not found"}, health.NoAnswer, "Incus 7.0.2 or newer"},
			{"another NIC than there is", health.Probe{Type: "http", Device: "eth7"}, nil, health.NoAnswer, "no static address"},
		} {
			if c.fault != nil {
				h.srv.Fail(*c.fault)
			}
			inst := health.Instance{ID: health.ID{Project: "blog", Name: "web"}, Devices: static}
			r := p.fromHost(h.Context(), inst, c.probe, 5*time.Second)
			h.srv.Mend()
			if r.Verdict != c.verdict || !strings.Contains(r.Output, c.output) {
				h.Errorf("%s: %s: %s", c.name, r.Verdict, r.Output)
			}
		}
		hosts = nil
		p.guest = false // the host's daemon, and an instance without a static address
		r := p.fromHost(h.Context(), health.Instance{ID: health.ID{Project: "blog", Name: "web"}}, health.Probe{Type: "http"}, time.Second)
		if r.Verdict != health.Passed || len(hosts) != 1 || hosts[0] != "127.0.0.1:80" {
			h.Errorf("without an address: %s: %s, asked as %q", r.Verdict, r.Output, hosts)
		}
		h.do("blog", plan.StopInstance{Name: "web"})
		r = p.fromHost(h.Context(), health.Instance{ID: health.ID{Project: "blog", Name: "web"}}, health.Probe{Type: "http"}, time.Second)
		if r.Verdict != health.NoAnswer {
			h.Errorf("one that does not run: %s: %s", r.Verdict, r.Output)
		}
	})
}
