//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// The agent killed at any moment loses nothing and restarts nothing: it is killed again and again while a stack
// comes up and is edited.
func TestKilledAgentLosesNothing(t *testing.T) {
	drop(t, "shop", shop)
	for i := range 6 {
		run(t, fmt.Sprintf("sleep 0.%d; systemctl kill -s KILL ic-agent; systemctl reset-failed ic-agent; systemctl start ic-agent", i*2))
	}

	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "systemctl kill -s KILL ic-agent; systemctl start ic-agent")
	settled(t, "shop")
	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	put(t, directory+"shop.yaml", strings.Replace(shop, "MODE: first", "MODE: second", 1))
	for range 4 {
		run(t, "sleep 0.2; systemctl kill -s KILL ic-agent; systemctl start ic-agent")
	}

	settled(t, "shop")
	last := running(t, "shop", "web-1", "cache-1")
	if got := fmt.Sprint(restarted(after, last)); got != "[web-1]" {
		t.Errorf("restarted: %s, want [web-1]", got)
	}
}

// What Incus was killed in is mended: a network that it never finished, and an update during whose rebuild it was
// killed. Address and data stay.
func TestWhatIncusWasKilledInIsMended(t *testing.T) {
	owner := run(t, "ic-agent status --json | jq -r .owner")
	run(t, fmt.Sprintf(`for i in $(seq 1 90); do
			timeout -s KILL 0.$(printf %%02d $((i %% 30 + 1))) incus network create shop-default ipv4.address=10.201.9.1/24 ipv4.dhcp=false ipv4.nat=true ipv6.address=none dns.mode=none user.ic-agent.owner=%s user.ic-agent.stack=shop
			case $(incus network list -f csv | grep ^shop-default) in
			*PENDING) exit 0 ;;
			?*) incus network delete shop-default ;;
			esac
		done; exit 1`, owner))
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	if state := run(t, "incus network list -f csv | grep ^shop-default"); !strings.HasSuffix(state, "CREATED") {
		t.Errorf("the network is %s", state)
	}

	run(t, "incus exec cache-1 --project shop -- redis-cli set answer 42 && incus exec cache-1 --project shop -- redis-cli save")
	put(t, directory+"shop.yaml", strings.Replace(shop, "redis:7", "redis:8", 1))
	run(t, `for i in $(seq 1 2000); do
			incus query '/1.0/operations?recursion=1&all-projects=true' | grep -q 'Rebuilding instance' || continue
			kill -KILL $(systemctl show -p MainPID --value incus); systemctl reset-failed incus; systemctl start incus; exit 0
		done; exit 1`)
	eventually(t, "the update to be done", func(ctx context.Context) error {
		// What Incus itself forgot on the disk only its owner may remove: the condition names the command.
		_, _ = try(ctx, `left=$(ic-agent status shop | grep -o 'rm -r /var/lib/incus/storage-pools/default/containers/shop_cache-1' | head -1); [ -z "$left" ] || { $left; ic-agent apply shop; }`)
		found, err := instances(ctx, "shop")
		if err == nil && (found["cache-1"].Status != "Running" || !strings.Contains(found["cache-1"].Config["user.ic-agent.image"], "redis:8")) {
			err = fmt.Errorf("cache-1 is %s with %s", found["cache-1"].Status, found["cache-1"].Config["user.ic-agent.image"])
		}

		return err
	})
	settled(t, "shop")
	after := running(t, "shop", "web-1", "cache-1")
	if a, b := before["cache-1"].Devices["eth0"]["ipv4.address"], after["cache-1"].Devices["eth0"]["ipv4.address"]; a != b {
		t.Errorf("cache-1 moved from %s to %s", a, b)
	}

	eventually(t, "the data to be there", func(ctx context.Context) error {
		got, err := try(ctx, "incus exec cache-1 --project shop -- redis-cli get answer")
		if err == nil && strings.TrimSpace(got) != "42" {
			err = fmt.Errorf("the answer is %q", got)
		}

		return err
	})
}

// Incus restarted under the agent changes nothing.
func TestIncusRestartChangesNothing(t *testing.T) {
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "systemctl restart incus")
	eventually(t, "the agent to be well again", func(ctx context.Context) error {
		_, err := try(ctx, "ic-agent reload --wait")
		if err != nil {
			return err
		}

		return inState(ctx, "shop", "in sync")
	})

	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}
}

// A ledger that is damaged is rebuilt from Incus; nothing restarts and addresses stay.
func TestDamagedLedgerIsRebuilt(t *testing.T) {
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "systemctl stop ic-agent; head -c 100000 /dev/urandom > /var/lib/ic-agent/state.db; chown ic-agent: /var/lib/ic-agent/state.db; systemctl start ic-agent")
	settled(t, "shop")
	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	for n := range before {
		if a, b := before[n].Devices["eth0"]["ipv4.address"], after[n].Devices["eth0"]["ipv4.address"]; a != b {
			t.Errorf("%s moved from %s to %s", n, a, b)
		}
	}

	run(t, "ls /var/lib/ic-agent/state.db.bad-*; rm -f /var/lib/ic-agent/state.db.bad-*")
}

// Somebody's "incus stop" is respected and said; their "incus start" ends it.
func TestManualStopIsRespected(t *testing.T) {
	drop(t, "shop", shop)
	running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "incus stop web-1 --project shop")
	eventually(t, "the status to say who stopped it", func(ctx context.Context) error {
		out, err := try(ctx, "ic-agent status shop")
		if err == nil && !strings.Contains(out, "stopped by root") {
			err = fmt.Errorf("it says %s", out)
		}

		return err
	})
	run(t, "systemctl restart ic-agent; ic-agent reload --wait")
	found, err := instances(t.Context(), "shop")
	if err != nil || found["web-1"].Status != "Stopped" {
		t.Errorf("web-1 is %q: %v", found["web-1"].Status, err)
	}

	run(t, "incus start web-1 --project shop")
	running(t, "shop", "web-1", "cache-1")
}

// A value changed by hand is put back without a restart.
func TestDriftIsReverted(t *testing.T) {
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "incus config set web-1 --project shop environment.MODE=hand user.mine=kept")
	eventually(t, "the value to be back", func(ctx context.Context) error {
		found, err := instances(ctx, "shop")
		if err != nil {
			return err
		}

		c := found["web-1"].Config
		if c["environment.MODE"] != "first" || c["user.mine"] != "kept" {
			return fmt.Errorf("MODE is %q, mine is %q", c["environment.MODE"], c["user.mine"])
		}

		return nil
	})
	if got := restarted(before, running(t, "shop", "web-1", "cache-1")); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}
}

// Bad input gets one message that says what, where and what to do; the other stacks do not notice.
func TestBadInput(t *testing.T) {
	drop(t, "good", "services: {app: {image: busybox, command: [sleep, inf]}}\n")
	before := running(t, "good", "app-1")
	for _, c := range []struct{ name, content, kind, says string }{
		{"an image that does not exist", "services: {app: {image: \"nginx:nosuch\"}}\n", "Blocked", "nosuch"},
		{"a port that is taken", "services: {app: {image: nginx, ports: [\"22222:80\"]}}\n", "Blocked", "22222"},
		{"a subnet that is taken", "services: {app: {image: busybox, command: [sleep, inf]}}\nnetworks: {default: {ipam: {config: [{subnet: 10.77.0.0/16}]}}}\n", "Blocked", "10.77"},
		{"a project that is not ours", "name: theirs\nservices: {app: {image: busybox}}\n", "Conflict", "not ours"},
		{"a cycle", "services:\n  a: {image: busybox, depends_on: [b]}\n  b: {image: busybox, depends_on: [a]}\n", "Invalid", "wait for each other"},
		{"a missing env_file", "services:\n  a:\n    image: busybox\n    env_file: none.env\n", "Invalid", "none.env"},
		{"an unknown key", "services:\n  a:\n    image: busybox\n    comand: x\n", "Invalid", "command"},
		{"broken YAML", "services:\n  a: [\n", "Invalid", "bad.yaml:"},
		{"an empty file", "", "Invalid", "empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, "(busybox nc -ll -p 22222 >/dev/null 2>&1 & echo $! > /run/nc.pid); incus project create theirs >/dev/null 2>&1; incus network create taken0 ipv4.address=10.77.3.1/24 ipv6.address=none >/dev/null 2>&1; true")
			t.Cleanup(func() {
				ctx := context.WithoutCancel(t.Context())
				_, _ = try(ctx, "kill $(cat /run/nc.pid); incus project delete theirs; incus network delete taken0")
			})
			drop(t, "bad", c.content)
			condition(t, "bad", c.kind, c.says)
			if strings.Contains(c.name, "taken") || c.kind == "Conflict" {
				run(t, "! incus network show bad-default 2>/dev/null && ! incus project show bad 2>/dev/null")
			}
		})
	}

	if got := restarted(before, running(t, "good", "app-1")); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}
}

// The host's reboot brings everything back, with its addresses and its data, and in order: what others wait for
// comes first, whatever it is called.
func TestRebootBringsEverythingBack(t *testing.T) {
	drop(t, "shop", shop)
	drop(t, "order", `services:
  a: {image: busybox, command: [sleep, inf], depends_on: [b], stop_grace_period: 1s}
  b: {image: busybox, command: [sleep, inf], depends_on: [c], stop_grace_period: 1s}
  c: {image: busybox, command: [sleep, inf], restart: always, stop_grace_period: 1s}
`)
	running(t, "order", "a-1", "b-1", "c-1")
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "incus exec cache-1 --project shop -- redis-cli set answer 42")
	out, err := command(t, "reboot")
	if err != nil {
		t.Fatalf("reboot: %v\n%s", err, out)
	}

	after := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	chain := running(t, "order", "a-1", "b-1", "c-1")
	for _, pair := range [][2]instance{{chain["c-1"], chain["b-1"]}, {chain["b-1"], chain["a-1"]}, {after["cache-1"], after["web-1"]}} {
		if !pair[0].State.StartedAt.Before(pair[1].State.StartedAt) {
			t.Errorf("%s started at %s, and %s, which it waits for, at %s", pair[1].Name, pair[1].State.StartedAt, pair[0].Name, pair[0].State.StartedAt)
		}
	}

	for n := range before {
		if a, b := before[n].Devices["eth0"]["ipv4.address"], after[n].Devices["eth0"]["ipv4.address"]; a != b {
			t.Errorf("%s moved from %s to %s", n, a, b)
		}
	}

	answers(t, "http://127.0.0.1:8081/")
	eventually(t, "the data to be there", func(ctx context.Context) error {
		got, gerr := try(ctx, "incus exec cache-1 --project shop -- redis-cli get answer")
		if gerr == nil && strings.TrimSpace(got) != "42" {
			gerr = fmt.Errorf("the answer is %q", got)
		}

		return gerr
	})
}
