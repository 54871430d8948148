//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// corpus are checks as people write them, by the service they are made in. curl is not in these images: the host's own
// asks in the network of the instance.
var corpus = map[string][]string{
	"web": {
		"wget --spider http://localhost", "wget -q --spider http://localhost/ || exit 1", "wget -qO- http://127.0.0.1:80/", "wget -q -O - http://localhost",
		"wget -qO /dev/null http://localhost/nope", "wget --spider -q http://localhost:81 || exit 1", "wget -qO- http://localhost/ | grep -q nginx",
		"wget -qO- http://localhost/ | grep -q absent", "wget -q -T 2 -O- http://127.0.0.1 > /dev/null 2>&1", `sh -c "wget -qO- http://localhost"`,
		"wget -qO- http://localhost:${PORT}/", "wget -qO- http://localhost:${NONE:-81}/",
		"curl -f http://localhost", "curl -f http://localhost/ || exit 1", "curl -fsS http://127.0.0.1:80/ -o /dev/null", "curl -f http://localhost/nope",
		"curl http://localhost/nope", "curl -sf http://localhost:81 || exit 1", "curl -sfL -m 3 http://localhost/", "curl -fI http://localhost/",
		"curl -s http://localhost/ | grep -q nginx", "curl -s http://localhost/ | grep -q absent", "curl -f -X POST http://localhost/",
		"curl --fail --silent --max-time 2 http://localhost/nope || exit 1",
	},
	"cache": {
		"redis-cli ping", "redis-cli ping | grep PONG", "redis-cli ping | grep absent", "redis-cli -p 6380 ping", `test "$(redis-cli ping)" = PONG`,
		`[ "$(redis-cli -h 127.0.0.1 ping)" = "PONG" ] || exit 1`, "redis-cli --raw ping 2>&1 | grep -q PONG", "redis-cli -a wrong --no-auth-warning ping",
	},
	"db": {
		"pg_isready", "pg_isready -U postgres", "pg_isready -U postgres -d postgres || exit 1", "pg_isready -q -h localhost -p 5432", "pg_isready -p 5433",
		"pg_isready -U nobody -t 2",
	},
}

// X3: what the host finds is what the command finds, for each of the forms that it knows.
func TestX3BothWaysAgree(t *testing.T) {
	drop(t, "corpus", `services:
  web: {image: "nginx:1.27", environment: {PORT: 80}}
  cache: {image: "redis:7"}
  db: {image: "postgres:17", environment: {POSTGRES_PASSWORD: secret}, healthcheck: {test: pg_isready, interval: 500ms}}
`)
	now := running(t, "corpus", "web-1", "cache-1", "db-1")
	judged(t, "corpus", "db-1", "healthy")
	n := 0
	for service, lines := range corpus {
		var script strings.Builder
		for _, line := range lines {
			fmt.Fprintf(&script, "ic-healthd probe --try '%s' corpus/%s\n", line, service)
			if strings.HasPrefix(line, "curl") {
				fmt.Fprintf(&script, "nsenter -t %d -n sh -c '%s' >/dev/null 2>&1 && echo 'verdict:   passed,' || echo 'verdict:   failed,'\n", now[service+"-1"].State.PID, line)
			}

			script.WriteString("echo ----\n")
		}

		answers := strings.Split(run(t, script.String()+"true"), "----\n")
		for i, line := range lines {
			n++
			_, host, known := strings.Cut(answers[i], "from host: ")
			host, _, _ = strings.Cut(host, " after ")
			passed := strings.HasSuffix(host, ": passed")
			at := strings.LastIndex(answers[i], "verdict:   ")
			if !known || at < 0 || strings.HasPrefix(answers[i][at:], "verdict:   passed,") != passed {
				t.Errorf("%s: %s: both ways:\n%s", service, line, answers[i])
			}
		}
	}

	if n < 30 {
		t.Errorf("only %d lines", n)
	}
}

// Checks from the host reach a verdict, and a command that the host stands for costs no process in the instance.
func TestX3AutoCostsNoProcess(t *testing.T) {
	drop(t, "auto", `services:
  cache: {image: "redis:7", healthcheck: {test: "redis-cli ping", interval: 300ms, retries: 2}, x-ic-agent: {probe: auto}, restart: always}
  web: {image: "nginx:1.27", x-ic-agent: {probe: {http: 80}}, healthcheck: {interval: 300ms}}
  deaf: {image: "redis:7", command: [redis-server, --bind, 127.0.0.1], healthcheck: {test: "redis-cli ping", interval: 300ms}, x-ic-agent: {probe: auto}}
`)
	running(t, "auto", "cache-1", "web-1", "deaf-1")
	for _, n := range []string{"cache-1", "web-1", "deaf-1"} {
		judged(t, "auto", n, "healthy") // deaf-1 by its command: the host cannot connect
	}

	execs := run(t, "timeout 3 incus monitor --project auto --type lifecycle --format json || true")
	for line := range strings.SplitSeq(execs, "\n") {
		if strings.Contains(line, "instance-exec") && (strings.Contains(line, "cache-1") || strings.Contains(line, "web-1")) {
			t.Errorf("a command was run: %s", line)
		}
	}

	if !strings.Contains(execs, "deaf-1") {
		t.Errorf("nothing is run in deaf-1:\n%s", execs)
	}
}

// H20: the exit code of an instance without a log that tells it comes from the kernel.
func TestH20ExitCodesWithoutALog(t *testing.T) {
	drop(t, "codes", "services: {a: {image: busybox, command: [sleep, inf]}}\n")
	running(t, "codes", "a-1")
	since := moment(t)
	run(t, `fp=$(incus config get --project codes a-1 volatile.base_image)
		for code in 0 3; do
			incus init --project codes $fp code$code -s default -c user.healthcheck.enabled=true -c user.healthcheck.restart=on-failure:1 -c oci.entrypoint="sh -c 'sleep 2; exit $code'" </dev/null
			incus start --project codes code$code
		done`)
	defer run(t, "incus delete -f --project codes code0 code3")
	eventually(t, "both ends are told apart", func(context.Context) error {
		log := told(t, since)
		if !strings.Contains(log, `instance=code0 text="ended with exit code 0: done`) || !strings.Contains(log, `instance=code3 text="restarted 1 time, which is the limit: given up (ended by itself: exit code 3)`) {
			return fmt.Errorf("the journal says %s", log)
		}

		return nil
	})
}

// H10: a probe that floods costs no memory, and the beginning of what it says is kept.
func TestH10AProbeThatFloods(t *testing.T) {
	drop(t, "flood", `services: {web: {image: busybox, command: [sleep, inf], healthcheck: {test: "yes flood | head -c 20000000; exit 1", interval: 2s, retries: 1}}}`+"\n")
	running(t, "flood", "web-1")
	judged(t, "flood", "web-1", "unhealthy")
	var view struct {
		Instances []struct {
			Project string `json:"project"`
			Results []struct {
				Output string `json:"output"`
			} `json:"results"`
		} `json:"instances"`
	}
	out := run(t, "ic-healthd status --json || true")
	err := json.Unmarshal([]byte(out), &view)
	if err != nil {
		t.Fatal(err)
	}

	for _, i := range view.Instances {
		if i.Project == "flood" && (len(i.Results) == 0 || !strings.Contains(i.Results[0].Output, "flood\nflood\n") || len(i.Results[0].Output) > 4200) {
			t.Errorf("the results are %.300q", fmt.Sprint(i.Results))
		}
	}

	rss := run(t, "awk '/VmRSS/ {print $2}' /proc/$(systemctl show -p MainPID --value ic-healthd)/status")
	var kb int
	_, err = fmt.Sscan(rss, &kb)
	if err != nil || kb > 80_000 {
		t.Errorf("it uses %s KB", rss)
	}
}

// The health daemon as an instance: it looks after its project, the host's leaves that alone, and its certificate
// opens nothing else.
func TestHealthDaemonAsAnInstance(t *testing.T) {
	run(t, "incus config set core.https_address=127.0.0.1:8443")
	defer run(t, "incus config unset core.https_address")
	drop(t, "guest", `services: {web: {image: busybox, command: [sleep, inf], restart: always, healthcheck: {test: [CMD, "true"], interval: 500ms}}, site: {image: "nginx:1.27", x-ic-agent: {probe: {http: 80}}, healthcheck: {interval: 500ms, retries: 1}}}`+"\n")
	before := running(t, "guest", "web-1", "site-1")
	judged(t, "guest", "web-1", "healthy")
	namesake(t)
	first := traces(t)
	restricted(t)
	run(t, "ic-agent healthd up --project guest")
	gone := false
	defer func() {
		if !gone {
			run(t, "ic-agent healthd down --project guest")
		}
	}()
	eventually(t, "the host's daemon says so", func(ctx context.Context) error {
		out, err := try(ctx, "ic-healthd status || true")
		if err == nil && !strings.Contains(out, "project guest: the health daemon in instance ic-healthd") {
			err = fmt.Errorf("it says %s", out)
		}

		return err
	})
	since := moment(t)
	run(t, fmt.Sprintf("kill -9 %d", before["web-1"].State.PID))
	anew(t, "guest", "web-1", before)
	judged(t, "guest", "web-1", "healthy")
	if log := told(t, since); strings.Contains(log, "project=guest") {
		t.Errorf("the host's daemon acts, too:\n%s", log)
	}

	// It has no network, and makes checks there all the same.
	judged(t, "guest", "site-1", "healthy")
	run(t, "incus exec --project guest site-1 -- mv /usr/share/nginx/html/index.html /usr/share/nginx/html/away")
	judged(t, "guest", "site-1", "unhealthy")
	run(t, "incus exec --project guest site-1 -- mv /usr/share/nginx/html/away /usr/share/nginx/html/index.html")
	judged(t, "guest", "site-1", "healthy")

	if out := run(t, "ic-agent healthd status --project guest"); !strings.Contains(out, "guest/web-1") || !strings.Contains(out, "certificates trusted: 1") {
		t.Errorf("it says %s", out)
	}

	// What docs/health.md promises about the certificate.
	run(t, `cd /root; for f in crt key; do incus file pull --project guest ic-healthd/var/lib/ic-healthd/client.$f client.$f; done`)
	defer run(t, "rm -f /root/client.crt /root/client.key")
	for _, c := range [][4]string{
		{"GET", "/1.0/instances/web-1?project=guest", "", "200"},
		{"GET", "/1.0/instances/web-1/logs/lxc.log?project=guest", "", "200"},
		{"POST", "/1.0/instances/web-1/exec?project=guest", `{"command":["true"]}`, "202"},
		{"PATCH", "/1.0/instances/web-1?project=guest", `{"config":{"user.seen":"1"}}`, "200"},
		{"POST", "/1.0/storage-pools/default/volumes/custom?project=guest", `{"name":"made"}`, "200"},
		{"DELETE", "/1.0/storage-pools/default/volumes/custom/made?project=guest", "", "200"},
		{"POST", "/1.0/instances?project=guest", `{"name":"root","type":"container","source":{"type":"none"},"config":{"security.privileged":"true"},"devices":{"root":{"type":"disk","path":"/","pool":"default"},"host":{"type":"disk","path":"/host","source":"/"}}}`, "202"},
		{"GET", "/1.0/instances/web-1?project=default", "", "403"},
		{"GET", "/1.0/profiles/default?project=default", "", "403"},
		{"GET", "/1.0/projects/default", "", "403"},
		{"GET", "/1.0/warnings", "", "403"},
		{"POST", "/1.0/projects", "{}", "403"},
		{"POST", "/1.0/certificates", `{"type":"client","token":true,"name":"x"}`, "403"},
		{"PATCH", "/1.0", "{}", "403"},
		{"PATCH", "/1.0/projects/guest", "{}", "403"},
		{"POST", "/1.0/networks?project=default", "{}", "403"},
		{"PATCH", "/1.0/networks/guest-default?project=guest", `{"config":{"user.x":"1"}}`, "403"},
		{"DELETE", "/1.0/networks/incusbr0?project=guest", "", "403"},
	} {
		got := run(t, fmt.Sprintf("curl -sk -o /dev/null -w '%%{http_code}' --cert /root/client.crt --key /root/client.key -X %s -d '%s' 'https://127.0.0.1:8443%s'", c[0], c[2], c[1]))
		if got != c[3] {
			t.Errorf("%s %s answers %s, want %s", c[0], c[1], got, c[3])
		}
	}

	run(t, "for i in 1 2 3 4 5; do incus delete --project guest root && exit 0; sleep 1; done; exit 1") // it was made
	if out := run(t, "curl -sk --cert /root/client.crt --key /root/client.key https://127.0.0.1:8443/1.0"); strings.Contains(out, "core.https_address") {
		t.Errorf("it sees the server's settings: %s", out)
	}

	run(t, "ic-agent healthd down --project guest")
	gone = true
	if now := traces(t); now != first {
		t.Errorf("before it came there was\n%s\nand after it went\n%s", first, now)
	}

	// The host's own takes over, also where the instance was deleted by hand.
	died(t, "guest", "web-1")
	run(t, "ic-agent healthd up --project guest && incus delete -f --project guest ic-healthd && ic-agent healthd down --project guest")
	if now := traces(t); now != first {
		t.Errorf("before it came there was\n%s\nand after its instance was deleted and it went\n%s", first, now)
	}

	died(t, "guest", "web-1")
	if out := run(t, "ic-agent healthd down --project guest"); !strings.Contains(out, "there is no ic-healthd in project guest") || !strings.Contains(out, "is not ours: it stays") {
		t.Errorf("a second time it says %s", out)
	}
}

// died kills the program of an instance and waits for the daemon of the host to say so and to bring it back.
func died(t *testing.T, stack, instance string) {
	t.Helper()
	since := moment(t)
	before, err := instances(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}

	run(t, fmt.Sprintf("kill -9 %d", before[instance].State.PID))
	anew(t, stack, instance, before)
	judged(t, stack, instance, "healthy")
	eventually(t, "the host's daemon tells of it", func(context.Context) error {
		log := told(t, since)
		if !strings.Contains(log, "restarting project="+stack+" instance="+instance) {
			return fmt.Errorf("the journal says %s", log)
		}

		return nil
	})
}

// namesake has a user trust a certificate of his own under the guest's name, for the same project.
func namesake(t *testing.T) {
	t.Helper()
	run(t, `cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout mine.key -out mine.crt -subj /CN=mine -days 2 2>/dev/null
		incus config trust add-certificate mine.crt --name ic-healthd --restricted --projects guest
		incus storage volume create --project guest default mine`)
	t.Cleanup(func() {
		out, err := try(context.WithoutCancel(t.Context()), `incus config trust remove $(openssl x509 -in /root/mine.crt -outform der | sha256sum | cut -c1-64); rm -f /root/mine.*; incus storage volume delete --project guest default mine`)
		if err != nil {
			t.Errorf("%s: %v", out, err)
		}
	})
}

// traces is all in which a guest may leave something.
func traces(t *testing.T) string {
	t.Helper()

	return run(t, `incus config trust list -f csv; incus list --project guest -f csv -c n; incus image list --project guest -f csv -c fd
		incus storage volume list default type=custom --project guest -f csv -c n; incus project get guest user.healthcheck.scope; incus project show guest | grep healthd || true`)
}

// restricted shows what docs/health.md says of a restricted project: it needs room for the guest, whose certificate then
// makes neither a privileged instance nor one with a directory of the host.
func restricted(t *testing.T) {
	t.Helper()
	run(t, "incus project create narrow -c features.images=false -c restricted=true")
	defer run(t, "incus project delete narrow")
	out, err := try(t.Context(), "ic-agent healthd up --project narrow 2>&1")
	if err == nil || !strings.Contains(out, "incus project set narrow restricted.devices.proxy=allow") {
		t.Errorf("without room it says %s (%v)", out, err)
	}

	run(t, "incus project set narrow restricted.devices.proxy=allow && ic-agent healthd up --project narrow")
	defer run(t, "ic-agent healthd down --project narrow")
	run(t, `cd /root; for f in crt key; do incus file pull --project narrow ic-healthd/var/lib/ic-healthd/client.$f client.$f; done`)
	for _, c := range [][2]string{
		{`"config":{"security.privileged":"true"},"devices":{"root":{"type":"disk","path":"/","pool":"default"}}`, "Privileged containers are forbidden"},
		{`"devices":{"root":{"type":"disk","path":"/","pool":"default"},"host":{"type":"disk","path":"/host","source":"/"}}`, "Attaching disks not backed by a pool is forbidden"},
		{`"config":{"raw.lxc":"lxc.hook.pre-start=/bin/true"},"devices":{"root":{"type":"disk","path":"/","pool":"default"}}`, "low-level config"},
	} {
		got := run(t, `curl -sk --cert /root/client.crt --key /root/client.key -X POST -d '{"name":"root","type":"container","source":{"type":"none"},`+c[0]+`}' 'https://127.0.0.1:8443/1.0/instances?project=narrow'`)
		if !strings.Contains(got, c[1]) {
			t.Errorf("%s answers %s", c[0], got)
		}
	}
}

// After a boot many checks are due at once: each instance is found healthy, none is restarted; and what a user stopped
// stays stopped.
func TestH26H18ManyAtOnceAfterABoot(t *testing.T) {
	drop(t, "many", `services:
  web: {image: busybox, command: [sleep, inf], stop_grace_period: 1s, scale: 8, restart: unless-stopped, healthcheck: {test: [CMD, "true"], interval: 1s, timeout: 5s}}
  off: {image: busybox, command: [sleep, inf], stop_grace_period: 1s, restart: unless-stopped}
`)
	names := []string{"off-1"}
	for i := range 8 {
		names = append(names, fmt.Sprintf("web-%d", i+1))
	}

	before := running(t, "many", names...)
	for _, n := range names {
		judged(t, "many", n, "healthy")
	}

	run(t, "incus stop --force --project many off-1")
	judged(t, "many", "off-1", "stopped")
	out, err := command(t, "reboot")
	if err != nil {
		t.Fatalf("reboot: %v\n%s", err, out)
	}

	for _, n := range names[1:] {
		anew(t, "many", n, before)
		judged(t, "many", n, "healthy")
	}

	stays(t, "many", "off-1", "Stopped")
	if log := run(t, "journalctl -b -u ic-healthd -o cat --no-pager"); strings.Contains(log, "restarting project=") || strings.Contains(log, "to=unhealthy") {
		t.Errorf("the journal says:\n%s", log)
	}
}
