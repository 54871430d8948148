//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// healthStatus is what the health daemon wrote on an instance.
func healthStatus(ctx context.Context, project, name string) (string, error) {
	all, err := instances(ctx, project)
	if err != nil {
		return "", err
	}

	return all[name].Config["user.healthcheck.status"], nil
}

// judged waits until an instance has a health status.
func judged(t *testing.T, project, name, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s/%s %s", project, name, want), func(ctx context.Context) error {
		got, err := healthStatus(ctx, project, name)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}

		return err
	})
}

// stays checks for a while that an instance does not leave a state of Incus.
func stays(t *testing.T, project, name, want string) {
	t.Helper()
	end := time.NewTimer(5 * time.Second)
	defer end.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()

	for {
		all, err := instances(t.Context(), project)
		if err != nil || all[name].Status != want {
			t.Fatalf("%s/%s is %q, not %q: %v", project, name, all[name].Status, want, err)
		}

		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// ended waits until an instance is stopped.
func ended(t *testing.T, project, name string) {
	t.Helper()
	eventually(t, name+" stopped", func(ctx context.Context) error {
		all, err := instances(ctx, project)
		if err == nil && all[name].Status != "Stopped" {
			err = fmt.Errorf("it is %q", all[name].Status)
		}

		return err
	})
}

// anew waits until an instance runs as another process than before.
func anew(t *testing.T, project, name string, before map[string]instance) {
	t.Helper()
	eventually(t, name+" runs anew", func(ctx context.Context) error {
		all, err := instances(ctx, project)
		if err == nil && (all[name].Status != "Running" || all[name].State.PID == before[name].State.PID) {
			err = fmt.Errorf("it is %q with pid %d", all[name].Status, all[name].State.PID)
		}

		return err
	})
}

// told says what the health daemon wrote into its journal since a moment of the lab's clock.
func told(t *testing.T, since string) string {
	t.Helper()

	return run(t, "journalctl -u ic-healthd -o cat --no-pager --since=@"+since)
}

func moment(t *testing.T) string {
	t.Helper()

	return run(t, "date +%s.%N")
}

const software = `services:
  cache:
    image: redis:7
    restart: always
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 500ms, timeout: 5s, retries: 2}
  web:
    image: nginx:1.27
    restart: unless-stopped
    healthcheck: {test: ["CMD-SHELL", "test ! -e /dev/shm/ill"], interval: 500ms, timeout: 5s, retries: 2}
  db:
    image: postgres:17
    restart: always
    environment: {POSTGRES_PASSWORD: secret}
    healthcheck: {test: "pg_isready -U postgres", interval: 500ms, timeout: 5s, retries: 3, start_period: 60s, start_interval: 500ms}
`

// Real software is found healthy; unhealthy is reached, healed by a restart, and left.
func TestHealthOfRealSoftware(t *testing.T) {
	drop(t, "soft", software)
	before := running(t, "soft", "cache-1", "web-1", "db-1")
	for _, n := range []string{"cache-1", "web-1", "db-1"} {
		judged(t, "soft", n, "healthy")
	}

	since := moment(t)
	run(t, "incus exec --project soft web-1 -- touch /dev/shm/ill")
	eventually(t, "unhealthy is said", func(context.Context) error {
		if !strings.Contains(told(t, since), "to=unhealthy") {
			return fmt.Errorf("the journal does not say so")
		}

		return nil
	})
	anew(t, "soft", "web-1", before) // and what made it ill is gone
	judged(t, "soft", "web-1", "healthy")
	after, err := instances(t.Context(), "soft")
	if err != nil {
		t.Fatal(err)
	}

	if after["cache-1"].State.PID != before["cache-1"].State.PID || after["db-1"].State.PID != before["db-1"].State.PID {
		t.Error("a healthy neighbour was restarted")
	}
}

// A killed process is back, and the restart was begun within a second of its end.
func TestHealthKilledProcessComesBack(t *testing.T) {
	drop(t, "kill", "services: {web: {image: 'nginx:1.27', restart: always}}\n")
	before := running(t, "kill", "web-1")
	judged(t, "kill", "web-1", "healthy")
	since := moment(t)
	run(t, fmt.Sprintf("kill -9 %d", before["web-1"].State.PID))
	anew(t, "kill", "web-1", before)
	judged(t, "kill", "web-1", "healthy")
	if log := told(t, since); !strings.Contains(log, "killed by signal 9") || strings.Count(log, "restarting project=") != 1 {
		t.Errorf("the journal says:\n%s", log)
	}
}

// on-failure goes by the exit code: 0 stays down, 3 is restarted twice and then given up.
func TestX1H19OnFailureByExitCode(t *testing.T) {
	drop(t, "jobs", `services:
  good: {image: busybox, command: [sh, -c, "sleep 1; exit 0"], restart: on-failure}
  bad: {image: busybox, command: [sh, -c, "sleep 1; exit 3"], restart: "on-failure:2"}
`)
	eventually(t, "both are done", func(context.Context) error {
		log := told(t, "0")
		if !strings.Contains(log, `instance=bad-1 text="restarted 2 times, which is the limit: given up`) || !strings.Contains(log, `instance=good-1 text="ended with exit code 0: done`) {
			return fmt.Errorf("not yet")
		}

		return nil
	})
	ended(t, "jobs", "good-1")
	ended(t, "jobs", "bad-1")
	stays(t, "jobs", "bad-1", "Stopped")
	log := told(t, "0")
	if n := strings.Count(log, "restarting project=jobs instance=bad-1"); n != 2 {
		t.Errorf("restarted %d times", n)
	}

	if strings.Contains(log, "restarting project=jobs instance=good-1") {
		t.Error("a job that ended well was restarted")
	}
}

// What a user stops stays down, whoever restarts meanwhile.
func TestHealthIncusStopStaysDown(t *testing.T) {
	drop(t, "down", "services: {web: {image: 'nginx:1.27', restart: unless-stopped}}\n")
	running(t, "down", "web-1")
	judged(t, "down", "web-1", "healthy")
	run(t, "incus stop --project down web-1")
	judged(t, "down", "web-1", "stopped")
	stays(t, "down", "web-1", "Stopped")
	run(t, "systemctl restart ic-healthd")
	stays(t, "down", "web-1", "Stopped")
	run(t, "incus start --project down web-1")
	judged(t, "down", "web-1", "healthy")
}

// Incus does not answer for half a minute, crashes, and is not there for as long again: no verdict changes, nothing is
// restarted.
func TestH11X2IncusAwayForAMinuteChangesNothing(t *testing.T) {
	drop(t, "away", software)
	running(t, "away", "cache-1", "web-1", "db-1")
	for _, n := range []string{"cache-1", "web-1", "db-1"} {
		judged(t, "away", n, "healthy")
	}

	before, err := instances(t.Context(), "away")
	if err != nil {
		t.Fatal(err)
	}

	since := moment(t)
	// It hangs at first, then it crashes. Its own stop would stop the instances too.
	run(t, `d=/run/systemd/system/incus.service.d; mkdir -p $d; printf '[Service]\nExecStartPre=/bin/sleep 30\n' > $d/late.conf; systemctl daemon-reload
		kill -STOP $(systemctl show -p MainPID --value incus); sleep 30
		mv /var/lib/incus/unix.socket /var/lib/incus/away.socket; kill -KILL $(systemctl show -p MainPID --value incus); sleep 29
		mv /var/lib/incus/away.socket /var/lib/incus/unix.socket; rm -r $d; systemctl daemon-reload; systemctl start incus`)
	eventually(t, "Incus is back", func(ctx context.Context) error {
		_, err := instances(ctx, "away")
		return err
	})
	eventually(t, "the daemon has read everything again", func(context.Context) error {
		if !strings.Contains(told(t, since), "event stream back") {
			return fmt.Errorf("not yet")
		}

		return nil
	})
	stays(t, "away", "cache-1", "Running")
	after := running(t, "away", "cache-1", "web-1", "db-1")
	if r := restarted(before, after); len(r) > 0 {
		t.Errorf("restarted: %v", r)
	}

	if log := told(t, since); strings.Contains(log, "status project=") || strings.Contains(log, "restarting project=") {
		t.Errorf("the journal says:\n%s", log)
	}
}

// A probe that hangs is ended at its timeout with all it started, also what left its session.
func TestH09X4AHungProbeIsGoneWithItsChildren(t *testing.T) {
	drop(t, "hang", `services:
  web:
    image: busybox
    command: [sleep, inf]
    healthcheck: {test: "sleep 7771 & (setsid sleep 7772 &) ; sleep 7773", interval: 1s, timeout: 2s, retries: 1}
`)
	running(t, "hang", "web-1")
	eventually(t, "the probe times out", func(ctx context.Context) error {
		out, err := try(ctx, "ic-healthd status --json || true") // 1 when something is unhealthy
		if strings.Contains(out, "exceeded timeout (2s)") {
			return nil
		}

		return errors.Join(fmt.Errorf("it says %s", out), err)
	})
	run(t, "systemctl stop ic-healthd")
	defer run(t, "systemctl start ic-healthd")
	eventually(t, "no process of the probe is left", func(ctx context.Context) error {
		out, err := try(ctx, "pgrep -af 'sleep 777[123]' || true")
		if err == nil && strings.Contains(out, "sleep 777") && !strings.Contains(out, "pgrep") {
			err = fmt.Errorf("there is %s", out)
		}

		return err
	})
}

// A check runs as the app does. The daemon says how it is, to systemd and to whoever asks.
func TestH03H41H42TheDaemonTellsHowItIs(t *testing.T) {
	drop(t, "tell", `services:
  web:
    image: busybox
    command: [sleep, inf]
    user: "70:71"
    working_dir: /var/tmp
    environment: {COLOUR: blue}
    healthcheck: {test: 'echo "$$(id -u):$$(id -g) in $$PWD, $$COLOUR, $$PATH"', interval: 500ms}
`)
	before := running(t, "tell", "web-1")
	judged(t, "tell", "web-1", "healthy")
	path := run(t, fmt.Sprintf("tr '\\0' '\\n' < /proc/%d/environ | sed -n s/^PATH=//p", before["web-1"].State.PID))
	if out := run(t, "ic-healthd probe tell/web"); path == "" || !strings.Contains(out, "70:71 in /var/tmp, blue, "+path) {
		t.Errorf("the app's path is %s, and the check says:\n%s", path, out)
	}

	for _, c := range [][2]string{{"health", ""}, {"ready", ""}, {"metrics", "ic_healthd_checks_total{result=\"passed\"}"}} {
		if out := run(t, "curl -sf --unix-socket /run/ic-healthd/status.sock http://x/"+c[0]); !strings.Contains(out, c[1]) {
			t.Errorf("/%s says %s", c[0], out)
		}
	}
	if out := run(t, "ic-healthd status; ic-healthd probe tell/web"); !strings.Contains(out, "tell/web-1") || !strings.Contains(out, "verdict:   passed, exit code 0") {
		t.Errorf("it says:\n%s", out)
	}

	eventually(t, "STATUS", func(ctx context.Context) error {
		out, err := try(ctx, "systemctl show -p StatusText ic-healthd")
		if err == nil && !strings.Contains(out, "StatusText=1 check, 0 unhealthy, 0 broken") {
			err = fmt.Errorf("it says %s", out)
		}

		return err
	})
}
