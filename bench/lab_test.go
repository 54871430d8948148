//go:build bench

// Package bench measures the agent in the lab against the same calls made by hand on the same Incus, in turn, in
// one run. It prints ratios; it asserts nothing about seconds.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
	"golang.org/x/sync/errgroup"
)

const (
	lab      = "bench"
	rounds   = 5
	services = 10
	workers  = 4
)

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}

	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	err := os.Chdir("..")
	if err != nil {
		return 1, err
	}

	debs, err := filepath.Glob("dist/ic-agent_*.deb")
	if err != nil || len(debs) != 1 {
		return 1, fmt.Errorf("want one package in dist, found %d: run \"make package\"", len(debs))
	}

	defer func() { _ = exec.Command("test/lab/lab", "down", lab).Run() }()

	for _, c := range [][]string{
		{"reset", lab}, {"put", lab, debs[0], "/root/ic-agent.deb"}, {"run", lab, "--", "dpkg", "-i", "/root/ic-agent.deb"},
	} {
		out, cerr := exec.Command("test/lab/lab", c...).CombinedOutput()
		if cerr != nil {
			return 1, fmt.Errorf("prepare the lab: %w\n%s", cerr, out)
		}
	}

	return m.Run(), nil
}

// sh runs a command in the lab.
func sh(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "test/lab/lab", "run", lab, "--", "sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}

	return strings.TrimSpace(string(out))
}

// root is the lab's root directory as this process sees it.
func root(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "test/lab/lab", "pid", lab).Output()
	if err != nil {
		t.Fatal(err)
	}

	return "/proc/" + strings.TrimSpace(string(out)) + "/root"
}

func connect(t *testing.T) incusapi.InstanceServer {
	t.Helper()
	c, err := incusapi.ConnectIncusUnix(root(t)+"/var/lib/incus/unix.socket", &incusapi.ConnectionArgs{SkipGetEvents: true})
	if err != nil {
		t.Fatal(err)
	}

	return c
}

// median of a list of durations.
func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))

	return s[len(s)/2]
}

// byHand makes what the agent makes of ten services: a project, a bridge, ten containers, four at a time.
func byHand(t *testing.T, c incusapi.InstanceServer, fingerprint string) time.Duration {
	t.Helper()
	begin := time.Now()
	err := c.CreateProject(api.ProjectsPost{Name: "hand", ProjectPut: api.ProjectPut{Config: map[string]string{
		"features.images": "false", "features.profiles": "true",
	}}})
	if err != nil {
		t.Fatal(err)
	}

	err = c.CreateNetwork(api.NetworksPost{Name: "hand-default", Type: "bridge", NetworkPut: api.NetworkPut{Config: map[string]string{
		"ipv4.address": "10.77.0.1/24", "ipv4.dhcp": "false", "ipv4.nat": "true", "ipv6.address": "none", "dns.mode": "none",
	}}})
	if err != nil {
		t.Fatal(err)
	}

	var group errgroup.Group
	group.SetLimit(workers)
	for i := range services {
		group.Go(func() error { return createByHand(c.UseProject("hand"), i, fingerprint) })
	}

	err = group.Wait()
	if err != nil {
		t.Fatal(err)
	}

	took := time.Since(begin)
	removeByHand(t, c, "hand", "hand-default")

	return took
}

func createByHand(c incusapi.InstanceServer, i int, fingerprint string) error {
	op, err := c.CreateInstance(api.InstancesPost{
		Name: "s-" + strconv.Itoa(i), Type: "container", Start: true,
		Source: api.InstanceSource{Type: "image", Fingerprint: fingerprint},
		InstancePut: api.InstancePut{
			Config: api.ConfigMap{"raw.lxc": "lxc.execute.cmd =\nlxc.init.cmd = sleep inf\n"},
			Devices: api.DevicesMap{
				"root": {"type": "disk", "path": "/", "pool": "default"},
				"eth0": {
					"type": "nic", "network": "hand-default", "name": "eth0", "ipv4.address": "10.77.0." + strconv.Itoa(10+i) + "/24",
					"ipv4.gateway": "10.77.0.1", "ipv6.address": "none",
				},
			},
		},
	})
	if err != nil {
		return err
	}

	return op.Wait()
}

func removeByHand(t *testing.T, c incusapi.InstanceServer, project, network string) {
	t.Helper()
	p := c.UseProject(project)
	list, err := p.GetInstances(api.InstanceTypeAny)
	if err != nil {
		t.Fatal(err)
	}

	var group errgroup.Group
	group.SetLimit(8)
	for _, i := range list {
		group.Go(func() error {
			op, serr := p.UpdateInstanceState(i.Name, api.InstanceStatePut{Action: "stop", Force: true}, "")
			if serr == nil {
				serr = op.Wait()
			}

			if serr != nil {
				return serr
			}

			op, serr = p.DeleteInstance(i.Name)
			if serr != nil {
				return serr
			}

			return op.Wait()
		})
	}

	err = errors.Join(group.Wait(), c.DeleteProject(project), c.DeleteNetwork(network))
	if err != nil {
		t.Fatal(err)
	}
}

// rename puts a stack into the directory in one step and says when.
func rename(t *testing.T, base, stack, content string) time.Time {
	t.Helper()
	dir := base + "/etc/incus-compose.d/"
	err := os.WriteFile(dir+"."+stack+".tmp", []byte(content), 0o644)
	if err != nil {
		t.Fatal(err)
	}

	now := time.Now()
	err = os.Rename(dir+"."+stack+".tmp", dir+stack+".yaml")
	if err != nil {
		t.Fatal(err)
	}

	return now
}

// lastStart waits until all instances of a project run and returns when the last of them did.
func lastStart(t *testing.T, c incusapi.InstanceServer, project string, n int) time.Time {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		list, err := c.UseProject(project).GetInstances(api.InstanceTypeAny)
		running := 0
		for _, i := range list {
			if i.Status == "Running" {
				running++
			}
		}

		if err == nil && running == n {
			return time.Now()
		}

		time.Sleep(10 * time.Millisecond)
	}

	t.Fatal("not running after a minute")

	return time.Time{}
}

// tenYAML is ten services of one image.
func tenYAML() string {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range services {
		fmt.Fprintf(&b, "  s%d:\n    image: busybox\n    command: [sleep, inf]\n", i)
	}

	return b.String()
}

// watched is what Incus's events said of one project.
type watched struct {
	mu     sync.Mutex
	first  time.Time // the first thing made
	starts []time.Time
	all    chan struct{}
}

// watchEvents notes when Incus made the first thing of a project and when its instances were started. Asking again
// and again instead would slow down what is measured.
func watchEvents(ctx context.Context, c incusapi.InstanceServer, project string, n int) (*watched, error) {
	l, err := c.GetEventsAllProjectsByType([]string{"lifecycle"})
	if err != nil {
		return nil, err
	}

	w := &watched{all: make(chan struct{})}
	_, err = l.AddHandler(nil, func(e api.Event) {
		var life api.EventLifecycle
		if json.Unmarshal(e.Metadata, &life) != nil || !strings.Contains(life.Source, project) {
			return
		}

		w.mu.Lock()
		defer w.mu.Unlock()

		if w.first.IsZero() || e.Timestamp.Before(w.first) {
			w.first = e.Timestamp
		}

		if life.Action == "instance-started" {
			w.starts = append(w.starts, e.Timestamp)
			if len(w.starts) == n {
				close(w.all)
			}
		}
	})
	context.AfterFunc(ctx, l.Disconnect)

	return w, err
}

// last waits for all starts and returns the last of them.
func (w *watched) last(t *testing.T) time.Time {
	t.Helper()
	select {
	case <-w.all:
	case <-time.After(time.Minute):
		t.Fatal("not all started after a minute")
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	return slices.MaxFunc(w.starts, time.Time.Compare)
}

// TestTenServices compares the agent with the same calls made by hand.
func TestTenServices(t *testing.T) {
	c := connect(t)
	base := root(t)
	sh(t, "incus remote add docker https://docker.io --protocol=oci; incus image copy docker:library/busybox:latest local:")
	images, err := c.GetImages()
	if err != nil || len(images) == 0 {
		t.Fatalf("no image: %v", err)
	}

	var agent, hand, first []time.Duration
	for range rounds {
		hand = append(hand, byHand(t, c, images[0].Fingerprint))
		ctx, stop := context.WithCancel(t.Context())
		events, eerr := watchEvents(ctx, connect(t), "ten", services)
		if eerr != nil {
			t.Fatal(eerr)
		}

		begin := rename(t, base, "ten", tenYAML())
		agent = append(agent, events.last(t).Sub(begin))
		first = append(first, events.first.Sub(begin))
		stop()
		forgetTen(t, c)
	}

	fmt.Printf("\nten services from a cached image, medians of %d rounds in turn\n", rounds)
	fmt.Printf("  %-44s %8s\n", "the same calls made by hand, four at a time", median(hand).Round(time.Millisecond))
	fmt.Printf("  %-44s %8s\n", "ic-agent, from the file's rename", median(agent).Round(time.Millisecond))
	fmt.Printf("  %-44s %8.2f   (goal 1.30)\n", "ratio", float64(median(agent))/float64(median(hand)))
	fmt.Printf("  %-44s %8s   (goal 500ms)\n", "rename to the first thing made", median(first).Round(time.Millisecond))
}

// forgetTen removes the stack and what it made, without its graces.
func forgetTen(t *testing.T, c incusapi.InstanceServer) {
	t.Helper()
	sh(t, "systemctl stop ic-agent; rm -f /etc/incus-compose.d/ten.yaml")
	removeByHand(t, c, "ten", "ten-default")
	sh(t, "rm -f /var/lib/ic-agent/state.db; systemctl start ic-agent")
}

// TestStart measures the way to READY with fifty stacks known and Incus away, which must not matter.
func TestStart(t *testing.T) {
	base := root(t)
	for i := range 50 {
		rename(t, base, fmt.Sprintf("start%02d", i), "services:\n  app:\n    image: busybox\n    scale: 0\n")
	}

	sh(t, "systemctl stop ic-agent")

	var took []time.Duration
	for range rounds {
		out := sh(t, "s=$(date +%s%N); systemctl start ic-agent; e=$(date +%s%N); systemctl stop ic-agent; echo $(((e-s)/1000))")
		us, err := strconv.Atoi(out)
		if err != nil {
			t.Fatal(err)
		}

		took = append(took, time.Duration(us)*time.Microsecond)
	}

	fmt.Printf("\nsystemctl start to READY, fifty stacks\n  %-44s %8s   (goal 2s)\n", "median", median(took).Round(time.Millisecond))
}
