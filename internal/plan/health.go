package plan

import (
	"encoding/json"
	"strconv"
	"time"
)

// Keys of the health protocol, which is lxc/incus-compose's. KeyHealthDetail is ours and, like the status, written by
// the health daemon alone.
const (
	keyHealthTest    = "user.healthcheck.test"
	keyHealthEnabled = "user.healthcheck.enabled"
	keyHealthPrefix  = "user.healthcheck."
	keyOnUnhealthy   = "user.ic-agent.on-unhealthy"
	KeyHealthDetail  = "user.healthcheck.detail"
)

// inheritHealth gives a service the image's HEALTHCHECK where its file has no test of its own and does not refuse
// it; times that the file sets win (compose-spec "healthcheck").
func inheritHealth(c map[string]string, s Service, img Image) {
	h := img.Healthcheck
	if h == nil || s.NoHealthcheck || c[keyHealthTest] != "" || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return
	}

	test, err := json.Marshal(h.Test)
	if err != nil {
		return // strings always marshal
	}

	c[keyHealthTest], c[keyHealthEnabled] = string(test), "true"
	for name, d := range map[string]time.Duration{
		"interval": h.Interval, "timeout": h.Timeout, "start_period": h.StartPeriod, "start_interval": h.StartInterval,
	} {
		_, set := c[keyHealthPrefix+name]
		if d > 0 && !set {
			c[keyHealthPrefix+name] = d.String()
		}
	}

	_, set := c[keyHealthPrefix+"retries"]
	if h.Retries > 0 && !set {
		c[keyHealthPrefix+"retries"] = strconv.Itoa(h.Retries)
	}
}

// exitCode is how an instance's program ended last, where the health daemon saw it.
func exitCode(have ObservedInstance) (code int, known bool) {
	exit := healthDetail(have).Exit
	if exit == nil {
		return 0, false
	}

	return *exit, true
}
