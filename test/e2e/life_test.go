//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Ten services in one file come up, each with an address of its own.
func TestTenServicesComeUp(t *testing.T) {
	var b strings.Builder
	var names []string
	b.WriteString("services:\n")
	for i := range 10 {
		fmt.Fprintf(&b, "  s%d: {image: busybox, command: [sleep, inf]}\n", i)
		names = append(names, fmt.Sprintf("s%d-1", i))
	}

	drop(t, "ten", b.String())
	found := running(t, "ten", names...)
	settled(t, "ten")

	seen := map[netip.Prefix]string{}
	for n, i := range found {
		a, err := netip.ParsePrefix(i.Devices["eth0"]["ipv4.address"])
		if err != nil || seen[a] != "" {
			t.Errorf("%s has the address %q: %v; so has %q", n, i.Devices["eth0"]["ipv4.address"], err, seen[a])
		}

		seen[a] = n
	}
}

// shop is a stack with all that the edits below change.
const shop = `services:
  web:
    image: nginx:1.27
    command: ["sh", "-c", "env > /tmp/env; exec nginx -g 'daemon off;'"]
    environment: {MODE: first}
    ports: ["8081:80"]
    depends_on: [cache]
  cache:
    image: redis:7
    restart: always
    volumes: ["data:/data"]
volumes: {data: {}}
`

// An edit reaches the running service, seen from inside it, and nothing else restarts.
func TestEditReachesItsServiceAlone(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		// look is run in the lab and must print want.
		look, want string
		// live edits do not even restart the edited service.
		live bool
	}{
		{
			name: "an environment variable", from: "MODE: first", to: "MODE: second",
			look: "cat /tmp/env", want: "MODE=second",
		},
		{
			name: "a command", from: `daemon off;`, to: `daemon off; timer_resolution 100ms;`,
			look: "tr '\\0' ' ' < /proc/1/cmdline", want: "timer_resolution 100ms;",
		},
		{
			name: "an image tag", from: "nginx:1.27", to: "nginx:1.28",
			look: "cat /tmp/env", want: "NGINX_VERSION=1.28",
		},
		{
			name: "a volume", from: "environment:", to: "volumes: [\"data:/shared\"]\n    environment:",
			look: "grep -c ' /shared ' /proc/self/mountinfo", want: "1", live: true,
		},
		{
			name: "a memory limit", from: "environment:", to: "mem_limit: 64m\n    environment:",
			look: "echo reached", want: "reached", live: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			drop(t, "shop", shop)
			before := running(t, "shop", "web-1", "cache-1")
			settled(t, "shop")

			put(t, directory+"shop.yaml", strings.Replace(shop, c.from, c.to, 1))
			eventually(t, "the edit to be seen from inside", func(ctx context.Context) error {
				out, err := try(ctx, "incus exec web-1 --project shop -- sh -c \""+strings.ReplaceAll(c.look, `"`, `\"`)+"\"")
				if err != nil {
					return err
				}

				if !strings.Contains(out, c.want) {
					return fmt.Errorf("inside it says %q, want %q", out, c.want)
				}

				return inState(ctx, "shop", "in sync")
			})

			after := running(t, "shop", "web-1", "cache-1")
			want := "[web-1]"
			if c.live {
				want = "[]"
			}

			if got := fmt.Sprint(restarted(before, after)); got != want {
				t.Errorf("restarted: %s, want %s", got, want)
			}
		})
	}
}

// A published port answers on the host, also on loopback; a moved one answers at its new place without a restart.
func TestPublishedPortMovesWithoutRestart(t *testing.T) {
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	answers(t, "http://127.0.0.1:8081/")
	put(t, directory+"shop.yaml", strings.Replace(shop, "8081:80", "8082:80", 1))
	answers(t, "http://127.0.0.1:8082/")
	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	_, err := try(t.Context(), "curl -sf -m 2 http://127.0.0.1:8081/")
	if err == nil {
		t.Error("the old port still answers")
	}
}

func answers(t *testing.T, url string) {
	t.Helper()
	eventually(t, url+" to answer", func(ctx context.Context) error {
		_, err := try(ctx, "curl -sf -m 2 "+url)
		return err
	})
}

// A broken edit changes nothing, says where it is broken, and the mended file goes on.
func TestBrokenEditChangesNothing(t *testing.T) {
	drop(t, "shop", shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")

	put(t, directory+"shop.yaml", strings.Replace(shop, "    environment:", "    enviroment:", 1))
	condition(t, "shop", "Invalid", "shop.yaml:5")
	out, err := try(t.Context(), "systemctl reload ic-agent")
	if err == nil {
		t.Errorf("systemctl reload says nothing of the broken file: %s", out)
	}

	line := run(t, "systemctl show -p StatusText --value ic-agent")
	if !strings.Contains(line, "invalid") || !strings.Contains(line, "shop") {
		t.Errorf("systemctl status says %q", line)
	}

	put(t, directory+"shop.yaml", shop)
	settled(t, "shop")
	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}
}

// A removed file stops its services after the grace and keeps the volume with its data; the file put back brings
// the data back.
func TestRemovedFileKeepsItsData(t *testing.T) {
	quick := shop + "x-ic-agent: {remove-grace: 2s}\n"
	drop(t, "shop", quick)
	running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "incus exec cache-1 --project shop -- redis-cli set answer 42")
	run(t, "rm "+directory+"shop.yaml")
	eventually(t, "the services to stop", func(ctx context.Context) error {
		found, err := instances(ctx, "shop")
		if err != nil {
			return err
		}

		for n, i := range found {
			if i.Status == "Running" {
				return fmt.Errorf("%s runs", n)
			}
		}

		return nil
	})
	run(t, "incus storage volume show default vol-data --project shop")
	put(t, directory+"shop.yaml", quick)
	running(t, "shop", "web-1", "cache-1")
	eventually(t, "the data to be back", func(ctx context.Context) error {
		out, err := try(ctx, "incus exec cache-1 --project shop -- redis-cli get answer")
		if err == nil && strings.TrimSpace(out) != "42" {
			err = fmt.Errorf("the answer is %q", out)
		}

		return err
	})
}

// A stop gives the app its whole grace: one that needs five seconds to clean up gets them.
func TestStopHonoursItsGrace(t *testing.T) {
	drop(t, "slow", `services:
  app:
    image: busybox
    stop_grace_period: 20s
    volumes: ["out:/out"]
    command: ["sh", "-c", "trap 'sleep 5; echo clean > /out/end; exit 0' TERM; echo up > /out/begin; while :; do sleep 1; done"]
volumes: {out: {}}
x-ic-agent: {remove-grace: 1s}
`)
	running(t, "slow", "app-1")
	eventually(t, "the app to be up", func(ctx context.Context) error {
		_, err := try(ctx, "incus exec app-1 --project slow -- cat /out/begin")
		return err
	})
	run(t, "rm "+directory+"slow.yaml")
	eventually(t, "the app to have cleaned up", func(ctx context.Context) error {
		out, err := try(ctx, "cat /var/lib/incus/storage-pools/default/custom/slow_vol-out/end")
		if err == nil && strings.TrimSpace(out) != "clean" {
			err = fmt.Errorf("it left %q", out)
		}

		return err
	})
}

// A container resolves another one by its service, instance and full names, and outside names through the host.
func TestContainerResolvesAnother(t *testing.T) {
	drop(t, "shop", strings.Replace(shop, "    restart: always", "    restart: always\n    networks: {default: {aliases: [kv]}}", 1))
	found := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	want, _, _ := strings.Cut(found["cache-1"].Devices["eth0"]["ipv4.address"], "/")
	for _, name := range []string{"cache", "cache-1", "kv", "cache.shop.incus", "cache-1.shop.incus", "CACHE.shop.incus"} {
		out := run(t, "incus exec web-1 --project shop -- getent hosts "+name+" || incus exec web-1 --project shop -- nslookup "+name)
		if !strings.Contains(out, want) {
			t.Errorf("%s is %q, want %s", name, out, want)
		}
	}

	out, err := try(t.Context(), "incus exec web-1 --project shop -- nslookup nobody.shop.incus")
	if err == nil && !strings.Contains(out, "NXDOMAIN") {
		t.Errorf("an unknown name is answered: %s", out)
	}

	out = run(t, "incus exec web-1 --project shop -- nslookup upstream.example.test")
	if !strings.Contains(out, "192.0.2.1") {
		t.Errorf("the outside name is %q", out)
	}
}

// The status as JSON is what a program can read.
func TestStatusIsJSON(t *testing.T) {
	var any map[string]json.RawMessage
	err := json.Unmarshal([]byte(run(t, "ic-agent status --json")), &any)
	if err != nil || any["stacks"] == nil || any["incus"] == nil {
		t.Errorf("status --json: %v, %v", err, any)
	}
}

// A renamed file whose project name stays changes nothing: the stack goes on under its new name.
func TestRenamedFileChangesNothing(t *testing.T) {
	drop(t, "shop", "name: shop\n"+shop)
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "mv "+directory+"shop.yaml "+directory+"store.yaml")
	t.Cleanup(func() { _, _ = try(context.WithoutCancel(t.Context()), "rm -f "+directory+"store.yaml") })
	settled(t, "store")
	if out := run(t, "ic-agent history store"); !strings.Contains(out, "new stack") || strings.Contains(out, "2 *") {
		t.Errorf("its history is\n%s", out)
	}

	after := running(t, "shop", "web-1", "cache-1")
	if got := restarted(before, after); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	for n := range before {
		if a, b := before[n].Devices["eth0"]["ipv4.address"], after[n].Devices["eth0"]["ipv4.address"]; a != b {
			t.Errorf("%s moved from %s to %s", n, a, b)
		}
	}
}
