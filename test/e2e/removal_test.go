//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// saysInside waits until a command in an instance prints something.
func saysInside(t *testing.T, project, name, command, want string) {
	t.Helper()
	eventually(t, name+": "+command, func(ctx context.Context) error {
		out, err := try(ctx, fmt.Sprintf("incus exec %s --project %s -- %s", name, project, command))
		if err == nil && strings.TrimSpace(out) != want {
			err = fmt.Errorf("it prints %q, want %q", out, want)
		}

		return err
	})
}

// A removed service is parked and comes back as it was, its root filesystem included; a protected one is not removed
// before that is confirmed; a removed stack leaves no network, goes after its keep but for its volume, and only
// destroy deletes that.
func TestWhatIsWantedNoMoreIsParked(t *testing.T) {
	const db = "  db: {image: 'redis:7', restart: always, volumes: ['data:/data'], x-ic-agent: {protect: true}}\n"
	const web = "  web: {image: busybox, init: true, command: [sleep, inf]}\n"
	const head, tail = "x-ic-agent: {remove-grace: 1s, keep: 8s}\nservices:\n", "volumes: {data: {}}\n"
	drop(t, "gone", head+web+db+tail)
	running(t, "gone", "web-1", "db-1")
	settled(t, "gone")
	run(t, "incus exec web-1 --project gone -- sh -c 'echo mine > /note'")

	put(t, directory+"gone.yaml", head+db+tail)
	eventually(t, "web-1 to be parked", func(ctx context.Context) error {
		found, err := instances(ctx, "gone")
		if err == nil && (found["web-1"].Status != "Stopped" || found["web-1"].Config["user.ic-agent.parked"] != "running") {
			err = fmt.Errorf("it is %s", found["web-1"].Status)
		}

		return err
	})
	put(t, directory+"gone.yaml", head+web+db+tail)
	running(t, "gone", "web-1", "db-1")
	saysInside(t, "gone", "web-1", "cat /note", "mine")

	before := running(t, "gone", "web-1", "db-1")
	put(t, directory+"gone.yaml", head+web+tail)
	condition(t, "gone", "RemovalHeld", "confirm-removal gone/db")
	if r := restarted(before, running(t, "gone", "web-1", "db-1")); len(r) > 0 {
		t.Errorf("restarted: %v", r)
	}

	run(t, "ic-agent confirm-removal gone/db")
	run(t, "rm "+directory+"gone.yaml")
	eventually(t, "the stack to be parked and its instances deleted after their keep", func(ctx context.Context) error {
		found, err := instances(ctx, "gone")
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("there are %d instances", len(found))
		}

		return err
	})
	if out := run(t, "incus network list -f csv | grep gone- || echo none"); out != "none" {
		t.Errorf("left of its networks: %s", out)
	}

	run(t, "incus storage volume show default vol-data --project gone")
	run(t, "ic-agent destroy gone --volumes --yes")
	if out := run(t, "incus project list -f csv | grep -c ^gone, || true"); out != "0" {
		t.Error("the project is still there")
	}
}

// When most of the stacks vanish in one step, they run on until somebody says that it was meant; one that vanishes alone
// goes by itself.
func TestManyRemovedAtOnceAreHeld(t *testing.T) {
	names := []string{"crowd1", "crowd2", "crowd3"}
	for _, n := range names {
		drop(t, n, "x-ic-agent: {remove-grace: 1s}\nservices: {app: {image: busybox, init: true, command: [sleep, inf]}}\n")
	}

	before := map[string]map[string]instance{}
	for _, n := range names {
		before[n] = running(t, n, "app-1")
		settled(t, n)
	}

	run(t, "rm "+directory+"crowd1.yaml "+directory+"crowd2.yaml")
	prints(t, "ic-agent status; true", "has lost crowd1, crowd2 at once")
	for _, n := range names {
		if r := restarted(before[n], running(t, n, "app-1")); len(r) > 0 {
			t.Errorf("restarted: %v of %s", r, n)
		}
	}

	run(t, "ic-agent confirm-removal crowd1")
	ended(t, "crowd1", "app-1")
	if r := restarted(before["crowd2"], running(t, "crowd2", "app-1")); len(r) > 0 {
		t.Errorf("restarted: %v of crowd2", r)
	}

	run(t, "ic-agent confirm-removal")
	ended(t, "crowd2", "app-1")
	running(t, "crowd3", "app-1")
}

// What somebody made by the names of lxc/incus-compose is a conflict and stays untouched; adopting it restarts
// nothing, and a later change makes what it is about ours.
func TestAdoptRestartsNothing(t *testing.T) {
	run(t, `incus remote list -f csv | grep -q '^docker,' || incus remote add docker https://docker.io --protocol=oci
		incus project create taken -c features.images=false -c user.incus-compose.managed=true
		incus network create taken-default ipv4.address=10.79.1.1/24 ipv4.nat=true ipv6.address=fd42:79::1/64 "raw.dnsmasq=address=/web/10.79.1.9"
		incus storage volume create default vol-data --project taken
		incus create docker:nginx:1.27 web-1 --project taken --no-profiles -s default -n taken-default
		incus create docker:redis:7 db-1 --project taken --no-profiles -s default -n taken-default
		incus config device add web-1 proxy-8095 proxy listen=tcp:0.0.0.0:8095 connect=tcp:127.0.0.1:80 --project taken
		incus config device add db-1 vol-data disk pool=default source=vol-data path=/data --project taken
		incus start web-1 db-1 --project taken`)
	before := running(t, "taken", "web-1", "db-1")
	file := "services:\n  web: {image: 'nginx:1.27', ports: ['8095:80']}\n  db: {image: 'redis:7', volumes: ['data:/data']}\nvolumes: {data: {}}\n"
	drop(t, "taken", file)
	condition(t, "taken", "Conflict", "ic-agent adopt taken")

	out := run(t, "ic-agent adopt taken")
	if !strings.Contains(out, "Nothing is left to do then.") {
		t.Errorf("adopt says %q", out)
	}

	settled(t, "taken")
	if r := restarted(before, running(t, "taken", "web-1", "db-1")); len(r) > 0 {
		t.Errorf("restarted by the adoption: %v", r)
	}

	if out = run(t, "incus network get taken-default raw.dnsmasq"); !strings.Contains(out, "address=") {
		t.Errorf("the network's dnsmasq lines are %q", out)
	}

	put(t, directory+"taken.yaml", strings.Replace(file, "ports:", "environment: {A: b}, ports:", 1))
	saysInside(t, "taken", "web-1", "sh -c 'echo $A'", "b")
	after := running(t, "taken", "web-1", "db-1")
	if r := restarted(before, after); len(r) != 1 || after["web-1"].Config["user.ic-agent.adopted"] != "" {
		t.Errorf("restarted: %v; web-1 carries %q", r, after["web-1"].Config["user.ic-agent.adopted"])
	}

	saysInside(t, "taken", "web-1", "sh -c 'nslookup web 10.79.1.1 | grep -c 10.79.1.9'", "1")

	// The network becomes ours, too: its dnsmasq ends with the line that lied about a name, and IPv6 with it; names are
	// answered by the agent. All that is said before.
	for _, want := range []string{"address=/web/10.79.1.9", "IPv6 goes (fd42:79::1/64)", "start instance/web-1"} {
		if out = run(t, "ic-agent adopt taken --networks --dry-run"); !strings.Contains(out, want) {
			t.Errorf("adopt --networks --dry-run does not say %q:\n%s", want, out)
		}
	}

	run(t, "ic-agent adopt taken --networks --yes")
	eventually(t, "the network to be ours", func(ctx context.Context) error {
		_, err := try(ctx, "test \"$(incus network get taken-default ipv4.dhcp)$(incus network get taken-default raw.dnsmasq)$(incus network get taken-default ipv6.address)\" = falsenone")
		return err
	})
	settled(t, "taken")
	running(t, "taken", "web-1", "db-1")
	saysInside(t, "taken", "web-1", "sh -c 'nslookup db.taken.incus | grep -c \"Address: 10.79.1\"'", "1")
	saysInside(t, "taken", "web-1", "sh -c 'nslookup web 10.79.1.1 | grep -c 10.79.1.9; true'", "0")
}

// post_start runs once for each start, whoever starts; one that fails holds what depends on its service; pre_stop runs
// before the stop. A stack waits for those it comes after; plan-only does nothing.
func TestHooksAndOrder(t *testing.T) {
	drop(t, "hooks", `x-ic-agent: {remove-grace: 1s}
services:
  web:
    image: busybox
    init: true
    command: [sleep, inf]
    post_start: [{command: [sh, -c, "echo x >> /data/starts"]}]
    pre_stop: [{command: [sh, -c, "echo x >> /data/stops"]}]
    volumes: ["data:/data"]
  bad:
    image: busybox
    init: true
    command: [sleep, inf]
    post_start: [{command: [sh, -c, "echo broken; exit 3"]}]
  late: {image: busybox, init: true, command: [sleep, inf], depends_on: [bad]}
volumes: {data: {}}
`)
	drop(t, "second", "x-ic-agent: {after: [hooks]}\nservices: {app: {image: busybox, init: true, command: [sleep, inf]}}\n")
	drop(t, "planned", "x-ic-agent: {mode: plan-only}\nservices: {app: {image: busybox, init: true, command: [sleep, inf]}}\n")
	condition(t, "hooks", "Blocked", "ended with 3: broken")
	condition(t, "hooks", "Blocked", "it waits for bad-1")
	condition(t, "second", "Waiting", "it starts after the stack hooks")
	condition(t, "planned", "PlanOnly", "nothing is done")
	if out := run(t, "incus project list -f csv | grep -cE '^(second|planned),' || true"); out != "0" {
		t.Error("something was made of a stack that waits")
	}

	saysInside(t, "hooks", "web-1", "wc -l /data/starts", "1 /data/starts")
	run(t, "systemctl restart ic-agent && incus restart --force web-1 --project hooks")
	saysInside(t, "hooks", "web-1", "wc -l /data/starts", "2 /data/starts")

	run(t, "sed -i 's/exit 3/exit 0/' "+directory+"hooks.yaml")
	running(t, "hooks", "web-1", "bad-1", "late-1")
	running(t, "second", "app-1")
	saysInside(t, "hooks", "web-1", "wc -l /data/starts", "2 /data/starts")

	run(t, "rm "+directory+"hooks.yaml")
	eventually(t, "pre_stop to have run", func(ctx context.Context) error {
		_, err := try(ctx, "test \"$(wc -l < /var/lib/incus/storage-pools/default/custom/hooks_vol-data/stops)\" = 1")
		return err
	})
}
