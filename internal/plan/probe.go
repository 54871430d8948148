package plan

import (
	"fmt"
	"strings"
	"time"
)

// Probe is a check made from the host into the instance's network: it needs no program in the instance. Its JSON is
// what the health daemon reads in "user.ic-agent.probe", for example {"type":"http","port":8080,"path":"/healthz"}.
type Probe struct {
	// Type is "tcp" (a connection is accepted), "http" (a request is answered), "grpc" (grpc.health.v1 says
	// SERVING), "dns" (a name resolves), "redis" (PING is answered) or "postgres" (it takes connections); in a file
	// also "auto" alone: what the healthcheck's command would do, where the health daemon knows its form.
	Type string `json:"type"`
	// Port is the port in the instance; 0 means 80 for http, 443 with TLS, 53 for dns, 6379 for redis, 5432
	// for postgres; tcp and grpc need it.
	Port int `json:"port,omitempty"`
	// Path is the path and query of an http request; empty means "/".
	Path string `json:"path,omitempty"`
	// Method is the http method; empty means GET.
	Method string `json:"method,omitempty"`
	// Host is the Host header, and the name asked for in TLS; empty means the address.
	Host string `json:"host,omitempty"`
	// Headers are sent with an http request.
	Headers map[string]string `json:"headers,omitempty"`
	// Status is the http status expected; 0 means any from 200 to 399. Any takes every status, and Follow goes
	// where a redirection says, up to five times, as long as that is the same instance and port.
	Status int  `json:"status,omitempty"`
	Any    bool `json:"any,omitempty"`
	Follow bool `json:"follow,omitempty"`
	// Body is a text the first 64 KiB of an http or redis answer must contain; empty means none.
	Body string `json:"body,omitempty"`
	// TLS asks for TLS under http, tcp and grpc. The certificate is not verified unless Verify is set.
	TLS    bool `json:"tls,omitempty"`
	Verify bool `json:"verify,omitempty"`
	// Service is the service's name for grpc; empty means the server as a whole.
	Service string `json:"service,omitempty"`
	// Name is what dns asks for.
	Name string `json:"name,omitempty"`
	// Password is what redis is told before; empty means nothing.
	Password string `json:"password,omitempty"`
	// Within is a limit closer than the check's timeout, as a command names it; 0 means none.
	Within time.Duration `json:"-"`
	// Device is the NIC whose address is used; empty means the first with a static address.
	Device string `json:"device,omitempty"`
}

// At is the port to connect to.
func (p Probe) At() int {
	switch {
	case p.Port != 0:
		return p.Port
	case p.Type == "dns":
		return 53
	case p.Type == "redis":
		return 6379
	case p.Type == "postgres":
		return 5432
	case p.TLS:
		return 443
	}

	return 80
}

// Words tells the probe in a few: "http :8080/healthz".
func (p Probe) Words() string {
	s := fmt.Sprintf("%s :%d", p.Type, p.At())
	switch p.Type {
	case "http":
		return s + "/" + strings.TrimPrefix(p.Path, "/")
	case "dns":
		return s + " " + p.Name
	}

	return s
}
