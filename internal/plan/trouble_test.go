package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestTroubles(t *testing.T) {
	started, run := map[string]string{"web-1": "x"}, time.Unix(1000, 0)
	exits := func(code int) map[string]plan.Exit {
		return map[string]plan.Exit{"web-1": {Run: run, Code: code, Known: true}}
	}
	const log = `"incus console --show-log web-1 --project blog" shows what it said`
	for _, c := range []struct {
		name   string
		status plan.Status
		config map[string]string
		led    plan.Ledger
		want   string
	}{
		{"running", plan.Running, nil, plan.Ledger{Started: started}, ""},
		{"healthy", plan.Running, map[string]string{plan.KeyHealthStatus: "healthy"}, plan.Ledger{Started: started}, ""},
		{
			"unhealthy", plan.Running,
			map[string]string{plan.KeyHealthStatus: "unhealthy", plan.KeyHealthDetail: `{"output": "refused"}`},
			plan.Ledger{Started: started},
			"Unhealthy: its check fails: refused (ic-healthd probe blog/web-1 shows the whole of it)",
		},
		{"not started yet", plan.Stopped, nil, plan.Ledger{}, ""},
		{
			"stopped by hand", plan.Stopped,
			map[string]string{"user.healthcheck.restart": "always"},
			plan.Ledger{Started: started, Stops: map[string]plan.Stop{"web-1": {By: "root"}}},
			"",
		},
		{
			"always, ended well", plan.Stopped,
			map[string]string{"user.healthcheck.restart": "always"},
			plan.Ledger{Started: started, Exits: exits(0)},
			"Down: it ended with 0 (restart: always; \"ic-healthd status\" tells what comes next); " + log,
		},
		{
			"always, nobody saw how", plan.Stopped,
			map[string]string{"user.healthcheck.restart": "always"},
			plan.Ledger{Started: started},
			"Down: it ended, nobody saw how (restart: always; \"ic-healthd status\" tells what comes next); " + log,
		},
		{"on-failure, ended well", plan.Stopped, map[string]string{"user.healthcheck.restart": "on-failure:3"}, plan.Ledger{Started: started, Exits: exits(0)}, ""},
		{
			"on-failure", plan.Stopped,
			map[string]string{"user.healthcheck.restart": "on-failure:3"},
			plan.Ledger{Started: started, Exits: exits(3)},
			"Down: it ended with 3 (restart: on-failure:3; \"ic-healthd status\" tells what comes next); " + log,
		},
		{
			"with init", plan.Stopped,
			map[string]string{"raw.lxc": "lxc.signal.halt = SIGTERM\n", "oci.entrypoint": "/no/such arg"},
			plan.Ledger{Started: started, Exits: exits(255)},
			"Ended: it ended with 255, which with \"init: true\" also means that the program /no/such does not exist or cannot be run: " +
				"look at entrypoint, command and the image (without init the reason is told); " + log,
		},
		{
			"255 without init", plan.Stopped,
			map[string]string{"raw.lxc": "lxc.execute.cmd =\nlxc.init.cmd = /app\nlxc.signal.halt = SIGTERM\n"},
			plan.Ledger{Started: started, Exits: exits(255)},
			"Ended: it ended with 255; " + log,
		},
		{"a job done", plan.Stopped, nil, plan.Ledger{Started: started, Exits: exits(0)}, ""},
		{"a job failed", plan.Stopped, nil, plan.Ledger{Started: started, Exits: exits(3)}, "Ended: it ended with 3; " + log},
		{
			"a job failed, as the health daemon saw", plan.Stopped,
			map[string]string{plan.KeyHealthDetail: `{"exit": 4}`},
			plan.Ledger{Started: started},
			"Ended: it ended with 4; " + log,
		},
		{
			"the exit of another run", plan.Stopped, nil,
			plan.Ledger{Started: started, Exits: map[string]plan.Exit{"web-1": {Run: run.Add(time.Hour), Code: 3, Known: true}}},
			"",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan.Project{Incus: "blog", Services: []plan.Service{{Name: "web", Replicas: 1}}}
			have := plan.Observed{Instances: map[string]plan.ObservedInstance{"web-1": {Status: c.status, Config: c.config, LastUsed: run}}}
			got := ""
			for _, x := range plan.Troubles(p, have, c.led) {
				if x.Object != "instance/web-1" {
					t.Errorf("about %s", x.Object)
				}

				got += fmt.Sprintf("%s: %s", x.Type, x.Text)
			}

			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
