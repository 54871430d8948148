package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/state"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], []string{"parse"}) { // the child of "check"
		syscall.Exit(Main(context.Background(), nil, nil)) // os.Exit would have the race detector sleep a second
	}
	testscript.Main(m, map[string]func(){"ic-agent": func() { os.Exit(Main(context.Background(), pretend, pretend)) }})
}

// pretend is a run that prints its options, or fails as IC_TEST_RUN says.
func pretend(_ context.Context, o RunOptions) error {
	switch os.Getenv("IC_TEST_RUN") {
	case "locked":
		return fmt.Errorf("open ledger: %w", state.ErrLocked)
	case "failed":
		return errors.New("no room")
	}
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", b)
	return err
}

// TestScripts runs the verbs as a user does; testdata/script tells what each answers.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("", "ic-cli-") //nolint:usetesting // short enough for a socket
			if err != nil {
				return err
			}
			env.Defer(func() { _ = os.RemoveAll(dir) })
			env.Setenv("API", filepath.Join(dir, "api.sock"))
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"serve": serve},
	})
}

// backend answers what a file says.
type backend struct {
	State   api.Status      `json:"status"`
	Plans   []api.PlanReply `json:"plan"`
	Found   api.ReloadReply `json:"reload"`
	Removed []string        `json:"removed"`
	Refuse  *api.Error      `json:"refuse"`
	// Deletes is what destroy deletes.
	Deletes api.DestroyReply `json:"destroy"`
	Kept    []api.Generation `json:"history"`
	// Adopts is what adopt comes to.
	Adopts api.AdoptReply `json:"adopt"`
	// Releases is what release comes to.
	Releases api.ReleaseReply `json:"release"`
	// Late are stacks that the agent sees with its next look.
	Late   []api.Stack `json:"late"`
	looked *atomic.Bool
}

func (b backend) refusal() error {
	if b.Refuse == nil {
		return nil
	}
	return b.Refuse
}

func (b backend) Status(context.Context) (api.Status, error) {
	if b.looked.Load() {
		b.State.Stacks = slices.Concat(b.State.Stacks, b.Late)
	}
	return b.State, b.refusal()
}

func (b backend) Plan(_ context.Context, stack string) ([]api.PlanReply, error) {
	plans := slices.DeleteFunc(slices.Clone(b.Plans), func(p api.PlanReply) bool { return stack != "" && p.Stack != stack })
	if stack != "" && len(plans) == 0 {
		return nil, &api.Error{Kind: api.NotFound, Text: "there is no stack " + stack}
	}
	return plans, b.refusal()
}

func (b backend) Reload(_ context.Context, wait bool) (api.ReloadReply, error) {
	if !wait {
		return api.ReloadReply{}, b.refusal()
	}
	b.looked.Store(true)
	return b.Found, b.refusal()
}

func (b backend) Update(_ context.Context, req api.UpdateRequest) ([]api.UpdateReply, error) {
	return []api.UpdateReply{
		{Stack: "blog", Service: "web", Image: "nginx:1.27", Text: "up to date"},
		{Stack: "blog", Service: "db", Image: "postgres:17", Text: "the registry is down", Failed: req.Apply},
	}, b.refusal()
}

func (b backend) ConfirmRemoval(_ context.Context, stacks []string) ([]string, error) {
	return slices.Concat(b.Removed, stacks), b.refusal()
}

func (b backend) Adopt(_ context.Context, req api.AdoptRequest) (api.AdoptReply, error) {
	b.Adopts.Done = !req.Dry && (b.Adopts.Left == 0 || req.Yes)
	return b.Adopts, b.refusal()
}

func (b backend) Apply(_ context.Context, r api.ApplyRequest, _ string) (api.ActionReply, error) {
	return api.ActionReply{Text: fmt.Sprintf("%s/%s now=%t", r.Stack, r.Service, r.Now)}, b.refusal()
}

func (b backend) Release(context.Context, api.ReleaseRequest) (api.ReleaseReply, error) {
	return b.Releases, b.refusal()
}

func (b backend) Destroy(_ context.Context, req api.DestroyRequest) (api.DestroyReply, error) {
	if !req.Volumes {
		b.Deletes.Kept, b.Deletes.Volumes = b.Deletes.Volumes, nil
	}

	return b.Deletes, b.refusal()
}

func (b backend) History(context.Context, string) ([]api.Generation, error) {
	out := slices.Clone(b.Kept)
	for i := range out {
		out[i].Documents = nil
	}
	return out, b.refusal()
}

func (b backend) Generation(_ context.Context, _ string, n uint64) (api.Generation, error) {
	i := slices.IndexFunc(b.Kept, func(g api.Generation) bool { return g.Number == n })
	if i < 0 {
		return api.Generation{}, &api.Error{Kind: api.NotFound, Text: "it is not kept"}
	}
	return b.Kept[i], b.refusal()
}

func (b backend) Rollback(_ context.Context, r api.RollbackRequest, _ string) (api.ActionReply, error) {
	return api.ActionReply{Text: fmt.Sprintf("back to %d", r.Generation)}, b.refusal()
}

func (b backend) Retry(_ context.Context, r api.RetryRequest, _ string) (api.ActionReply, error) {
	return api.ActionReply{Text: "again " + r.Stack + "," + r.Service}, b.refusal()
}

func (b backend) Why(_ context.Context, stack, service string) (api.ActionReply, error) {
	return api.ActionReply{Text: stack + "," + service + "\n"}, b.refusal()
}

// serve is the script command "serve FILE": from here on an agent answers at $API what FILE says.
func serve(ts *testscript.TestScript, _ bool, args []string) {
	b := backend{looked: &atomic.Bool{}}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	dec.DisallowUnknownFields()
	ts.Check(dec.Decode(&b))
	l, err := api.Listen(ts.Getenv("API"))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.NewServer(b, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
}

var now = time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)

// sample is a host on which a lot goes on.
func sample() api.Status {
	dir := "/etc/incus-compose.d/"
	return api.Status{
		Version: "1.2.3", Since: now.Add(-3 * time.Hour), Incus: api.Incus{OK: true, Version: "7.0.2"},
		DNS: api.DNS{Listeners: []string{"10.201.3.1:53", "10.201.4.1:53"}, Failed: map[string]string{"10.201.5.1:53": "address already in use"}, Names: 12},
		Stacks: []api.Stack{
			{
				Name: "blog", Project: "blog", Source: dir + "blog.yaml", State: api.InSync, Generation: 4, LastApplied: now.Add(-2 * time.Hour), Next: now.Add(time.Minute),
				Services: []api.Service{
					{Name: "db", Image: "postgres:17", Want: 1, Running: 1, Instances: []api.Instance{{Name: "db-1", Status: "Running", Since: now.Add(-49 * time.Hour), Addresses: []string{"10.201.3.2"}, Health: "healthy"}}},
					{Name: "web", Image: "nginx:alpine", Want: 2, Running: 2, Ports: []string{"8080 → 80/tcp", "8443 → 443/tcp"}, Instances: []api.Instance{
						{Name: "web-1", Status: "Running", Since: now.Add(-2 * time.Hour), Addresses: []string{"10.201.3.3"}},
						{Name: "web-2", Status: "Running", Since: now.Add(-2 * time.Hour), Addresses: []string{"10.201.3.4", "10.201.4.4"}},
					}},
				},
			},
			{
				Name: "shop", Project: "shop", Source: dir + "shop/compose.yaml", State: api.Blocked, Generation: 12, LastApplied: now.Add(-30 * 24 * time.Hour), Next: now.Add(90 * time.Second),
				Conditions: []api.Condition{
					{Type: "Blocked", Object: "instance/cart-1", Text: "not found: docker.io has no tag 1.99 of library/cart: correct the image's name (shop/compose.yaml:12)", Since: now.Add(-5 * time.Minute)},
					{Type: "Failed", Text: "two lines\nof text"},
				},
				Warnings: []api.Warning{{File: dir + "shop/compose.yaml", Line: 7, Key: "services.web.logging", Text: "is not honoured: the journal has it"}, {Text: "no place"}},
				Services: []api.Service{
					{Name: "cart", Image: "cart:1.99", Want: 1, Instances: []api.Instance{{Name: "cart-1", Note: "not made yet"}}},
					{Name: "none", Image: "busybox"},
					{Name: "web", Image: "nginx:alpine", Want: 1, Instances: []api.Instance{{Name: "web-1", Status: "Stopped", Since: now.Add(-20 * time.Second), Addresses: []string{"10.201.5.2"}, Health: "unhealthy", Note: "stopped by root"}}},
				},
				Parked: []api.Leftover{{Name: "old-1", Service: "old", Since: now.Add(-25 * time.Hour), Left: 6*24*3600 - 3600}},
				Unused: []string{"default/vol-image-4dgj2kq7ab"},
				Plan:   "stack shop: 1 steps\n[1] create and start instance/cart-1: new service cart\n",
			},
			{Name: "tools", State: api.Skipped},
			{
				Name: "vault", Project: "vault", State: api.Parked, Parked: []api.Leftover{{Name: "app-1", Service: "app", Since: now.Add(-time.Hour), Left: 3600}},
				Volumes: []string{"default/vol-data"},
			},
			{Name: "wiki", Source: dir + "wiki.yaml", State: api.Invalid, Conditions: []api.Condition{{Type: "Invalid", Text: "wiki.yaml:3: services.wiki: unknown key \"imagee\" (did you mean image?)"}}},
		},
		Problems: []string{dir + "My Blog.yaml: the name \"My Blog\" cannot be a stack's"},
	}
}

func TestViews(t *testing.T) {
	away := api.Status{Version: "1.2.3", Incus: api.Incus{Error: "connect: no such file"}, Stacks: []api.Stack{{Name: "blog", State: api.Waiting, Source: "/etc/incus-compose.d/blog.yaml"}}}
	for name, show := range map[string]func(v view){
		"all":    func(v view) { v.all(sample()) },
		"colour": func(v view) { v.palette = true; v.all(sample()); v.one(sample().Stacks[1], api.Incus{OK: true}) },
		"blog":   func(v view) { v.one(sample().Stacks[0], api.Incus{OK: true}) },
		"shop":   func(v view) { v.one(sample().Stacks[1], api.Incus{OK: true}) },
		"tools":  func(v view) { v.one(sample().Stacks[2], api.Incus{OK: true}) },
		"vault":  func(v view) { v.one(sample().Stacks[3], api.Incus{OK: true}) },
		"wiki":   func(v view) { v.one(sample().Stacks[4], api.Incus{OK: true}) },
		"none":   func(v view) { v.all(api.Status{Version: "1.2.3"}) },
		"away":   func(v view) { v.all(away); v.one(away.Stacks[0], away.Incus) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			show(view{w: &b, now: now})
			golden := filepath.Join("testdata", "view", name+".txt")
			if *update {
				err := os.WriteFile(golden, b.Bytes(), 0o644)
				if err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			diff := cmp.Diff(string(want), b.String())
			if diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTimesAsPeopleSayThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", 999 * time.Millisecond: "just now", time.Second: "1 s ago", 59 * time.Second: "59 s ago", 61 * time.Second: "1 min ago",
		time.Hour: "1 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 d ago", -30 * time.Second: "in 30 s", -time.Millisecond: "just now",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if ago(time.Time{}, now) != "" || since(time.Time{}, now) != "" {
		t.Error("the zero time is said")
	}
}

func TestNoColoursButOnATerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if colours(f) || colours(&bytes.Buffer{}) {
		t.Error("coloured")
	}
}

// Names has a stack of two networks and a listener that somebody is in the way of.
func (backend) Names(context.Context) (api.NamesReply, error) { return someNames, nil }

// DNS explains one name.
func (backend) DNS(_ context.Context, name, from string) (api.DNSReply, error) {
	return api.DNSReply{Text: name + " asked by " + from, Verdict: "NOERROR"}, nil
}
