package health

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Probe is a check made from the host; plan has its one definition, which compose files and this package share.
type Probe = plan.Probe

func parseProbe(text string) (*Probe, error) {
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	var p Probe
	err := dec.Decode(&p)
	if err != nil {
		return nil, fmt.Errorf(`write JSON such as {"type":"http","port":80,"path":"/"} (%w)`, err)
	}

	if p.Port < 0 || p.Port > 65535 {
		return nil, errors.New("write a port from 1 to 65535")
	}

	switch p.Type {
	case "http":
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			return nil, errors.New("begin the path with /")
		}
	case "tcp", "grpc":
		if p.Port == 0 {
			return nil, errors.New("write a port")
		}
	case "redis", "postgres":
	case "dns":
		if p.Name == "" {
			return nil, errors.New("write the name to ask for")
		}
	default:
		return nil, errors.New("write the type http, tcp, grpc, dns, redis or postgres")
	}

	return &p, nil
}

// sameProbe tells whether two ask for the same.
func sameProbe(p, o Probe) bool {
	if !maps.Equal(p.Headers, o.Headers) {
		return false
	}

	p.Headers, o.Headers = nil, nil

	return mustJSON(p) == mustJSON(o)
}
