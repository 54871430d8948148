//go:build bench

package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
)

// spent is what the lab has used of the processors, and the health daemon of that.
type spent struct{ all, daemon time.Duration }

func (s spent) since(o spent) spent { return spent{s.all - o.all, s.daemon - o.daemon} }

func used(t *testing.T) spent {
	t.Helper()
	var s spent
	for line := range strings.Lines(sh(t, "cat /sys/fs/cgroup/cpu.stat; sed 's/^/daemon_/' /sys/fs/cgroup/system.slice/ic-healthd.service/cpu.stat 2>/dev/null || true")) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseInt(v, 10, 64)
		switch name {
		case "usage_usec":
			s.all = time.Duration(n) * time.Microsecond
		case "daemon_usage_usec":
			s.daemon = time.Duration(n) * time.Microsecond
		}
	}

	return s
}

// counts are the counters of the health daemon, histograms with their buckets.
type counts map[string]float64

func counted(t *testing.T) counts {
	t.Helper()
	c := counts{}
	for line := range strings.Lines(sh(t, "curl -sf --unix-socket /run/ic-healthd/status.sock http://x/metrics")) {
		name, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(v, 64)
		if err == nil {
			c[strings.TrimPrefix(name, "ic_healthd_")] = n
		}
	}

	return c
}

func (c counts) since(o counts) counts {
	d := counts{}
	for name, v := range c {
		d[name] = v - o[name]
	}

	return d
}

// checks is how many were made.
func (c counts) checks() float64 { return c["check_duration_seconds_count"] }

// within tells below which bucket of a histogram a part of all is.
func (c counts) within(name string, part float64) string {
	type bucket struct{ le, n float64 }
	var list []bucket
	for key, n := range c {
		le, found := strings.CutPrefix(key, name+`_bucket{le="`)
		f, err := strconv.ParseFloat(strings.TrimSuffix(le, `"}`), 64)
		if found && err == nil {
			list = append(list, bucket{f, n})
		}
	}

	slices.SortFunc(list, func(a, b bucket) int { return cmp.Compare(a.le, b.le) })
	for _, b := range list {
		if b.n >= part*c[name+"_count"] {
			return fmt.Sprintf("≤ %g s", b.le)
		}
	}

	return "more"
}

// healthy waits until so many instances of a project are.
func healthy(t *testing.T, project string, n int) {
	t.Helper()
	for range 600 {
		if sh(t, "ic-healthd status | grep -c '^"+project+"/.* healthy ' || true") == strconv.Itoa(n) {
			return
		}

		pause(t, time.Second)
	}

	t.Fatalf("not %d healthy instances in %s", n, project)
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// gone removes a stack's file and what was made of it.
func gone(t *testing.T, stack string) {
	t.Helper()
	sh(t, "rm -f /etc/incus-compose.d/"+stack+".yaml; ic-agent destroy --volumes --yes "+stack+" >/dev/null 2>&1 || true")
}

// settled waits until a stack is as its file says.
func settled(t *testing.T, stack string) {
	t.Helper()
	for range 120 {
		if strings.Contains(sh(t, "ic-agent reload --wait 2>&1 || true"), stack+"  in sync") {
			return
		}

		pause(t, time.Second)
	}

	t.Fatalf("%s is not in sync: %s", stack, sh(t, "ic-agent status "+stack+" || true"))
}

// checked waits until so many checks more were made.
func checked(t *testing.T, n float64) {
	t.Helper()
	begin := counted(t).checks()
	for range 120 {
		if counted(t).checks() >= begin+n {
			return
		}

		pause(t, time.Second)
	}

	t.Fatal("no checks are made")
}

// cost is what the checks of a window took.
type cost struct {
	what  string
	n     float64
	spent spent
	took  time.Duration // each
}

// each is what one of them cost, less what the same time costs without any.
func (c cost) each(idle spent) spent {
	s, n := c.spent.since(idle), max(1, c.n)

	return spent{time.Duration(float64(s.all) / n), time.Duration(float64(s.daemon) / n)}
}

// TestX3HostAgainstExec is what a check costs the host when a command makes it and when the host does: the same
// question to the same ten instances, in one run, less what they cost without any.
func TestX3HostAgainstExec(t *testing.T) {
	const window = 10 * time.Second
	during := func(what, check string) cost {
		rename(t, root(t), "cost", `services: {web: {image: "nginx:1.27", scale: 10, stop_grace_period: 1s`+check+"}}\n")
		settled(t, "cost")
		healthy(t, "cost", 10)
		if what != "" {
			checked(t, 100) // by the new definition, and none of the old one is left
		}

		c, u := counted(t), used(t)
		pause(t, window)
		s, d := used(t).since(u), counted(t).since(c)

		return cost{what, d.checks(), s, time.Duration(d["check_duration_seconds_sum"] / max(1, d.checks()) * 1e9)}
	}

	const times = `interval: 200ms, timeout: 10s, retries: 5`
	all := []cost{
		during("a command (wget)", `, healthcheck: {test: "wget -q --spider http://localhost/", `+times+`}`),
		during("from the host, http   (goal 300µs)", `, healthcheck: {`+times+`}, x-ic-agent: {probe: {http: 80}}`),
		during("from the host, tcp    (goal 300µs)", `, healthcheck: {`+times+`}, x-ic-agent: {probe: {tcp: 80}}`),
		during("from the host instead of the command (auto)", `, healthcheck: {test: "wget -q --spider http://localhost/", `+times+`}, x-ic-agent: {probe: auto}`),
	}
	idle := during("", `, restart: always`).spent

	fmt.Printf("\na check of ten instances of nginx, each every 200 ms, in processor time\n")
	for _, c := range all {
		each := c.each(idle)
		fmt.Printf("  %-44s %8s, %s of it the daemon's; takes %s\n", c.what, each.all.Round(time.Microsecond), each.daemon.Round(time.Microsecond), c.took.Round(10*time.Microsecond))
	}

	fmt.Printf("  %-44s %8.0f   (goal 20)\n", "a command costs so many times as much", float64(all[0].each(idle).all)/float64(all[1].each(idle).all))
	gone(t, "cost")
}

// happened is an event with the time that Incus put on it.
type happened struct {
	at                     time.Time
	what, project, subject string
}

// listen collects what happens in a project.
func listen(t *testing.T, c incusapi.InstanceServer, project string) <-chan happened {
	t.Helper()
	l, err := c.GetEventsAllProjects()
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(l.Disconnect)
	events := make(chan happened, 10000)
	_, err = l.AddHandler([]string{"lifecycle", "operation"}, func(e api.Event) {
		h := happened{at: e.Timestamp, project: e.Project}
		if e.Type == "lifecycle" {
			var life api.EventLifecycle
			if json.Unmarshal(e.Metadata, &life) == nil {
				h.what, h.subject = life.Action, life.Name
			}
		} else {
			var op api.Operation
			if json.Unmarshal(e.Metadata, &op) == nil && op.StatusCode == api.Running {
				h.what, h.at = op.Description, op.CreatedAt
				for _, r := range op.Resources["instances"] {
					h.subject, _, _ = strings.Cut(r[strings.LastIndex(r, "/")+1:], "?")
				}
			}
		}

		if h.project == project && h.what != "" {
			events <- h
		}
	})
	if err != nil {
		t.Fatal(err)
	}

	return events
}

// await returns the first event of a kind about an instance.
func await(t *testing.T, events <-chan happened, what, subject string) time.Time {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case h := <-events:
			if h.what == what && h.subject == subject {
				return h.at
			}
		case <-timer.C:
			t.Fatalf("no %q of %s", what, subject)
		}
	}
}

func drained(events <-chan happened) {
	for len(events) > 0 {
		<-events
	}
}

// TestH35Release is the time from the write of a verdict to the start of what waits for it.
func TestH35Release(t *testing.T) {
	const n = 6
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&b, "  db%d: {image: busybox, command: [sleep, inf], init: true, healthcheck: {test: [CMD, test, -e, /dev/shm/up], interval: 200ms, timeout: 5s, retries: 100000}}\n", i)
		fmt.Fprintf(&b, "  app%d: {image: busybox, command: [sleep, inf], init: true, depends_on: {db%d: {condition: service_healthy}}}\n", i, i)
	}

	c, err := incusapi.ConnectIncusUnix(root(t)+"/var/lib/incus/unix.socket", nil)
	if err != nil {
		t.Fatal(err)
	}

	rename(t, root(t), "rel", b.String())
	lastStart(t, connect(t), "rel", n)
	pause(t, 5*time.Second)
	events := listen(t, c, "rel")
	var began, ran []time.Duration
	for i := range n {
		drained(events)
		sh(t, fmt.Sprintf("incus exec --project rel db%d-1 -- touch /dev/shm/up", i))
		written := await(t, events, "instance-updated", fmt.Sprintf("db%d-1", i))
		app := fmt.Sprintf("app%d-1", i)
		began = append(began, firstCall(t, events, app).Sub(written))
		ran = append(ran, await(t, events, "instance-started", app).Sub(written))
	}

	slices.Sort(began)
	t.Logf("from the verdict to the call that starts the dependent: median %s, most %s (goal: 200 ms); until it runs: median %s", median(began), began[n-1], median(ran))
	gone(t, "rel")
}

// firstCall is when the first operation about an instance began.
func firstCall(t *testing.T, events <-chan happened, subject string) time.Time {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		select {
		case h := <-events:
			if h.subject == subject && (h.what == "Starting instance" || h.what == "Creating instance") {
				return h.at
			}
		case <-timer.C:
			t.Fatalf("no operation about %s", subject)
		}
	}
}

// TestCrashToRestart is the time from Incus's event of a crash to the call that starts the instance again.
func TestCrashToRestart(t *testing.T) {
	const n = 8
	rename(t, root(t), "crash", `services: {web: {image: busybox, command: [sleep, inf], scale: 8, restart: always}}`+"\n")
	healthy(t, "crash", n)
	pause(t, 3*time.Second)
	c, err := incusapi.ConnectIncusUnix(root(t)+"/var/lib/incus/unix.socket", nil)
	if err != nil {
		t.Fatal(err)
	}

	events := listen(t, c, "crash")
	var took []time.Duration
	for i := range n {
		name := fmt.Sprintf("web-%d", i+1)
		pid := sh(t, "incus list --project crash -f json "+name+" | jq .[0].state.pid")
		drained(events)
		sh(t, "kill -9 "+pid)
		ended := await(t, events, "instance-shutdown", name)
		took = append(took, firstCall(t, events, name).Sub(ended))
	}

	slices.Sort(took)
	t.Logf("from the event of a crash to the call: median %s, most %s (goal: 200 ms, 100 ms of it are the policy's)", median(took), took[n-1])
	gone(t, "crash")
}

// TestH38TwoHundred is what the checks of a full host cost, in their stride and all due at once. IC_BENCH_INSTANCES is
// how many there are, 200 by default.
func TestH38TwoHundred(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("IC_BENCH_INSTANCES"))
	if err != nil {
		n = 200
	}

	rename(t, root(t), "many", fmt.Sprintf(
		`services: {a: {image: busybox, command: [sleep, inf], init: true, restart: always, scale: %d, healthcheck: {test: [CMD, "true"], interval: 5s, timeout: 2s, retries: 1}}}`+"\n", n))
	healthy(t, "many", n)
	pause(t, 10*time.Second)
	report := func(what string, wait time.Duration, c counts, u spent) {
		most := 0
		for end := time.Now().Add(wait); time.Now().Before(end); pause(t, time.Second) {
			ops, _ := strconv.Atoi(sh(t, "incus query '/1.0/operations?all-projects=true' | grep -c operations/ || true"))
			most = max(most, ops)
		}

		d, s := counted(t).since(c), used(t).since(u)
		t.Logf("%s: %.0f checks in %s (%.0f/s), %s of processor time each, %s the daemon's; %.0f not passed, %.0f status changes", what, d.checks(), wait, d.checks()/wait.Seconds(),
			time.Duration(float64(s.all)/d.checks()), time.Duration(float64(s.daemon)/d.checks()), d.checks()-d[`checks_total{result="passed"}`],
			d[`status_changes_total{status="unhealthy"}`]+d[`status_changes_total{status="healthy"}`])
		t.Logf("%s: p99 of a check %s (goal: 1 s), of lateness %s; at most %d operations in Incus's list, which keeps each for 5 s", what, d.within("check_duration_seconds", 0.99), d.within("lateness_seconds", 0.99), most)
	}
	report("in their stride", 20*time.Second, counted(t), used(t))
	sh(t, "systemctl stop ic-healthd")
	pause(t, 15*time.Second) // all are overdue
	u := used(t)
	sh(t, "systemctl start ic-healthd")
	report("all due at once", 15*time.Second, counts{}, spent{u.all, 0})
	t.Logf("resident: %s; restarts: %s", sh(t, "grep VmRSS /proc/$(systemctl show -p MainPID --value ic-healthd)/status"), sh(t, "journalctl -u ic-healthd -o cat | grep -c '^restarting' || true"))
	gone(t, "many")
}
