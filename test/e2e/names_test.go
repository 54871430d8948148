//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// street has a web of two, a database on a network of its own, an app that is on both networks, and a vault that has no
// way out.
const street = `services:
  web:
    image: nginx:alpine
    deploy: {replicas: 2}
    networks: [front]
    restart: "no"
    healthcheck: {test: ["CMD", "test", "!", "-e", "/tmp/sick"], interval: 1s, retries: 1}
  app:
    image: redis:alpine
    networks: [front, back]
  db:
    image: redis:alpine
    command: redis-server --bind 0.0.0.0 --protected-mode no
    networks: [back]
  vault:
    image: redis:alpine
    networks: [closed]
networks:
  front: {}
  back: {}
  closed: {internal: true}
`

// inside asks from within an instance; the answer is the addresses of busybox's nslookup, sorted, or its complaint.
func inside(ctx context.Context, instance, name string) string {
	out, err := try(ctx, "incus exec "+instance+" --project street -- nslookup "+name)
	var addrs []string
	_, answer, _ := strings.Cut(out, "Name:")
	for line := range strings.Lines(answer) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[0], "Address") {
			addrs = append(addrs, f[len(f)-1])
		}
	}

	if err != nil && len(addrs) == 0 {
		return "none"
	}

	slices.Sort(addrs)

	return strings.Join(addrs, " ")
}

// address is an instance's on a network, as Incus has it.
func address(t *testing.T, instance, network string) string {
	t.Helper()
	all, err := instances(t.Context(), "street")
	if err != nil {
		t.Fatal(err)
	}

	for _, d := range all[instance].Devices {
		if d["network"] == network {
			addr, _, _ := strings.Cut(d["ipv4.address"], "/")
			return addr
		}
	}

	t.Fatalf("%s is not on %s: %v", instance, network, all[instance].Devices)

	return ""
}

// TestNames: who is on a network finds the names on it, from the inside of containers and from the host, whatever
// becomes of replicas, the agent and the name servers outside.
func TestNames(t *testing.T) {
	// The name server outside says what it is asked.
	put(t, "/run/systemd/system/lab-upstream-dns.service.d/log.conf",
		"[Service]\nExecStart=\nExecStart=/usr/sbin/dnsmasq --keep-in-foreground --conf-file=/etc/lab/upstream-dns.conf --log-queries"+
			" --host-record=evil.example.test,10.9.9.9 --host-record=nas.example.test,10.9.9.8\n")
	run(t, "systemctl daemon-reload; systemctl restart lab-upstream-dns")
	drop(t, "street", street)
	running(t, "street", "web-1", "web-2", "app-1", "db-1", "vault-1")
	judged(t, "street", "web-1", "healthy")
	judged(t, "street", "web-2", "healthy")
	settled(t, "street")
	web1, web2 := address(t, "web-1", "street-front"), address(t, "web-2", "street-front")
	back := address(t, "db-1", "street-back")
	gateway := run(t, "incus network get street-front ipv4.address | cut -d/ -f1")
	both := []string{web1, web2}
	slices.Sort(both)

	t.Run("D05 names by network", func(t *testing.T) {
		for _, q := range []struct{ from, name, want string }{
			{"app-1", "web", strings.Join(both, " ")},
			{"app-1", "web.street.incus", strings.Join(both, " ")},
			{"app-1", "db", back},
			{"web-1", "db", "none"},
			{"db-1", "web", "none"},
			{"web-1", "app", address(t, "app-1", "street-front")},
			{"db-1", "app", address(t, "app-1", "street-back")},
		} {
			eventually(t, fmt.Sprintf("%s is told %s for %s", q.from, q.want, q.name), func(ctx context.Context) error {
				got := inside(ctx, q.from, q.name)
				if got != q.want {
					return fmt.Errorf("it is told %q", got)
				}

				return nil
			})
		}
	})

	t.Run("D37 the LAN", func(t *testing.T) {
		openToLAN(t)
		onTheLAN(t, both, gateway, back, address(t, "app-1", "street-back"))
	})

	t.Run("a database client finds its server by name", func(t *testing.T) {
		eventually(t, "a value written and read", func(ctx context.Context) error {
			out, err := try(ctx, "incus exec app-1 --project street -- redis-cli -h db set street 42 && incus exec app-1 --project street -- redis-cli -h db.street.incus get street")
			if err == nil && out != "OK\n42\n" {
				err = fmt.Errorf("redis-cli says %q", out)
			}

			return err
		})
	})

	t.Run("D41 the host resolves a service", func(t *testing.T) {
		hostFinds(t, web1, web2)
		// Resolved forgets links when it is restarted; the agent tells it again.
		run(t, "systemctl restart systemd-resolved")
		hostFinds(t, web1, web2)
	})

	t.Run("B1 a sick replica leaves and returns", func(t *testing.T) {
		run(t, "incus exec web-1 --project street -- touch /tmp/sick")
		names(t, gateway, "web.street.incus", web2)
		names(t, gateway, "tasks.web.street.incus", both...)
		run(t, "incus exec web-1 --project street -- rm /tmp/sick")
		names(t, gateway, "web.street.incus", both...)
	})

	t.Run("D33 an internal network cannot leak", func(t *testing.T) {
		got := inside(t.Context(), "vault-1", "leaky.example.test") + inside(t.Context(), "app-1", "outward.example.test")
		if got != "nonenone" {
			t.Errorf("names that do not exist are %q", got)
		}

		journal := run(t, "journalctl -u lab-upstream-dns -o cat --no-pager")
		if strings.Contains(journal, "leaky.") || !strings.Contains(journal, "outward.") {
			t.Errorf("the server outside was asked for one that is internal, or was not asked at all:\n%s", journal)
		}
	})

	t.Run("B7 D39 a restart and a crash under 5,000 questions a second lose none", func(t *testing.T) {
		// Its own buffers (-b) have to hold the answers that come at once, too.
		out := run(t, "echo web.street.incus A > /tmp/questions; (sleep 1; systemctl restart ic-agent; sleep 1; "+
			"kill -9 $(systemctl show -p MainPID --value ic-agent)) & dnsperf -s "+gateway+" -d /tmp/questions -Q 5000 -q 50000 -c 8 -b 4096 -l 5 -t 5; wait")
		if !strings.Contains(out, "Queries lost:         0 ") || !strings.Contains(out, "(100.00%)\n\n  Average") && strings.Count(out, "NOERROR") != 1 {
			t.Errorf("dnsperf says:\n%s", out)
		}
	})

	t.Run("D28 local names do not need the outside", func(t *testing.T) {
		run(t, "systemctl stop lab-upstream-dns; ip address add 192.0.2.53/32 dev lo 2>/dev/null; true")
		defer run(t, "systemctl start lab-upstream-dns")
		// One try of a second each: what took longer, or was not answered, would fail.
		run(t, "for i in $(seq 20); do dig +tries=1 +time=1 +short @"+gateway+" web.street.incus | grep -q . || exit 1; done")
		got := inside(t.Context(), "app-1", "db")
		if got != back {
			t.Errorf("app-1 is told %q for db", got)
		}
	})

	t.Run("D40 Incus away changes no answer", func(t *testing.T) {
		// Its own stop would stop the instances too.
		run(t, "kill -STOP $(systemctl show -p MainPID --value incus); systemctl restart ic-agent")
		defer run(t, "kill -CONT $(systemctl show -p MainPID --value incus)")
		names(t, gateway, "web.street.incus", both...)
	})
}

// hostFinds waits until the host's own programs find web.
func hostFinds(t *testing.T, want ...string) {
	t.Helper()
	eventually(t, "getent on the host", func(ctx context.Context) error {
		out, err := try(ctx, "getent hosts web.street.incus; getent hosts "+want[0])
		if err != nil {
			return err
		}

		for _, w := range append(want, "web-1.street.incus") {
			if !strings.Contains(out, w) {
				return fmt.Errorf("getent says %q", out)
			}
		}

		return nil
	})
}

// names waits until the host is given exactly these addresses.
func names(t *testing.T, at, name string, want ...string) {
	t.Helper()
	eventually(t, name+" is "+strings.Join(want, " "), func(ctx context.Context) error {
		out, err := try(ctx, "dig +short @"+at+" "+name)
		got := strings.Fields(out)
		slices.Sort(got)
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it is %v", got)
		}

		return err
	})
}

// inn is a stack on a bridge that Incus runs dnsmasq on.
const inn = `services:
  host:
    image: nginx:alpine
    networks: [lan]
  visitor:
    image: redis:alpine
    networks: [lan]
networks:
  lan: {external: true, name: incusbr0}
`

// TestD42NamesBesideDnsmasq: on a network of others, whose gateway has dnsmasq, containers find each other, and an
// instance made by hand, as soon as it has its lease; dnsmasq is left as it is.
func TestD42NamesBesideDnsmasq(t *testing.T) {
	before := run(t, "cat /var/lib/incus/networks/incusbr0/dnsmasq.pid | grep pid; incus network show incusbr0 | grep -v /1.0/instances")
	drop(t, "inn", inn)
	running(t, "inn", "host-1", "visitor-1")
	run(t, "incus launch $(incus image list -f csv -c fd | grep redis | cut -d, -f1 | head -n 1) hand --network incusbr0")
	for _, name := range []string{"visitor", "visitor.inn.incus", "hand.default.incus"} {
		eventually(t, name+" is found from inside", func(ctx context.Context) error {
			out, err := try(ctx, "incus exec host-1 --project inn -- nslookup "+name)
			if err == nil && !strings.Contains(out, "Address: 10.158.7.") {
				err = fmt.Errorf("nslookup says %q", out)
			}

			return err
		})
	}

	eventually(t, "the host finds what is on the network of others", func(ctx context.Context) error {
		out, err := try(ctx, "getent hosts visitor.inn.incus; getent hosts $(dig +short @169.254.53.53 visitor.inn.incus)")
		if err == nil && strings.Count(out, "10.158.7.") != 2 {
			err = fmt.Errorf("getent says %q", out)
		}

		return err
	})

	run(t, "incus delete -f hand")
	eventually(t, "a name that is gone", func(ctx context.Context) error {
		out, err := try(ctx, "dig @169.254.53.53 hand.default.incus")
		if err == nil && !strings.Contains(out, "NXDOMAIN") {
			err = fmt.Errorf("dig says %q", out)
		}

		return err
	})
	after := run(t, "cat /var/lib/incus/networks/incusbr0/dnsmasq.pid | grep pid; incus network show incusbr0 | grep -v /1.0/instances")
	if before != after {
		t.Errorf("the network was\n%s\nand is\n%s", before, after)
	}
}
