package compose

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// restart says what the health daemon does when the service ends: deploy.restart_policy where there is one, as
// docker compose does, else restart.
func (s *service) restart() {
	policy := s.in.Restart
	if s.in.Deploy != nil && s.in.Deploy.RestartPolicy != nil {
		policy = s.restartPolicy(*s.in.Deploy.RestartPolicy)
	}

	s.out.Restart = policy
	name, count, limited := strings.Cut(policy, ":")
	n, err := strconv.Atoi(count)
	switch {
	case policy == "":
		return
	case policy == "no":
	case policy == "always", policy == "unless-stopped", policy == "on-failure", limited && name == "on-failure" && err == nil && n > 0:
		s.out.Config[healthKey+"enabled"] = "true"
	default:
		s.refuse("restart", fmt.Sprintf("%q is not a restart policy", policy), `write "no", always, unless-stopped, on-failure or on-failure:3`)
		return
	}

	s.out.Config[healthKey+"restart"] = policy
}

// Keys of the health daemon for what restart cannot say.
const (
	restartDelay    = "user.ic-agent.restart-delay"
	restartAttempts = "user.ic-agent.restart-attempts"
	restartWindow   = "user.ic-agent.restart-window"
)

// restartPolicy reads deploy.restart_policy (compose-spec deploy.md). Besides the conditions of the specification
// it takes the words of restart, as docker compose does.
func (s *service) restartPolicy(c types.RestartPolicy) string {
	const key = "deploy.restart_policy"
	s.restartTime(key+".delay", restartDelay, c.Delay)
	s.restartTime(key+".window", restartWindow, c.Window)
	attempts := ""
	if c.MaxAttempts != nil && *c.MaxAttempts > 0 {
		attempts = strconv.FormatUint(*c.MaxAttempts, 10)
	}

	switch c.Condition {
	case "none", "no":
		return "no"
	case "on-failure":
		if attempts != "" {
			return "on-failure:" + attempts
		}

		return "on-failure"
	case "", "any", "always", "unless-stopped":
		if attempts != "" {
			s.out.Config[restartAttempts] = attempts
		}

		if c.Condition == "unless-stopped" {
			return c.Condition
		}

		return "always"
	}

	s.refuse(key+".condition", fmt.Sprintf("%q is not a condition", c.Condition), "write none, on-failure, any or unless-stopped")

	return ""
}

func (s *service) restartTime(key, option string, d *types.Duration) {
	switch {
	case d == nil || *d == 0:
	case *d < 0 || time.Duration(*d) > 24*time.Hour:
		s.refuse(key, fmt.Sprintf("%s is out of bounds", time.Duration(*d)), "write a duration of at most 24h")
	default:
		s.out.Config[option] = time.Duration(*d).String()
	}
}

// deploy reads what is below deploy and has no row of its own.
func (s *service) deploy() {
	s.mode()
	s.rollouts()
}

// mode reads what deploy says about where replicas run: all on this host.
func (s *service) mode() {
	if s.in.Deploy == nil {
		return
	}

	switch s.in.Deploy.Mode {
	case "", "replicated":
	case "global":
		s.out.Replicas = 1
		if s.in.Deploy.Replicas != nil {
			s.refuse("deploy.mode", "global is one instance on each host, and replicas is set", "remove one of the two")
		}
	default:
		s.refuse("deploy.mode", fmt.Sprintf("%q does not exist here", s.in.Deploy.Mode), `write replicated or global; for a job, restart: "no"`)
	}

	switch s.in.Deploy.EndpointMode {
	case "", "dnsrr":
	case "vip":
		s.warn("deploy.endpoint_mode", "there is no virtual address: the service's name resolves to its healthy replicas, as with dnsrr")
	default:
		s.refuse("deploy.endpoint_mode", fmt.Sprintf("%q does not exist", s.in.Deploy.EndpointMode), "write vip or dnsrr")
	}
}
