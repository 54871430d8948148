package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/image/imagetest"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// house is a whole agent on an Incus made of memory: real files, a real socket, a real clock.
type house struct {
	t      testing.TB
	dir    string
	conf   Config
	server *incustest.Server
	agent  *Agent
	stop   func()

	mu   sync.Mutex
	said []string
}

// newHouse makes a house; its Incus is down until up.
func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir()}
	h.conf = Config{
		StateDir: h.dir, APISocket: filepath.Join(h.dir, "api.sock"), Version: "test", DNSPort: 1,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Notify: func(s string) {
			h.mu.Lock()
			defer h.mu.Unlock()

			h.said = append(h.said, s)
		},
	}
	h.conf.Settings.Directories = []string{filepath.Join(h.dir, "stacks")}
	registry := imagetest.Anything()
	conf, done, err := Dev(t.Context(), h.conf)
	if err != nil {
		t.Fatal(err)
	}

	done() // the test has a server of its own, to take up and down
	h.conf = conf
	h.conf.Registry = registry
	h.conf.DNSAddrs = []netip.Addr{}
	h.server = incustest.New(incustest.Options{Resolve: resolver(t.Context(), registry, h.conf.Log)})
	h.conf.Dial = func(ctx context.Context) (net.Conn, error) { return h.server.Dial(ctx) }
	t.Cleanup(h.server.Close)
	err = os.Mkdir(h.conf.Settings.Directories[0], 0o755)
	if err != nil {
		t.Fatal(err)
	}

	return h
}

func (h *house) begin() {
	h.t.Helper()
	a, err := New(h.t.Context(), h.conf)
	if err != nil {
		h.t.Fatal(err)
	}

	h.agent = a
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.stop = func() {
		cancel()
		err := <-done
		if err != nil {
			h.t.Errorf("Run: %v", err)
		}
	}
}

func (h *house) drop(name, content string) {
	h.t.Helper()
	path := filepath.Join(h.conf.Settings.Directories[0], name)
	err := os.WriteFile(path+".tmp", []byte(content), 0o644)
	if err != nil {
		h.t.Fatal(err)
	}

	err = os.Rename(path+".tmp", path)
	if err != nil {
		h.t.Fatal(err)
	}
}

// until asks the API until the answer pleases.
func (h *house) until(what string, pleases func(api.Status) bool) api.Status {
	h.t.Helper()
	client := api.NewClient(h.conf.APISocket)
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()

	for {
		s, err := client.Status(ctx)
		if err == nil && pleases(s) {
			return s
		}

		select {
		case <-ctx.Done():
			h.t.Fatalf("%s: not within 30 s; last: %+v, %v", what, s, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// heard waits until systemd was told something.
func (h *house) heard(part string) {
	h.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		h.mu.Lock()
		found := slices.ContainsFunc(h.said, func(s string) bool { return strings.Contains(s, part) })
		h.mu.Unlock()
		if found {
			return
		}

		time.Sleep(10 * time.Millisecond)
	}

	h.t.Fatalf("systemd was never told %q, only %q", part, h.said)
}

func stackIn(s api.Status, stack string) api.Stack {
	for _, st := range s.Stacks {
		if st.Name == stack {
			return st
		}
	}

	return api.Stack{}
}

const hello = "services:\n  web:\n    image: nginx:alpine\n"

func TestFileRunsItsStack(t *testing.T) {
	h := newHouse(t)
	h.begin()
	defer func() { h.stop() }()

	h.heard("READY=1")
	h.drop("blog.yaml", hello)
	s := h.until("blog in sync", func(s api.Status) bool { return stackIn(s, "blog").State == api.InSync })
	web := stackIn(s, "blog").Services[0]
	if web.Running != 1 || len(web.Instances) != 1 || len(web.Instances[0].Addresses) != 1 {
		t.Errorf("web is %+v", web)
	}

	h.heard("STATUS=1 stack: 1 in sync; Incus 7.0.2")
}

// TestReadyWithoutIncus: READY does not wait for Incus; the stack runs when it comes.
func TestReadyWithoutIncus(t *testing.T) {
	h := newHouse(t)
	h.server.Down()
	h.drop("blog.yaml", hello)
	h.begin()
	defer func() { h.stop() }()

	h.heard("READY=1")
	s := h.until("waiting", func(s api.Status) bool { return stackIn(s, "blog").State == api.Waiting && s.Incus.Error != "" })
	if s.Incus.OK {
		t.Errorf("Incus is said to be well: %+v", s.Incus)
	}

	h.server.Up()
	h.until("blog in sync", func(s api.Status) bool { return stackIn(s, "blog").State == api.InSync && s.Incus.OK })
}

func TestRefusedFileSaysWhyAndKeepsWhatRuns(t *testing.T) {
	h := newHouse(t)
	h.begin()
	defer func() { h.stop() }()

	h.drop("blog.yaml", hello)
	h.drop("shop.yaml", hello)
	h.until("both in sync", func(s api.Status) bool {
		return stackIn(s, "blog").State == api.InSync && stackIn(s, "shop").State == api.InSync
	})
	h.server.ForgetCalls()
	h.drop("blog.yaml", "services:\n  web:\n    imgae: nginx\n")
	s := h.until("blog invalid", func(s api.Status) bool { return stackIn(s, "blog").State == api.Invalid })
	text := stackIn(s, "blog").Conditions[0].Text
	if !strings.Contains(text, "blog.yaml:3") || !strings.Contains(text, "image") {
		t.Errorf("the condition says %q", text)
	}

	if stackIn(s, "shop").State != api.InSync {
		t.Errorf("shop is %q", stackIn(s, "shop").State)
	}

	if w := h.server.Writes(); len(w) > 0 {
		t.Errorf("writes: %v", w)
	}

	reply, err := api.NewClient(h.conf.APISocket).Reload(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}

	refused := slices.ContainsFunc(reply.Stacks, func(r api.ReloadResult) bool { return r.Stack == "blog" && r.Error != "" })
	if !refused {
		t.Errorf("reload says %+v", reply)
	}
}

func TestTwoFilesWithOneProject(t *testing.T) {
	h := newHouse(t)
	h.begin()
	defer func() { h.stop() }()

	h.drop("blog.yaml", "name: one\n"+hello)
	h.until("blog in sync", func(s api.Status) bool { return stackIn(s, "blog").State == api.InSync })
	h.drop("copy.yaml", "name: one\n"+hello)
	s := h.until("copy blocked", func(s api.Status) bool { return stackIn(s, "copy").State == api.Blocked })
	c := stackIn(s, "copy").Conditions[0]
	if c.Type != "Conflict" || !strings.Contains(c.Text, "blog") {
		t.Errorf("the condition is %+v", c)
	}
}

// TestManyStacksAtOnce: all of them run, each with a subnet and addresses of its own.
func TestManyStacksAtOnce(t *testing.T) {
	h := newHouse(t)
	for i := range 20 {
		h.drop(fmt.Sprintf("s%02d.yaml", i), hello)
	}

	h.begin()
	defer func() { h.stop() }()

	s := h.until("all in sync", func(s api.Status) bool {
		well := 0
		for _, st := range s.Stacks {
			if st.State == api.InSync {
				well++
			}
		}

		return well == 20
	})
	seen := map[string]string{}
	for _, st := range s.Stacks {
		a := st.Services[0].Instances[0].Addresses[0]
		if seen[a] != "" {
			t.Errorf("%s and %s have the address %s", seen[a], st.Name, a)
		}

		seen[a] = st.Name
	}
}

// settingsFile writes an agent.toml.
func settingsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	err := os.WriteFile(path, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	return path
}

func TestSettingsRefuseWhatTheyDoNotKnow(t *testing.T) {
	for text, want := range map[string]string{
		"log = \"info\"":                      "unknown key log",
		"[network]\npool = \"10.0.0.0/28\"":   "network.pool",
		"[dns]\nupstreams = [\"nine\"]":       "dns.upstreams",
		"owner = \n":                          "agent.toml:1",
		"[network]\npool = \"2001:db8::/32\"": "network.pool",
	} {
		_, err := ReadSettings(settingsFile(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want something with %q", text, err, want)
		}
	}
}

func TestStatusLineIsShort(t *testing.T) {
	got := clip("ä"+strings.Repeat("ö", 200), 20)
	if len(got) > 20 || !strings.HasSuffix(got, "…") || strings.Contains(got, "�") {
		t.Errorf("clipped to %q", got)
	}
}

// TestNetworksOfOthersAreNoReasonToLook, unless something is wrong, which may be their doing.
func TestNetworksOfOthersAreNoReasonToLook(t *testing.T) {
	blog := &plan.Project{Networks: []plan.Network{{Name: "default", Incus: "blog-default"}, {Name: "lan", Incus: "lan", External: true}}}
	for _, c := range []struct {
		view    apply.View
		network string
		want    bool
	}{
		{apply.View{State: apply.InSync, Project: blog}, "shop-default", false},
		{apply.View{State: apply.Applying, Project: blog}, "shop-default", false},
		{apply.View{State: apply.InSync, Project: blog}, "blog-default", true},
		{apply.View{State: apply.InSync, Project: blog}, "lan", true},
		{apply.View{State: apply.Blocked, Project: blog}, "shop-default", true},
		{apply.View{State: apply.Waiting}, "shop-default", true},
	} {
		if got := concerns(&c.view, c.network); got != c.want {
			t.Errorf("%s of a stack that is %q: %t", c.network, c.view.State, got)
		}
	}
}
