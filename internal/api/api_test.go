package api

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/incus-compose/ic-agent/internal/plan"
)

var update = flag.Bool("update", false, "write the golden files")

// clientEnv has the test binary play a client of the socket that it names; see TestMain.
const clientEnv = "IC_API_TEST_CLIENT"

func TestMain(m *testing.M) {
	path := os.Getenv(clientEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	c := NewClient(path)
	_, err := c.Status(context.Background())
	fmt.Println("status:", err)
	_, err = c.Reload(context.Background(), false)
	fmt.Println("reload:", err)
}

// fake is a backend of functions; one that is nil answers with zero values.
type fake struct {
	Backend // what no test asks for is not there
	status  func(ctx context.Context) (Status, error)
	plan    func(ctx context.Context, stack string) ([]PlanReply, error)
	reload  func(ctx context.Context, wait bool) (ReloadReply, error)
	confirm func(ctx context.Context, stacks []string) ([]string, error)
}

func (f fake) Status(ctx context.Context) (Status, error) {
	if f.status == nil {
		return Status{}, nil
	}
	return f.status(ctx)
}

func (f fake) Plan(ctx context.Context, stack string) ([]PlanReply, error) {
	if f.plan == nil {
		return nil, nil
	}
	return f.plan(ctx, stack)
}

func (f fake) Reload(ctx context.Context, wait bool) (ReloadReply, error) {
	if f.reload == nil {
		return ReloadReply{}, nil
	}
	return f.reload(ctx, wait)
}

func (f fake) ConfirmRemoval(ctx context.Context, stacks []string) ([]string, error) {
	if f.confirm == nil {
		return nil, nil
	}
	return f.confirm(ctx, stacks)
}

func (f fake) History(_ context.Context, stack string) ([]Generation, error) {
	return []Generation{{Number: 2, Why: "the file of " + stack, Current: true}}, nil
}

func (f fake) Generation(_ context.Context, stack string, n uint64) (Generation, error) {
	return Generation{Number: n, Why: stack, Documents: []Document{{Name: "a", Text: "b"}}}, nil
}

func (f fake) Rollback(_ context.Context, r RollbackRequest, by string) (ActionReply, error) {
	return ActionReply{fmt.Sprintf("%s %s %d", by, r.Stack, r.Generation)}, nil
}

func (f fake) Retry(_ context.Context, r RetryRequest, by string) (ActionReply, error) {
	return ActionReply{by + " " + r.Stack + " " + r.Service}, nil
}

func (f fake) Apply(_ context.Context, r ApplyRequest, by string) (ActionReply, error) {
	return ActionReply{fmt.Sprintf("%s %s %s %t", by, r.Stack, r.Service, r.Now)}, nil
}

func (f fake) Release(_ context.Context, r ReleaseRequest) (ReleaseReply, error) {
	return ReleaseReply{Objects: []string{"project/" + r.Stack}}, nil
}

func (f fake) Why(_ context.Context, stack, service string) (ActionReply, error) {
	return ActionReply{stack + " " + service}, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// generous are limits that no test meets by accident.
func generous() limits {
	return limits{header: time.Minute, body: time.Minute, idle: time.Minute, quick: time.Minute, slow: time.Minute, conns: 64}
}

// socket returns a path short enough for a socket.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic-api-") //nolint:usetesting // TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "api.sock")
}

// serve serves a backend until the test ends, and returns the socket's path.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	path := socket(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		err := <-done
		if err != nil {
			t.Error("Serve:", err)
		}
	})
	return path
}

func at(hour int) time.Time { return time.Date(2026, 2, 3, hour, 0, 0, 0, time.UTC) }

func fullStatus() Status {
	return Status{
		Version: "1.2.3", Owner: "0123456789abcdef", Since: at(1),
		Incus: Incus{OK: true, Version: "7.0.2", Error: "none"},
		DNS:   DNS{Listeners: []string{"10.201.3.1:53"}, Failed: map[string]string{"10.201.4.1:53": "no such address"}, Names: 12},
		Stacks: []Stack{{
			Name: "blog", Project: "blog", Source: "/etc/incus-compose.d/blog.yaml", State: Blocked, Generation: 3, LastApplied: at(2), Next: at(3),
			Conditions: ConditionsOf([]plan.Condition{{Type: "Blocked", Object: "instance/web-1", Text: "no such image", Since: at(4)}}),
			Warnings:   WarningsOf([]plan.Warning{{File: "/etc/incus-compose.d/blog.yaml", Line: 7, Key: "services.web.logging", Text: "is not honoured"}}),
			Services: []Service{{
				Name: "web", Image: "nginx:1.27", Want: 2, Running: 1, Ports: []string{"8080 → 80/tcp"},
				Instances: []Instance{{Name: "web-1", Status: "Running", Since: at(5), Addresses: []string{"10.201.3.2"}, Health: "healthy", Note: "none"}, {Name: "web-2"}},
			}},
			Plan: "stack blog: nothing to do\n",
		}},
		Problems: []string{"/etc/incus-compose.d/x.txt: is not a compose file"},
	}
}

func TestNamesInTheJSONStay(t *testing.T) {
	p := plan.Plan{
		Stack: "blog", Steps: []plan.Step{{N: 2, After: []int{1}, On: plan.ID{Kind: plan.KindInstance, Name: "web-1"}, Op: plan.StartInstance{Name: "web-1"}, Cause: "stopped", Interrupts: true}},
		Blocked: []plan.Blocked{{On: plan.ID{Kind: plan.KindInstance, Name: "db-1"}, Reason: "no such image"}}, Warnings: []plan.Warning{{Key: "services.web.logging", Text: "is not honoured"}},
	}
	got, err := json.MarshalIndent(map[string]any{
		"status": fullStatus(), "empty status": Status{}, "plan": PlanOf(p), "empty plan": PlanOf(plan.Plan{Stack: "blog"}),
		"reload":  ReloadReply{Stacks: []ReloadResult{{Stack: "blog", State: Invalid, Error: "blog.yaml:1: no"}}, Problems: []string{"p"}},
		"confirm": ConfirmReply{Removed: []string{"blog"}}, "confirm request": ConfirmRequest{Stacks: []string{"blog"}},
		"error": Error{NotFound, "text", "hint"},
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "names.json")
	if *update {
		err = os.WriteFile(golden, append(got, '\n'), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	diff := cmp.Diff(string(want), string(got)+"\n")
	if diff != "" {
		t.Error(diff)
	}
}

func TestEveryVerbReachesTheBackendAndBack(t *testing.T) {
	plans := []PlanReply{{Stack: "blog", Text: "stack blog: nothing to do\n", Steps: []Step{}}}
	reply := ReloadReply{Stacks: []ReloadResult{{Stack: "blog", State: Invalid, Error: "blog.yaml:1: no"}}}
	c := NewClient(serve(t, NewServer(fake{
		status: func(context.Context) (Status, error) { return fullStatus(), nil },
		plan: func(_ context.Context, stack string) ([]PlanReply, error) {
			if stack != "a b&c" {
				t.Errorf("plan of %q", stack)
			}
			return plans, nil
		},
		reload: func(_ context.Context, wait bool) (ReloadReply, error) {
			if !wait {
				return ReloadReply{}, nil
			}
			return reply, nil
		},
		confirm: func(_ context.Context, stacks []string) ([]string, error) { return stacks, nil },
	}, quiet())))
	ctx := t.Context()
	status, err := c.Status(ctx)
	same(t, "status", fullStatus(), status, err)
	gotPlans, err := c.Plan(ctx, "a b&c")
	same(t, "plan", plans, gotPlans, err)
	gotReply, err := c.Reload(ctx, true)
	same(t, "reload --wait", reply, gotReply, err)
	gotReply, err = c.Reload(ctx, false)
	same(t, "reload", ReloadReply{}, gotReply, err)
	removed, err := c.ConfirmRemoval(ctx, "blog", "shop")
	same(t, "confirm-removal", []string{"blog", "shop"}, removed, err)
	removed, err = c.ConfirmRemoval(ctx)
	same(t, "confirm-removal of all", []string(nil), removed, err)
	all, err := c.History(ctx, "a b")
	same(t, "history", []Generation{{Number: 2, Why: "the file of a b", Current: true}}, all, err)
	one, err := c.Generation(ctx, "blog", 7)
	same(t, "generation", Generation{Number: 7, Why: "blog", Documents: []Document{{Name: "a", Text: "b"}}}, one, err)
	me, uerr := user.Current()
	if uerr != nil {
		t.Fatal(uerr)
	}
	done, err := c.Rollback(ctx, RollbackRequest{Stack: "blog", Generation: 3})
	same(t, "rollback", ActionReply{me.Username + " blog 3"}, done, err)
	done, err = c.Retry(ctx, "blog", "web")
	same(t, "retry", ActionReply{me.Username + " blog web"}, done, err)
	done, err = c.Why(ctx, "blog", "web")
	same(t, "why", ActionReply{"blog web"}, done, err)
}

func same[T any](t *testing.T, what string, want, got T, err error) {
	t.Helper()
	diff := cmp.Diff(want, got, cmpopts.EquateEmpty())
	if err != nil || diff != "" {
		t.Errorf("%s: %v\n%s", what, err, diff)
	}
}

func TestAnErrorKeepsItsKindTextAndHint(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want Error
	}{
		{"of the API", fmt.Errorf("plan: %w", &Error{AwayIncus, "Incus does not answer", "systemctl status incus"}), Error{AwayIncus, "Incus does not answer", "systemctl status incus"}},
		{"another one", errors.New("disk on fire"), Error{Internal, "disk on fire", "journalctl -u ic-agent may say more"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := NewClient(serve(t, NewServer(fake{plan: func(context.Context, string) ([]PlanReply, error) { return nil, c.err }}, quiet())))
			_, err := client.Plan(t.Context(), "")
			var got *Error
			if !errors.As(err, &got) || *got != c.want {
				t.Errorf("%#v, want %#v", err, c.want)
			}
		})
	}
}

func TestProgramsAlwaysFindAList(t *testing.T) {
	c := NewClient(serve(t, NewServer(fake{}, quiet())))
	for path, want := range map[string]string{
		"GET /v1/status":           `{"version":"","incus":{"ok":false},"dns":{"listeners":[],"names":0},"stacks":[]}`,
		"GET /v1/plan":             `[]`,
		"GET /v1/why":              `{"text":" "}`,
		"POST /v1/reload":          `{"stacks":[]}`,
		"POST /v1/confirm-removal": `{"removed":[]}`,
	} {
		method, url, _ := strings.Cut(path, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://ic-agent"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: %s, want %s", path, b, want)
		}
	}
}

func TestMetricsWhereThereIsARegistry(t *testing.T) {
	get := func(path string) (int, string) {
		resp, err := NewClient(path).http.Get("http://ic-agent/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	code, _ := get(serve(t, NewServer(fake{}, quiet())))
	if code != http.StatusNotFound {
		t.Errorf("without a registry: %d", code)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ic_test"}, func() float64 { return 7 }))
	s := NewServer(fake{}, quiet())
	s.Metrics(reg)
	code, text := get(serve(t, s))
	if code != http.StatusOK || !strings.Contains(text, "ic_test 7") {
		t.Errorf("%d: %s", code, text)
	}
}

func TestABodyBeyondAMebibyteIsRefused(t *testing.T) {
	c := NewClient(serve(t, NewServer(fake{confirm: func(context.Context, []string) ([]string, error) {
		t.Error("it reached the backend")
		return nil, nil
	}}, quiet())))
	_, err := c.ConfirmRemoval(t.Context(), strings.Repeat("x", maxBody))
	var got *Error
	if !errors.As(err, &got) || got.Kind != BadRequest {
		t.Errorf("%v", err)
	}
}

func FuzzConfirmBody(f *testing.F) {
	s := NewServer(fake{}, quiet())
	f.Add(`{"stacks":["blog"]}`)
	f.Add(`{"stacks":7}`)
	f.Add(``)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := http.NewRequest(http.MethodPost, "/v1/confirm-removal", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.confirm(r)
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Kind != BadRequest) {
			t.Errorf("%q: %v", body, err)
		}
	})
}

func TestACallerThatSendsNothingIsCutOff(t *testing.T) {
	lim := generous()
	lim.header = 10 * time.Millisecond
	path := serve(t, newServer(fake{}, quiet(), lim))
	for _, sent := range []string{"", "GET /v1/status HTTP/1.1\r\nHost:"} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(c, sent)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(c) // returns only when the server closes
		if err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
}

func TestALongReloadOutlivesTheDeadlineForReadingIt(t *testing.T) {
	lim := generous()
	lim.body, lim.quick = 10*time.Millisecond, 50*time.Millisecond
	c := NewClient(serve(t, newServer(fake{reload: func(ctx context.Context, _ bool) (ReloadReply, error) {
		select {
		case <-ctx.Done():
			return ReloadReply{}, ctx.Err()
		case <-time.After(200 * time.Millisecond):
			return ReloadReply{Problems: []string{"done"}}, nil
		}
	}}, quiet(), lim)))
	r, err := c.Reload(t.Context(), true)
	if err != nil || len(r.Problems) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}

func TestABackendThatHangsIsGivenUp(t *testing.T) {
	lim := generous()
	lim.slow = 10 * time.Millisecond
	c := NewClient(serve(t, newServer(fake{plan: func(ctx context.Context, _ string) ([]PlanReply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}, quiet(), lim)))
	_, err := c.Plan(t.Context(), "")
	var got *Error
	if !errors.As(err, &got) || got.Kind != Internal {
		t.Errorf("%v", err)
	}
}

// crowd is a listener with a queue of callers that has no end. None of them ever says anything.
type crowd struct {
	accepted chan net.Conn
	closed   chan struct{}
}

func (c *crowd) Accept() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case c.accepted <- client:
		return server, nil
	case <-c.closed:
		return nil, net.ErrClosed
	}
}

func (c *crowd) Close() error   { close(c.closed); return nil }
func (c *crowd) Addr() net.Addr { return &net.UnixAddr{} }

func TestNoMoreConnectionsAtOnceThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lim := generous()
		lim.conns = 3
		c := &crowd{accepted: make(chan net.Conn, 1000), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- newServer(fake{}, quiet(), lim).Serve(ctx, c) }()
		synctest.Wait()
		if n := len(c.accepted); n != 3 {
			t.Fatalf("%d at once", n)
		}
		_ = (<-c.accepted).Close()
		synctest.Wait()
		if n := len(c.accepted); n != 3 {
			t.Errorf("%d when one is gone", n)
		}
		cancel()
		err := <-served
		if err != nil {
			t.Error(err)
		}
	})
}

func TestServeEndsWithItsContextAndRemovesTheSocket(t *testing.T) {
	path := socket(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	s := NewServer(fake{reload: func(ctx context.Context, _ bool) (ReloadReply, error) {
		close(entered)
		<-ctx.Done()
		return ReloadReply{}, &Error{Kind: Internal, Text: "the agent is stopping"}
	}}, quiet())
	served, called := make(chan error), make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	go func() {
		_, err := NewClient(path).Reload(context.Background(), true)
		called <- err
	}()
	<-entered
	cancel()
	err = <-called
	var got *Error
	if !errors.As(err, &got) || got.Text != "the agent is stopping" {
		t.Errorf("the request under way: %v", err)
	}
	err = <-served
	if err != nil {
		t.Error(err)
	}
	_, err = os.Stat(path)
	if !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is there still:", err)
	}
}

// DNS explains one name.
func (fake) DNS(_ context.Context, name, from string) (DNSReply, error) {
	if name == "nobody" {
		return DNSReply{}, &Error{NotFound, "no such instance", "look"}
	}
	return DNSReply{Text: name + " as " + from + " sees it", Verdict: "NOERROR", Answers: []string{"A 10.0.0.2"}}, nil
}

// Names has nothing.
func (fake) Names(context.Context) (NamesReply, error) { return NamesReply{Domain: "incus"}, nil }

func TestDNSIsAskedByNameAndAsker(t *testing.T) {
	s := NewServer(fake{}, slog.New(slog.DiscardHandler))
	v, err := s.dns(httptest.NewRequest(http.MethodGet, "/v1/dns?name=web&from=shop/db-1", nil))
	if err != nil || v.(DNSReply).Text != "web as shop/db-1 sees it" {
		t.Errorf("%v, %v", v, err)
	}

	v, err = s.dns(httptest.NewRequest(http.MethodGet, "/v1/dns", nil))
	if err != nil || v.(NamesReply).Domain != "incus" {
		t.Errorf("without a name: %v, %v", v, err)
	}
}
