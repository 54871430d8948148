//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// chain is a job, an app that needs it done, and a front that is restarted with its cache.
const chain = `services:
  migrate:
    image: busybox
    command: ["sh", "-c", "echo run >> /data/runs; exit 3"]
    volumes: ["data:/data"]
  app:
    image: busybox
    command: [sleep, inf]
    init: true
    restart: always
    depends_on: {migrate: {condition: service_completed_successfully}}
  cache:
    image: redis:7
    restart: always
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 500ms}
  front:
    image: busybox
    command: [sleep, inf]
    init: true
    restart: always
    depends_on: {cache: {condition: service_healthy, restart: true}}
volumes: {data: {}}
`

// ran counts how often the job has.
func ran(ctx context.Context) (int, error) {
	out, err := try(ctx, "cat /var/lib/incus/storage-pools/default/custom/chain_vol-data/runs")

	return strings.Count(out, "run"), err
}

// started waits until these instances of the chain run, whatever the others do.
func started(t *testing.T, names ...string) map[string]instance {
	t.Helper()
	var found map[string]instance
	eventually(t, fmt.Sprintf("%v running", names), func(ctx context.Context) error {
		var err error
		found, err = instances(ctx, "chain")
		for _, n := range names {
			if err == nil && found[n].Status != "Running" {
				err = fmt.Errorf("%s is %q", n, found[n].Status)
			}
		}

		return err
	})

	return found
}

// A failed job holds what needs it and says so; mended, it runs once, and not again by an agent's or a host's restart.
// What asks for it is restarted with its dependency, and nothing else.
func TestJobsRunOnceAndDependantsFollow(t *testing.T) {
	drop(t, "chain", chain)
	condition(t, "chain", "Blocked", "it needs migrate-1 to end with 0, and that ended with 3")
	if found := started(t, "cache-1", "front-1"); found["app-1"].Status == "Running" {
		t.Error("app-1 runs although its job failed")
	}

	put(t, directory+"chain.yaml", strings.Replace(chain, `["sh", "-c", "echo run >> /data/runs; exit 3"]`, "[/no/such]", 1))
	condition(t, "chain", "Failed", "the container has no /no/such to run")
	if found := started(t, "cache-1", "front-1"); found["app-1"].Status == "Running" {
		t.Error("app-1 runs although its job has no program")
	}

	mended := strings.Replace(chain, "exit 3", "exit 0", 1)
	put(t, directory+"chain.yaml", mended)
	settled(t, "chain")
	before := started(t, "app-1", "cache-1", "front-1")

	put(t, directory+"chain.yaml", strings.Replace(mended, "  cache:\n", "  cache:\n    environment: {TUNED: \"yes\"}\n", 1))
	eventually(t, "cache-1 to be tuned", func(ctx context.Context) error {
		found, err := instances(ctx, "chain")
		if err == nil && found["cache-1"].Config["environment.TUNED"] != "yes" {
			err = fmt.Errorf("it is not")
		}

		return err
	})
	settled(t, "chain")
	after := started(t, "app-1", "cache-1", "front-1")
	got := restarted(before, after)
	slices.Sort(got)
	if fmt.Sprint(got) != "[cache-1 front-1]" {
		t.Errorf("restarted: %v, want cache-1 and front-1", got)
	}

	run(t, "systemctl restart ic-agent")
	settled(t, "chain")
	out, err := command(t, "reboot")
	if err != nil {
		t.Fatalf("reboot: %v: %s", err, out)
	}

	started(t, "app-1", "cache-1", "front-1")
	settled(t, "chain")
	n, err := ran(t.Context())
	if err != nil || n != 2 {
		t.Errorf("the job ran %d times, want once in vain and once mended: %v", n, err)
	}
}
