//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// trio is three web servers that say their names, behind one port; a file makes one sick.
const trio = `services:
  web:
    image: busybox
    scale: 3
    command: ["sh", "-c", "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www"]
    healthcheck: {test: ["CMD", "test", "!", "-e", "/tmp/sick"], interval: 500ms, retries: 1}
    restart: "no"
    init: true
    stop_grace_period: 1s
    ports: ["8090:80", "80"]
`

// fromLAN asks a port from a machine beyond the host so often, and counts who answered; every question must be.
func fromLAN(ctx context.Context, port, times int) (map[string]int, error) {
	out, err := try(ctx, fmt.Sprintf("for i in $(seq %d); do ip netns exec lan curl -sf -m 5 http://198.51.100.1:%d/ || exit 1; done", times, port))
	if err != nil {
		return nil, fmt.Errorf("%w (answered: %q)", err, out)
	}

	counts := map[string]int{}
	for name := range strings.FieldsSeq(out) {
		counts[name]++
	}

	return counts, nil
}

// shared waits until exactly these instances answer behind a port, each with its share.
func shared(t *testing.T, port int, names ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v behind port %d", names, port), func(ctx context.Context) error {
		counts, err := fromLAN(ctx, port, 4*len(names))
		if err != nil {
			return err
		}

		for _, n := range names {
			if counts[n] < 2 {
				return fmt.Errorf("answered: %v", counts)
			}
		}

		if len(counts) != len(names) {
			return fmt.Errorf("answered: %v", counts)
		}

		return nil
	})
}

// Three replicas share one port, and change in turn also right after their first start; a sick one is left out and taken
// in again, a killed one is not noticed outside; a restart of the agent loses no connection that is begun meanwhile;
// scaling leaves the others alone, and the chosen port what it is.
func TestReplicasShareAPort(t *testing.T) {
	drop(t, "trio", trio)
	before := running(t, "trio", "web-1", "web-2", "web-3")
	for name := range before {
		judged(t, "trio", name, "healthy") // what is not may change at once
	}

	shared(t, 8090, "web-1", "web-2", "web-3")
	put(t, directory+"trio.yaml", trio+"    environment: {MODE: second}\n")
	eventually(t, "the first one to be changed", func(ctx context.Context) error {
		_, err := try(ctx, "incus exec web-1 --project trio -- env | grep -q MODE=second")
		return err
	})
	put(t, directory+"trio.yaml", trio)
	before = back(t, before)
	shared(t, 8090, "web-1", "web-2", "web-3")

	run(t, "incus exec web-2 --project trio -- touch /tmp/sick")
	shared(t, 8090, "web-1", "web-3")
	run(t, "incus exec web-2 --project trio -- rm /tmp/sick")
	shared(t, 8090, "web-1", "web-2", "web-3")

	run(t, "kill -9 "+strconv.Itoa(before["web-3"].State.PID))
	_, err := fromLAN(t.Context(), 8090, 12)
	if err != nil {
		t.Errorf("right after a replica was killed: %v", err)
	}

	shared(t, 8090, "web-1", "web-2")
	run(t, "incus start web-3 --project trio")
	shared(t, 8090, "web-1", "web-2", "web-3")

	// A port that the agent chose is shown, and stays what it is.
	chosen := chosenPort(t)
	out := run(t, `systemctl restart ic-agent & for i in $(seq 60); do ip netns exec lan curl -sf -m 10 -o /dev/null http://198.51.100.1:8090/ || echo lost; done; wait`)
	if out != "" {
		t.Errorf("connections while the agent restarted: %q", out)
	}

	settled(t, "trio")
	if got := chosenPort(t); got != chosen {
		t.Errorf("the chosen port was %d and is %d", chosen, got)
	}

	shared(t, chosen, "web-1", "web-2", "web-3")

	middle := running(t, "trio", "web-1", "web-2", "web-3")
	put(t, directory+"trio.yaml", strings.Replace(trio, "scale: 3", "scale: 1", 1))
	var after map[string]instance
	eventually(t, "web-2 and web-3 to be parked", func(ctx context.Context) error {
		var err error
		after, err = instances(ctx, "trio")
		if err == nil && (after["web-2"].Status == "Running" || after["web-3"].Status == "Running") {
			err = fmt.Errorf("web-2 is %q, web-3 is %q", after["web-2"].Status, after["web-3"].Status)
		}

		return err
	})
	shared(t, 8090, "web-1")
	answers(t, "http://127.0.0.1:8090/")
	answers(t, "'http://[::1]:8090/'")
	if after["web-1"].Status != "Running" || after["web-1"].State.PID != middle["web-1"].State.PID {
		t.Errorf("web-1 is %q and was restarted or stopped", after["web-1"].Status)
	}

	put(t, directory+"trio.yaml", strings.Replace(trio, "scale: 3", "scale: 0", 1))
	eventually(t, "web-1 to be parked", func(ctx context.Context) error {
		after, err := instances(ctx, "trio")
		if err == nil && after["web-1"].Status == "Running" {
			err = fmt.Errorf("web-1 is %q", after["web-1"].Status)
		}

		return err
	})
	put(t, directory+"trio.yaml", strings.Replace(trio, "scale: 3", "scale: 1", 1))
	shared(t, chosen, "web-1")
}

// back waits until the first replica is what it was in the beginning; the others never were anything else.
func back(t *testing.T, before map[string]instance) map[string]instance {
	t.Helper()
	eventually(t, "the first one to be changed back", func(ctx context.Context) error {
		_, err := try(ctx, "incus exec web-1 --project trio -- sh -c '[ -z \"$MODE\" ]'")
		return err
	})
	now := running(t, "trio", "web-1", "web-2", "web-3")
	if got := fmt.Sprint(restarted(before, now)); got != "[web-1]" {
		t.Errorf("restarted: %s, want [web-1]", got)
	}

	return now
}

// chosenPort is the host port that the status shows for the port without one.
func chosenPort(t *testing.T) int {
	t.Helper()
	for word := range strings.FieldsSeq(run(t, "ic-agent status trio")) {
		n, err := strconv.Atoi(word)
		if err == nil && n >= 61000 {
			return n
		}
	}

	t.Fatal("the status shows no chosen port")

	return 0
}

// A port that a program of the host has blocks its service, by the program's name, and is taken once it is free.
func TestTakenPortIsNamedAndTakenOnceFree(t *testing.T) {
	run(t, "systemd-run --quiet --unit squatter busybox httpd -f -p 8095 -h /")
	t.Cleanup(func() { _, _ = try(context.WithoutCancel(t.Context()), "systemctl stop squatter") })
	eventually(t, "the squatter to listen", func(ctx context.Context) error {
		_, err := try(ctx, "ss -lnt | grep -q :8095")
		return err
	})
	drop(t, "late", "services: {web: {image: nginx:1.27, ports: [\"8095:80\"]}}\n")
	condition(t, "late", "Blocked", "8095 is taken by squatter.service (user root)")
	run(t, "systemctl stop squatter")
	running(t, "late", "web-1")
	answers(t, "http://127.0.0.1:8095/")
}
