package compose

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// healthKey begins the keys of lxc/incus-compose, agentKey those that the health daemon knows beyond them.
const (
	healthKey = "user.healthcheck."
	agentKey  = "user.ic-agent."
)

// healthcheck writes the keys lxc/incus-compose writes, in its formats. A disabled check writes none.
func (s *service) healthcheck() {
	h := s.in.HealthCheck
	if h == nil {
		return
	}

	if h.Disable {
		s.out.NoHealthcheck = true
		return
	}

	if len(h.Test) > 0 {
		switch h.Test[0] {
		case "NONE":
			s.out.NoHealthcheck = true
			return
		case "CMD", "CMD-SHELL":
		default:
			s.refuse("healthcheck.test", fmt.Sprintf("begins with %q", h.Test[0]), `begin the list with "CMD" or "CMD-SHELL", or write one line of text`)
			return
		}

		if len(h.Test) == 1 || strings.Join(h.Test[1:], "") == "" {
			s.refuse("healthcheck.test", "has no command", `write ["CMD", "program", "argument"]`)
			return
		}

		test, err := json.Marshal(h.Test)
		if err != nil {
			s.refuse("healthcheck.test", err.Error(), "write a list of words")
			return
		}

		s.out.Config[healthKey+"test"] = string(test)
		s.out.Config[healthKey+"enabled"] = "true"
	}

	s.healthTimes(h)
}

func (s *service) healthTimes(h *types.HealthCheckConfig) {
	for _, d := range []struct {
		name  string
		value *types.Duration
		least time.Duration
	}{
		{"interval", h.Interval, 100 * time.Millisecond},
		{"timeout", h.Timeout, time.Millisecond},
		{"start_period", h.StartPeriod, 0},
		{"start_interval", h.StartInterval, 100 * time.Millisecond},
	} {
		if d.value == nil || *d.value == 0 {
			continue
		}

		v := time.Duration(*d.value)
		if v < d.least || v > 24*time.Hour {
			s.refuse("healthcheck."+d.name, fmt.Sprintf("%s is out of bounds", v), fmt.Sprintf("write a duration from %s to 24h", d.least))
			continue
		}

		s.out.Config[healthKey+d.name] = v.String()
	}

	if h.Retries != nil && *h.Retries > 0 {
		s.out.Config[healthKey+"retries"] = strconv.FormatUint(*h.Retries, 10)
	}

	if h.StartInterval != nil && h.StartPeriod == nil {
		s.warn("healthcheck.start_interval", "has no effect without start_period")
	}
}

// healthExtension writes what x-ic-agent says about health.
func (s *service) healthExtension() {
	x := s.out.ServiceExtension
	switch {
	case x.Probe == nil:
	case s.out.NoHealthcheck:
		s.warn(extAgent+".probe", "has no effect: healthcheck is disabled")
	case x.Probe.Type == "auto":
		s.out.Config[agentKey+"probe"] = "auto"
	default:
		probe, err := json.Marshal(x.Probe)
		if err != nil {
			s.refuse(extAgent+".probe", err.Error(), "write {http: {port: 8080}}")
			return
		}

		s.out.Config[agentKey+"probe"] = string(probe)
		s.out.Config[healthKey+"enabled"] = "true"
	}

	if x.OnUnhealthy != "" {
		s.out.Config[agentKey+"on-unhealthy"] = x.OnUnhealthy
	}

	if x.Stretch > 1 {
		s.out.Config[agentKey+"probe-stretch"] = strconv.Itoa(x.Stretch)
	}

	if x.SuccessThreshold > 1 {
		s.out.Config[agentKey+"probe-successes"] = strconv.Itoa(x.SuccessThreshold)
	}
}
