package incus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func command(words ...string) incus.Command {
	return incus.Command{Argv: words, UID: 7, GID: 8, Cwd: "/srv", Limit: 10, Start: 30 * time.Second, Run: time.Second}
}

// hang is a program that ends only when it is killed.
func hang(ctx context.Context, _ api.InstanceExecPost) (int, string, error) {
	<-ctx.Done()
	return 0, "", ctx.Err()
}

func TestExecTellsHowItEnded(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		for _, code := range []int{0, 1, 126, 127, 137} {
			s.srv.SetProgram("blog", "web", func(_ context.Context, req api.InstanceExecPost) (int, string, error) {
				if req.User != 7 || req.Group != 8 || req.Cwd != "/srv" || req.Command[0] != "true" {
					s.Errorf("it runs as %+v", req)
				}
				return code, "0123456789abcdef", nil
			})
			e, err := s.c.Exec(s.Context(), "blog", "web", command("true"))
			if err != nil || e.Code != code || e.Late {
				s.Fatalf("%+v, %v; want code %d", e, err, code)
			}
			if string(e.Output) != "0123456789" || !e.More {
				s.Errorf("output %q, more %v", e.Output, e.More)
			}
		}
	})
}

func TestExecKillsAtTheTimeout(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		killed := make(chan struct{})
		s.srv.SetProgram("blog", "web", func(ctx context.Context, req api.InstanceExecPost) (int, string, error) {
			defer close(killed)
			return hang(ctx, req)
		})
		began := time.Now()
		e, err := s.c.Exec(s.Context(), "blog", "web", command("sleep"))
		if err != nil || !e.Late || e.Code != -1 || time.Since(began) != time.Second {
			s.Fatalf("%+v, %v after %s", e, err, time.Since(began))
		}
		<-killed
	})
}

func TestExecSetUpDoesNotEatTheTimeout(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		s.srv.Fail(incustest.Fault{Method: "POST", Path: "*/exec", Delay: 20 * time.Second})
		e, err := s.c.Exec(s.Context(), "blog", "web", command("true"))
		if err != nil || e.Late || e.Code != 0 {
			s.Fatalf("%+v, %v", e, err)
		}
	})
}

func TestExecErrorsThatAreNotTheCommands(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*stage)
		kind error
	}{
		{"Incus is away", func(s *stage) { s.srv.Down() }, incus.ErrUnavailable},
		{"Incus restarts meanwhile", func(s *stage) { time.AfterFunc(100*time.Millisecond, s.srv.Restart) }, incus.ErrUnavailable},
		{"Incus says 500", func(s *stage) {
			s.srv.Fail(incustest.Fault{Method: "POST", Path: "*/exec", Status: 500, Message: "database is locked"})
		}, incus.ErrFailed},
		{"it does not run", func(s *stage) { s.do(plan.StopInstance{Name: "web"}) }, incus.ErrRefused},
		{"it is gone", func(s *stage) { s.do(plan.StopInstance{Name: "web"}, plan.DeleteInstance{Name: "web"}) }, incus.ErrNotFound},
		{"no agent in the virtual machine", func(s *stage) {
			s.srv.Fail(incustest.Fault{Method: "POST", Path: "*/exec", Status: 500, Message: "VM agent isn't currently running"})
		}, incus.ErrNoAgent},
		{"it never gets a process", func(s *stage) {
			s.srv.Fail(incustest.Fault{Path: "*/websocket", Hang: true, Times: -1})
		}, incus.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, incustest.Options{}, func(s *stage) {
				s.do(web(true))
				s.srv.SetProgram("blog", "web", hang)
				c.do(s)
				e, err := s.c.Exec(s.Context(), "blog", "web", incus.Command{Argv: []string{"x"}, Start: 30 * time.Second, Run: time.Minute})
				if !errors.Is(err, c.kind) {
					s.Errorf("%+v, %v; want %v", e, err, c.kind)
				}
			})
		})
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		s.srv.SetProgram("blog", "web", hang)
		ctx, cancel := context.WithCancel(s.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := s.c.Exec(ctx, "blog", "web", incus.Command{Argv: []string{"x"}, Start: 30 * time.Second, Run: time.Minute})
		if !errors.Is(err, context.Canceled) {
			s.Fatal(err)
		}
		time.Sleep(time.Second)
		if n := s.srv.Execs(); n != 0 {
			s.Errorf("%d still run", n)
		}
	})
}

func TestExitOf(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		err := s.srv.Exit("blog", "web", 3)
		if err != nil {
			s.Fatal(err)
		}
		e, err := s.c.ExitOf(s.Context(), "blog", "web")
		if err != nil || e != (incus.Exit{Known: true, Code: 3}) {
			s.Fatalf("%+v, %v", e, err)
		}
		_, err = s.c.ExitOf(s.Context(), "blog", "nobody")
		if !errors.Is(err, incus.ErrNotFound) {
			s.Fatal(err)
		}
	})
}

func TestExitInRealLogs(t *testing.T) {
	const (
		line  = "lxc c 20261122005619.905 NOTICE   start - ../src/lxc/start.c:start:2206 - Exec'ing \"/bin/sh\"\n"
		ended = "lxc c 20261122005622.922 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:31 - Child <491> ended on "
		hook  = "lxc c 20261122005622.922 INFO     utils - ../src/lxc/utils.c:run_script_argv:590 - Executing script \"incusd callhook /var/lib/incus 'default' 'c' stopns\" for container \"c\"\n"
	)
	for _, c := range []struct {
		name, log string
		want      incus.Exit
	}{
		{"exit 0", line + hook, incus.Exit{Known: true}},
		{"exit 3", line + ended + "error (3)\n" + hook, incus.Exit{Known: true, Code: 3}},
		{"killed", line + ended + "signal Killed(9)\n" + hook, incus.Exit{Known: true, Code: 137, Signal: 9}},
		{"an init that passes the signal on", line + ended + "error (139)\n" + hook, incus.Exit{Known: true, Code: 139, Signal: 11}},
		{"no such program", line + noExec("No such file or directory") + hook, incus.Exit{Known: true, Code: 127}},
		{"a file that may not be run", line + noExec("Permission denied") + hook, incus.Exit{Known: true, Code: 126}},
		{"a program of another machine", line + noExec("Exec format error") + hook, incus.Exit{Known: true, Code: 126}},
		{"a start that failed before", "lxc c 1 ERROR    start - ../src/lxc/start.c:__lxc_start:2119 - Failed to spawn container \"c\"\n" + hook, incus.Exit{}},
		{"still running", line, incus.Exit{}},
		{"another log level", "", incus.Exit{}},
		{"only errors are logged", "lxc c 2026 ERROR    conf - x\n", incus.Exit{}},
	} {
		got := incus.ExitIn(c.log)
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// noExec is what liblxc writes of a program that the kernel does not run.
func noExec(reason string) string {
	return "lxc c 20261125004953.331 ERROR    start - ../src/lxc/start.c:start:2209 - " + reason + " - Failed to exec \"/no/such\"\n"
}

func TestInstancesOfAllProjects(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		all, err := s.c.Instances(s.Context())
		if err != nil || len(all) != 1 || all[0].Project != "blog" || all[0].Name != "web" || all[0].Instance.Status != "Running" {
			s.Fatalf("%+v, %v", all, err)
		}
		one, err := s.c.Instance(s.Context(), "blog", "web")
		if err != nil || !one.LastUsed.Equal(all[0].Instance.LastUsed) {
			s.Fatalf("%+v, %v", one, err)
		}
		_, err = s.c.Instance(s.Context(), "blog", "nobody")
		if !errors.Is(err, incus.ErrNotFound) || !strings.Contains(err.Error(), "read instance nobody in project blog") {
			s.Fatal(err)
		}
		keys, err := s.c.ProjectKeys(s.Context(), "features.images")
		if err != nil || keys["blog"] != "false" || keys["default"] != "true" {
			s.Fatal(keys, err)
		}
	})
}
