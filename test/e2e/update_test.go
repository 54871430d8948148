//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// store is a web server beside two databases with data, each of which can be updated.
const store = `services:
  web:
    image: ghcr.io/example/web:1
    stop_grace_period: 1s
    restart: always
    ports: ["8085:8080"]
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1:8080/healthz", interval: 300ms, retries: 3, start_period: 0s}
    deploy: {update_config: {monitor: 1s}}
  cache:
    image: redis:7
    command: [redis-server, --appendonly, "yes"]
    restart: always
    volumes: ["cache:/data"]
    x-ic-agent: {snapshot: true}
    deploy: {update_config: {monitor: 2s}}
  db:
    image: postgres:17
    command: [postgres, -c, work_mem=4MB]
    environment: {POSTGRES_PASSWORD: secret}
    restart: always
    healthcheck: {test: "pg_isready -U postgres", interval: 300ms, timeout: 5s, retries: 3, start_period: 60s, start_interval: 300ms}
    volumes: ["db:/var/lib/postgresql/data"]
    deploy: {update_config: {monitor: 1s}}
volumes: {cache: {}, db: {}}
`

const (
	readCache = "incus exec cache-1 --project store -- redis-cli get answer"
	readDB    = "incus exec db-1 --project store --user 999 -- psql -U postgres -Atc 'select answer from t'"
	readWeb   = `incus exec web-1 --project store -- sh -c "tr '\\0' '\\n' < /proc/1/environ"`
)

// prints waits until a command in the lab prints something.
func prints(t *testing.T, command, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s to say %q", command, want), func(ctx context.Context) error {
		out, err := try(ctx, command)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("it says %q", out)
		}

		return err
	})
}

// outcome waits until the stack's present generation is said to have come to something.
func outcome(t *testing.T, stack, want string) {
	t.Helper()
	eventually(t, stack+": "+want, func(ctx context.Context) error {
		out, err := try(ctx, "ic-agent history --json "+stack)
		if err != nil {
			return err
		}

		var all []struct {
			Outcome string `json:"outcome"`
			Current bool   `json:"current"`
		}
		err = json.Unmarshal([]byte(out), &all)
		if err != nil {
			return err
		}

		if len(all) == 0 || !all[0].Current || !strings.Contains(all[0].Outcome, want) {
			return fmt.Errorf("the generations are %+v", all)
		}

		return nil
	})
}

// generationInForce is the number of a stack's present generation.
func generationInForce(t *testing.T, stack string) int {
	t.Helper()
	var all []struct {
		Number int `json:"number"`
	}
	err := json.Unmarshal([]byte(run(t, "ic-agent history --json "+stack)), &all)
	if err != nil || len(all) == 0 {
		t.Fatalf("the generations are %v: %v", all, err)
	}

	return all[0].Number
}

// An update that fails goes back by itself, with its data, and stays back until something changes; versions are kept
// and can be gone back to.
func TestUpdatesGoBack(t *testing.T) {
	drop(t, "store", store)
	running(t, "store", "web-1", "cache-1", "db-1")
	judged(t, "store", "db-1", "healthy")
	run(t, "incus exec cache-1 --project store -- redis-cli set answer 42")
	prints(t, "incus exec db-1 --project store --user 999 -- psql -U postgres -Atc 'create table if not exists t as select 42 as answer; select answer from t'", "42")
	outcome(t, "store", "did well")

	sick := strings.Replace(store, "web:1", "web:crash", 1)
	t.Run("a version that crashes goes back", func(t *testing.T) {
		put(t, directory+"store.yaml", sick)
		condition(t, "store", "RolledBack", "ended with exit code 3")
		prints(t, readWeb, "WEB_VERSION=1")
		prints(t, "ic-agent why store/web; true", "it ended with exit code 3")
		outcome(t, "store", "web went back")
		answers(t, "http://127.0.0.1:8085/")
	})

	t.Run("it is held over a restart of the agent, until somebody asks", func(t *testing.T) {
		before := running(t, "store", "web-1", "cache-1", "db-1")
		run(t, "systemctl restart ic-agent")
		condition(t, "store", "RolledBack", "")
		if got := restarted(before, running(t, "store", "web-1", "cache-1", "db-1")); len(got) > 0 {
			t.Errorf("restarted: %v", got)
		}

		run(t, "ic-agent retry store/web")
		anew(t, "store", "web-1", before)
		condition(t, "store", "RolledBack", "ended with exit code 3")
		prints(t, readWeb, "WEB_VERSION=1")
	})

	t.Run("a version that is never healthy goes back", func(t *testing.T) {
		put(t, directory+"store.yaml", strings.Replace(store, "web:1", "web:sick", 1))
		condition(t, "store", "RolledBack", "unhealthy")
		prints(t, readWeb, "WEB_VERSION=1")
	})

	second := strings.Replace(store, "web:1", "web:2", 1)
	t.Run("the next edit goes on", func(t *testing.T) {
		put(t, directory+"store.yaml", second)
		prints(t, readWeb, "WEB_VERSION=2")
		settled(t, "store")
		outcome(t, "store", "did well")
	})

	t.Run("a setting that breaks a database goes back with its data", func(t *testing.T) {
		broken := strings.Replace(strings.Replace(second, "work_mem=4MB", "no_such=1", 1), "--appendonly, ", "--nonsense, ", 1)
		put(t, directory+"store.yaml", broken)
		eventually(t, "both to go back", func(ctx context.Context) error {
			s, err := status(ctx, "store")
			if err != nil {
				return err
			}

			said := fmt.Sprint(s.Conditions)
			if !strings.Contains(said, "of db failed") || !strings.Contains(said, "of cache failed") || strings.Contains(said, "GoingBack") {
				return fmt.Errorf("it says %s", said)
			}

			return nil
		})
		prints(t, readDB, "42")
		prints(t, readCache, "42")
		put(t, directory+"store.yaml", strings.Replace(second, "work_mem=4MB", "work_mem=8MB", 1))
		prints(t, "incus exec db-1 --project store --user 999 -- psql -U postgres -Atc 'show work_mem'", "8MB")
		prints(t, readDB, "42")
		outcome(t, "store", "did well")
	})

	t.Run("an earlier version comes back by a word, and goes by another", func(t *testing.T) {
		out := run(t, "ic-agent diff store")
		if !strings.Contains(out, "work_mem=8MB") || !strings.Contains(out, "+++ Incus") {
			t.Errorf("diff says %s", out)
		}

		run(t, "ic-agent rollback store 1")
		prints(t, readWeb, "WEB_VERSION=1")
		condition(t, "store", "Pinned", "the file differs")
		outcome(t, "store", "did well")
		run(t, "ic-agent retry store")
		prints(t, readWeb, "WEB_VERSION=2")
		outcome(t, "store", "did well")
		prints(t, readDB, "42")
	})

	t.Run("data goes back only by a word", func(t *testing.T) {
		kept := run(t, "ic-agent history store")
		if !strings.Contains(kept, "snapshot default/vol-cache/ic-agent-") || strings.Contains(kept, "vol-db/") {
			t.Errorf("history says %s", kept)
		}

		run(t, "incus exec cache-1 --project store -- redis-cli set answer 43")
		put(t, directory+"store.yaml", strings.Replace(strings.Replace(second, "work_mem=4MB", "work_mem=8MB", 1), "--appendonly, ", "--maxmemory, 64mb, --appendonly, ", 1))
		prints(t, "incus exec cache-1 --project store -- redis-cli config get maxmemory", "67108864")
		outcome(t, "store", "did well")
		run(t, "incus exec cache-1 --project store -- redis-cli set answer 44")
		before := generationInForce(t, "store")
		run(t, fmt.Sprintf("ic-agent rollback store %d --data", before-1))
		prints(t, readCache, "43")
		prints(t, readDB, "42")
		run(t, fmt.Sprintf("ic-agent history store | grep 'the data that generation %d left.*default/vol-cache/ic-agent-'", before))
		outcome(t, "store", "did well")
		run(t, "ic-agent retry store")
		prints(t, "incus exec cache-1 --project store -- redis-cli config get maxmemory", "67108864")
		prints(t, readCache, "43")
		put(t, directory+"store.yaml", strings.Replace(second, "work_mem=4MB", "work_mem=8MB", 1))
		outcome(t, "store", "did well")
	})

	t.Run("an agent that is killed in the middle ends its work when it is back", func(t *testing.T) {
		put(t, directory+"store.yaml", strings.Replace(second, "work_mem=4MB", "work_mem=16MB", 1))
		eventually(t, "the database to be stopped", func(ctx context.Context) error {
			all, err := instances(ctx, "store")
			if err == nil && all["db-1"].Status == "Running" && !strings.Contains(all["db-1"].Config["raw.lxc"], "16MB") {
				err = fmt.Errorf("it runs still")
			}

			return err
		})
		run(t, "systemctl kill -s KILL ic-agent")
		prints(t, "incus exec db-1 --project store --user 999 -- psql -U postgres -Atc 'show work_mem'", "16MB")
		settled(t, "store")
		prints(t, readDB, "42")
	})

	t.Run("a registry that is away reverts nothing and is waited for", func(t *testing.T) {
		before := running(t, "store", "web-1", "cache-1", "db-1")
		run(t, "systemctl stop docker-registry")
		put(t, directory+"store.yaml", strings.Replace(strings.Replace(second, "ghcr.io/example/web:2", "quay.io/example/web:1", 1), "4MB", "16MB", 1))
		condition(t, "store", "Blocked", "quay.io")
		if got := restarted(before, running(t, "store", "web-1", "cache-1", "db-1")); len(got) > 0 {
			t.Errorf("restarted: %v", got)
		}

		run(t, "systemctl start docker-registry")
		prints(t, readWeb, "WEB_VERSION=1")
	})
}

// A service with a health check and nothing exclusive is updated without a lost request: a candidate serves while the
// instance itself changes. One that fails touches nothing that runs.
func TestUpdateLosesNoRequest(t *testing.T) {
	const calm = `services:
  web:
    image: ghcr.io/example/web:1
    stop_grace_period: 1s
    healthcheck: {test: "wget -q -O /dev/null http://127.0.0.1:8080/healthz", interval: 300ms, retries: 3, start_period: 0s}
    deploy: {update_config: {monitor: 1s}}
  client:
    image: busybox
    stop_grace_period: 1s
    command:
      - sh
      - -c
      - "while :; do if wget -q -T 5 -O /dev/null http://web:8080/healthz; then echo ok; else echo lost; fi >> /tmp/log; sleep 0.1; done"
    depends_on: {web: {condition: service_healthy}}
`
	drop(t, "calm", calm)
	before := running(t, "calm", "web-1", "client-1")
	prints(t, "incus exec client-1 --project calm -- cat /tmp/log", "ok")
	run(t, "incus exec client-1 --project calm -- sh -c 'echo begin > /tmp/log'")
	prints(t, "ic-agent why calm/web", "last known to do well: generation 1")

	put(t, directory+"calm.yaml", strings.Replace(calm, "web:1", "web:sick", 1))
	condition(t, "calm", "RolledBack", "the candidate: it is unhealthy")
	if got := restarted(before, running(t, "calm", "web-1", "client-1")); len(got) > 0 {
		t.Errorf("a failed candidate restarted %v", got)
	}

	put(t, directory+"calm.yaml", strings.Replace(calm, "web:1", "web:2", 1))
	prints(t, `incus exec web-1 --project calm -- sh -c "tr '\\0' '\\n' < /proc/1/environ"`, "WEB_VERSION=2")
	settled(t, "calm")
	running(t, "calm", "web-1", "client-1")
	out := run(t, "incus exec client-1 --project calm -- cat /tmp/log")
	if strings.Contains(out, "lost") || strings.Count(out, "ok") < 20 {
		t.Errorf("the client says %d times ok, %d times lost", strings.Count(out, "ok"), strings.Count(out, "lost"))
	}
}
