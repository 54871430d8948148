package healthd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const fp = "7ee593f21d97799bd204d6e350dca07d00710500baca2acb92f28b0fe31f9beb"

// host is a fake Incus with a daemon at work on it, in a bubble of virtual time.
type host struct {
	*testing.T
	srv  *incustest.Server
	c    *incus.Client
	r    *health.Runner
	log  *lines
	kept map[health.ID]health.Saved
	stop func()
}

// lines is a log that can be read meanwhile.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// onHost runs a test with a daemon that is up.
func onHost(t *testing.T, test func(h *host)) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		t.Cleanup(srv.Close)
		srv.StoreImage("default", incustest.Image{Fingerprint: fp}, false)
		h := &host{T: t, srv: srv, c: incus.New(incus.Options{Dial: srv.Dial})}
		h.do("blog", plan.CreateProject{Name: "blog", Config: map[string]string{"features.images": "false"}})
		h.up()
		test(h)
		h.stop()
		if bad := srv.Violations(); len(bad) > 0 {
			h.Errorf("it asks for what Incus does not have: %q", bad)
		}
		if t.Failed() {
			t.Log(h.log.String())
		}
	})
}

// up starts the daemon with what the last one kept.
func (h *host) up() {
	h.log = &lines{}
	b := newBackend(h.c, nil)
	var mu sync.Mutex
	h.r = health.NewRunner(health.Options{
		Instances: b, Hands: b, Prober: newProber(h.c), Hints: b.hints, Self: "ic-healthd", Random: func() float64 { return 0.5 },
		Saved: maps.Clone(h.kept), Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Save: func(all map[health.ID]health.Saved) error {
			mu.Lock()
			defer mu.Unlock()
			h.kept = maps.Clone(all)
			return nil
		},
	})
	ctx, cancel := context.WithCancel(h.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = h.r.Run(ctx) }()
	h.stop = func() { cancel(); <-done }
	h.settle()
}

// settle lets what is due at once happen.
func (h *host) settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func (h *host) do(project string, ops ...plan.Op) {
	h.Helper()
	for _, op := range ops {
		err := h.c.Do(h.Context(), project, op)
		if err != nil {
			h.Fatal(err)
		}
	}
}

// create makes an instance that runs.
func (h *host) create(name string, config map[string]string) {
	h.Helper()
	h.do("blog", plan.CreateInstance{
		Name: name, Fingerprint: fp, Start: true, Config: config,
		Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}},
	})
}

// says sets what the check of an instance ends with.
func (h *host) says(name string, code int) {
	h.srv.SetProgram("blog", name, func(context.Context, api.InstanceExecPost) (int, string, error) { return code, "said", nil })
}

// crash ends the app of an instance.
func (h *host) crash(name string) {
	h.Helper()
	err := h.srv.Exit("blog", name, 1)
	if err != nil {
		h.Fatal(err)
	}
}

func keys(more ...string) map[string]string {
	c := map[string]string{health.KeyEnabled: "true"}
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

func checked(more ...string) map[string]string {
	return keys(append([]string{health.KeyTest, `["CMD","true"]`, health.KeyInterval, "5s", health.KeyTimeout, "1s"}, more...)...)
}

// is checks the status key and the state of an instance.
func (h *host) is(name, status, state string) {
	h.Helper()
	synctest.Wait()
	i, found := h.srv.Instance("blog", name)
	if !found || i.Config[health.KeyStatus] != status || i.Status != state {
		h.Fatalf("%s is %q and %q, want %q and %q\n%s", name, i.Config[health.KeyStatus], i.Status, status, state, h.log)
	}
}

// writes lists what was changed since the last ForgetCalls, but the checks.
func (h *host) writes() []string {
	var list []string
	for _, c := range h.srv.Writes() {
		if !strings.HasSuffix(c.Path, "/exec") {
			list = append(list, c.String())
		}
	}
	return list
}

func TestHealthyAndUnhealthyReachedAndLeft(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked())
		h.settle()
		h.is("web", "starting", "Running")
		time.Sleep(5 * time.Second)
		h.is("web", "healthy", "Running")
		h.says("web", 1)
		time.Sleep(20 * time.Second)
		h.is("web", "unhealthy", "Running")
		i, _ := h.srv.Instance("blog", "web")
		if !strings.Contains(i.Config[health.KeyDetail], `"output":"said"`) {
			h.Errorf("the detail is %s", i.Config[health.KeyDetail])
		}
		h.says("web", 0)
		time.Sleep(6 * time.Second)
		h.is("web", "healthy", "Running")
	})
}

func TestH11IncusAwayForTenMinutesChangesNothing(t *testing.T) {
	onHost(t, func(h *host) {
		for n := range 10 {
			h.create(fmt.Sprintf("web%d", n), checked(health.KeyRestart, "always"))
		}
		time.Sleep(20 * time.Second)
		h.is("web7", "healthy", "Running")
		h.srv.ForgetCalls()
		h.srv.Down()
		time.Sleep(10 * time.Minute)
		h.srv.Up()
		time.Sleep(time.Minute)
		h.is("web7", "healthy", "Running")
		if w := h.writes(); len(w) > 0 {
			h.Errorf("written: %q", w)
		}
	})
}

func TestH11AnIncusThatAnswersWithErrorsChangesNothing(t *testing.T) {
	for name, f := range map[string]incustest.Fault{
		"500":             {Method: "POST", Path: "*/exec", Status: 500, Message: "database is locked", Times: -1},
		"busy":            {Method: "POST", Path: "*/exec", Status: 500, Message: `Instance is busy running a "snapshot" operation`, Times: -1},
		"no websocket":    {Path: "*/websocket", Drop: true, Times: -1},
		"hung websocket":  {Path: "*/websocket", Hang: true, Times: -1},
		"not running":     {Method: "POST", Path: "*/exec", Status: 400, Message: "Instance is not running", Times: -1},
		"garbled answers": {Method: "POST", Path: "*/exec", Garbage: true, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(h *host) {
				h.create("web", checked(health.KeyRestart, "always"))
				time.Sleep(10 * time.Second)
				h.is("web", "healthy", "Running")
				h.srv.ForgetCalls()
				h.srv.Fail(f)
				time.Sleep(5 * time.Minute)
				h.srv.Mend()
				time.Sleep(2 * time.Minute)
				h.is("web", "healthy", "Running")
				if w := h.writes(); len(w) > 0 {
					h.Errorf("written: %q", w)
				}
			})
		})
	}
}

func TestH08ALoneHungProbeTimesOut(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyRetries, "1", health.KeyTimeout, "3s"))
		time.Sleep(10 * time.Second)
		h.is("web", "healthy", "Running")
		h.srv.SetProgram("blog", "web", func(ctx context.Context, req api.InstanceExecPost) (int, string, error) {
			if slices.Contains(req.Command, reaper) {
				return 0, "", nil
			}
			<-ctx.Done()
			return 0, "", ctx.Err()
		})
		time.Sleep(8100 * time.Millisecond) // the interval, the timeout, 0.1 s
		h.is("web", "unhealthy", "Running")
		if n := h.srv.Execs(); n != 0 {
			h.Errorf("%d commands still run", n)
		}
		v, err := h.r.View(h.Context())
		if err != nil || !strings.Contains(v.Rows[0].Results[len(v.Rows[0].Results)-1].Output, "exceeded timeout (3s)") {
			h.Errorf("%+v, %v", v.Rows, err)
		}
	})
}

func TestH09WhatAProbeLeftBehindIsHuntedDown(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked())
		var mark, hunted string
		h.srv.SetProgram("blog", "web", func(ctx context.Context, req api.InstanceExecPost) (int, string, error) {
			if slices.Contains(req.Command, reaper) {
				hunted = req.Command[len(req.Command)-1]
				return 0, "", nil
			}
			mark = req.Environment[markVariable]
			<-ctx.Done()
			return 0, "", ctx.Err()
		})
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if mark == "" || hunted != markVariable+"="+mark {
			h.Errorf("the probe was marked %q, and %q was hunted", mark, hunted)
		}
	})
}

func TestH10AFloodOfOutputIsCut(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked())
		h.srv.SetProgram("blog", "web", func(context.Context, api.InstanceExecPost) (int, string, error) {
			return 0, strings.Repeat("y\xff\n", 1<<20), nil
		})
		time.Sleep(60 * time.Second)
		v, err := h.r.View(h.Context())
		if err != nil {
			h.Fatal(err)
		}
		got := v.Rows[0].Results
		if len(got) != 5 || len(got[0].Output) > 3*keepOutput || !strings.HasSuffix(got[0].Output, "...") || !strings.HasPrefix(got[0].Output, "y\uFFFD\n") {
			h.Errorf("%d results, %d bytes: %.20q", len(got), len(got[0].Output), got[0].Output)
		}
	})
}

func TestH15CrashIsRestartedWithinTheDelay(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", keys(health.KeyRestart, "always"))
		h.settle()
		h.is("web", "healthy", "Running")
		err := h.srv.Exit("blog", "web", 1)
		if err != nil {
			h.Fatal(err)
		}
		time.Sleep(99 * time.Millisecond)
		h.is("web", "stopped", "Stopped")
		time.Sleep(2 * time.Millisecond)
		h.is("web", "healthy", "Running")
	})
}

func TestH15ACrashWhileNobodyListensIsNotMissed(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", keys(health.KeyRestart, "always"))
		h.settle()
		h.srv.FaultEvents(incustest.EventFaults{Drop: 1})
		err := h.srv.Exit("blog", "web", 1)
		if err != nil {
			h.Fatal(err)
		}
		h.srv.Restart() // the stream breaks, the event is lost
		h.srv.FaultEvents(incustest.EventFaults{})
		time.Sleep(10 * time.Second)
		h.is("web", "healthy", "Running")
	})
}

func TestH19OnFailureByTheRealExitCode(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("job", keys(health.KeyRestart, "on-failure:2"))
		h.settle()
		for n := range 3 {
			time.Sleep(time.Second)
			h.is("job", "healthy", "Running")
			err := h.srv.Exit("blog", "job", 3)
			if err != nil {
				h.Fatalf("after %d restarts: %v", n, err)
			}
		}
		time.Sleep(time.Hour)
		h.is("job", "stopped", "Stopped")
		h.do("blog", plan.StartInstance{Name: "job"})
		h.settle()
		err := h.srv.Exit("blog", "job", 0)
		if err != nil {
			h.Fatal(err)
		}
		time.Sleep(time.Minute)
		h.is("job", "stopped", "Stopped")
	})
}

func TestX5AManualStopStaysAlsoOverARestartOfTheDaemon(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", keys(health.KeyRestart, "unless-stopped"))
		h.settle()
		h.do("blog", plan.StopInstance{Name: "web", Grace: time.Second})
		h.settle()
		h.is("web", "stopped", "Stopped")
		h.stop()
		h.up()
		time.Sleep(10 * time.Minute)
		h.is("web", "stopped", "Stopped")
	})
}

func TestH23AnUnhealthyInstanceIsStoppedGracefullyAndStarted(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyRestart, "always", "boot.host_shutdown_timeout", "30"))
		h.srv.SetApp("blog", "web", incustest.App{StopsAfter: 20 * time.Second})
		time.Sleep(10 * time.Second)
		h.is("web", "healthy", "Running")
		before, _ := h.srv.Instance("blog", "web")
		h.srv.SetUser("ic-healthd") // who stops it from now on
		h.says("web", 1)
		time.Sleep(25 * time.Second)
		h.is("web", "unhealthy", "Running") // within its grace
		h.says("web", 0)
		time.Sleep(30 * time.Second)
		h.is("web", "healthy", "Running")
		after, _ := h.srv.Instance("blog", "web")
		if !after.LastUsedAt.After(before.LastUsedAt) {
			h.Error("it was not restarted")
		}
	})
}

func TestADependantWaitsWhileWhatItNeedsIsHealed(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("db-1", checked(health.KeyRestart, "always", "boot.host_shutdown_timeout", "60", plan.KeyService, "db"))
		h.create("app-1", keys(health.KeyRestart, "always", plan.KeyService, "app", plan.KeyNeeds, "cache db"))
		h.create("web-1", keys(health.KeyRestart, "always", plan.KeyService, "web"))
		h.srv.SetApp("blog", "db-1", incustest.App{StopsAfter: 30 * time.Second})
		time.Sleep(10 * time.Second)
		h.is("db-1", "healthy", "Running")
		h.srv.SetUser("ic-healthd")
		h.says("db-1", 1)
		time.Sleep(18 * time.Second)
		h.is("db-1", "unhealthy", "Running") // and within its grace
		h.says("db-1", 0)
		h.crash("app-1")
		h.crash("web-1")
		time.Sleep(15 * time.Second)
		h.is("app-1", "stopped", "Stopped")
		h.is("web-1", "healthy", "Running") // needs nobody
		time.Sleep(30 * time.Second)
		h.is("db-1", "healthy", "Running")
		h.is("app-1", "healthy", "Running")
		if n := strings.Count(h.log.String(), "waits for a dependency"); n != 1 {
			h.Errorf("it is said %d times", n)
		}
	})
}

func TestH29SteadyStateWritesNothing(t *testing.T) {
	onHost(t, func(h *host) {
		for n := range 5 {
			h.create(fmt.Sprintf("web%d", n), checked())
		}
		time.Sleep(time.Minute)
		h.srv.ForgetCalls()
		time.Sleep(time.Hour)
		if w := h.writes(); len(w) > 0 {
			h.Errorf("written: %q", w)
		}
	})
}

func TestH29AFailedWriteIsRepeated(t *testing.T) {
	onHost(t, func(h *host) {
		h.srv.Fail(incustest.Fault{Method: "PATCH", Path: "/1.0/instances/web", Status: 500, Message: "database is locked", Times: 5})
		h.create("web", checked())
		time.Sleep(40 * time.Second)
		h.is("web", "healthy", "Running")
	})
}

func TestH30OnlyOwnKeysAreWritten(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked())
		h.settle()
		err := h.srv.Set("blog", "web", map[string]string{"user.other": "mine"})
		if err != nil {
			h.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		i, _ := h.srv.Instance("blog", "web")
		if i.Config["user.other"] != "mine" || i.Config[health.KeyStatus] != "healthy" {
			h.Errorf("%v", i.Config)
		}
		for _, w := range h.writes() {
			if w != "PATCH /1.0/instances/web" && !strings.HasPrefix(w, "POST") {
				h.Errorf("written: %s", w)
			}
		}
	})
}

func TestH31ConfigChangeTakesEffectWithinASecond(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyInterval, "1h", health.KeyRetries, "1"))
		h.says("web", 1)
		h.settle()
		h.srv.ForgetCalls()
		err := h.srv.Set("blog", "web", map[string]string{health.KeyTest: `["CMD","other"]`})
		if err != nil {
			h.Fatal(err)
		}
		time.Sleep(time.Second)
		h.is("web", "unhealthy", "Running")
	})
}

func TestH32DaemonRestartCausesNoWriteAndNoRestart(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyRestart, "always"))
		h.create("job", keys(health.KeyRestart, "on-failure"))
		time.Sleep(10 * time.Second)
		err := h.srv.Exit("blog", "job", 0)
		if err != nil {
			h.Fatal(err)
		}
		h.settle()
		h.stop()
		h.srv.ForgetCalls()
		h.up()
		time.Sleep(10 * time.Minute)
		h.is("web", "healthy", "Running")
		h.is("job", "stopped", "Stopped")
		if w := h.writes(); len(w) > 0 {
			h.Errorf("written: %q", w)
		}
	})
}

func TestH36NotWatchedAndWhy(t *testing.T) {
	onHost(t, func(h *host) {
		config := checked()
		delete(config, health.KeyEnabled)
		h.create("web", config)
		h.create("other", map[string]string{"user.x": "y"})
		h.create("wrong", checked(health.KeyInterval, "soon"))
		h.create("web2", checked())
		h.settle()
		err := h.srv.Set("blog", "web2", map[string]string{health.KeyEnabled: ""})
		if err != nil {
			h.Fatal(err)
		}
		time.Sleep(time.Minute)
		h.is("web", "", "Running")
		h.is("web2", "unknown", "Running")
		v, err := h.r.View(h.Context())
		if err != nil || len(v.Rows) != 3 {
			h.Fatalf("%+v, %v", v.Rows, err)
		}
		for n, want := range []string{"web is not true", "web2 is not true", `is "soon": write a duration`} {
			name, text, _ := strings.Cut(want, " ")
			if n < 2 && (v.Rows[n].Instance != name || !strings.Contains(v.Rows[n].Why, text)) || n == 2 && !strings.Contains(v.Rows[n].Why, want) {
				h.Errorf("row %d: %+v", n, v.Rows[n])
			}
		}
	})
}

func TestAnotherDaemonsProjectIsLeftAlone(t *testing.T) {
	onHost(t, func(h *host) {
		h.do("blog", plan.UpdateProject{Name: "blog", Set: map[string]string{health.KeyScope: "global"}})
		h.create("web", checked())
		h.create("healthd", map[string]string{health.KeyDaemon: "true", health.KeyIgnore: "true"})
		h.r.Resync(h.Context())
		time.Sleep(20 * time.Second)
		v, err := h.r.View(h.Context())
		if err != nil || !strings.Contains(v.Refused["blog"], "stop that daemon") || v.Summary.Instances != 0 {
			h.Fatalf("%+v, %v", v, err)
		}
		h.do("blog", plan.StopInstance{Name: "healthd"})
		h.r.Resync(h.Context())
		time.Sleep(20 * time.Second)
		h.is("web", "healthy", "Running")
	})
}

func TestX10LastWordsOfADeletedInstance(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked())
		time.Sleep(10 * time.Second)
		h.do("blog", plan.StopInstance{Name: "web"}, plan.DeleteInstance{Name: "web"})
		h.settle()
		v, err := h.r.View(h.Context())
		if err != nil || len(v.Rows) != 0 || len(v.Gone) != 1 || len(v.Gone[0].Results) == 0 || !v.Gone[0].Gone {
			h.Fatalf("%+v, %v", v, err)
		}
	})
}

func TestLossyEventsEndWell(t *testing.T) {
	onHost(t, func(h *host) {
		h.srv.FaultEvents(incustest.EventFaults{Duplicate: 0.5, Reorder: 0.5, Seed: 1})
		for n := range 10 {
			h.create(fmt.Sprintf("web%d", n), keys(health.KeyRestart, "always"))
		}
		h.settle()
		for n := range 10 {
			err := h.srv.Exit("blog", fmt.Sprintf("web%d", n), 1)
			if err != nil {
				h.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		for n := range 10 {
			h.is(fmt.Sprintf("web%d", n), "healthy", "Running")
		}
	})
}
