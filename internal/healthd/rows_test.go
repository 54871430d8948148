package healthd

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestH03AProbeRunsAsTheAppDoes(t *testing.T) {
	onHost(t, func(h *host) {
		var got api.InstanceExecPost
		h.srv.SetProgram("blog", "web", func(_ context.Context, req api.InstanceExecPost) (int, string, error) {
			got = req
			return 0, "", nil
		})
		h.create("web", checked("oci.uid", "70", "oci.gid", "71", "oci.cwd", "/srv", "environment.PATH", "/opt"))
		time.Sleep(10 * time.Second)
		h.is("web", "healthy", "Running")
		if got.User != 70 || got.Group != 71 || got.Cwd != "/srv" || got.Environment["PATH"] != "" {
			h.Errorf("it ran as %d:%d in %s with %v over the instance's own environment", got.User, got.Group, got.Cwd, got.Environment)
		}
	})
}

// Variables with line breaks are known to the launcher only.
func TestAProbeOfALaunchedAppGoesThroughTheLauncher(t *testing.T) {
	onHost(t, func(h *host) {
		var got []string
		h.srv.SetProgram("blog", "web", func(_ context.Context, req api.InstanceExecPost) (int, string, error) {
			got = req.Command
			return 0, "", nil
		})
		h.create("web", checked(health.KeyTest, `["CMD","curl","x"]`, plan.KeyLauncher, plan.LauncherPath))
		time.Sleep(10 * time.Second)
		h.is("web", "healthy", "Running")
		if want := []string{plan.LauncherPath, "curl", "x"}; !slices.Equal(got, want) {
			h.Errorf("it ran %q, want %q", got, want)
		}
	})
}

func TestH34AMachineWithoutItsAgentIsUnknownUntilItsTimeIsOver(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("vm", checked(health.KeyStartPeriod, "20s", health.KeyStartInterval, "5s", health.KeyRetries, "2"))
		h.srv.SetProgram("blog", "vm", nil)
		h.srv.Fail(incustest.Fault{Method: "POST", Path: "*/exec", Status: 500, Message: "VM agent isn't currently running", Times: -1})
		time.Sleep(45 * time.Second) // the start period, and what an agent may take beyond it
		h.is("vm", "starting", "Running")
		time.Sleep(20 * time.Second)
		h.is("vm", "unhealthy", "Running")
		h.srv.Mend()
		time.Sleep(10 * time.Second)
		h.is("vm", "healthy", "Running")
	})
}

func TestH35WhoWaitsForAVerdictHasItAtOnce(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("db", checked(health.KeyInterval, "1h", health.KeyStartPeriod, "1h", health.KeyStartInterval, "3s"))
		h.settle()
		h.is("db", "starting", "Running")
		time.Sleep(time.Second + 99*time.Millisecond) // the first probe is 3 s after the start
		h.is("db", "healthy", "Running")
	})
}

func TestH40WhatACheckSaysAndHoldsIsNotTaken(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyTest, `["CMD-SHELL","mysql -ps3cret"]`, health.KeyRetries, "1"))
		h.srv.SetProgram("blog", "web", func(context.Context, api.InstanceExecPost) (int, string, error) {
			return 1, "one\x1b[2Jtwo\nlevel=ERROR msg=forged\xff", nil
		})
		time.Sleep(20 * time.Second)
		h.is("web", "unhealthy", "Running")
		log := h.log.String()
		if strings.Contains(log, "s3cret") || strings.Contains(log, "\nlevel=ERROR msg=forged") || strings.Contains(log, "\x1b") {
			h.Errorf("the log holds %q", log)
		}
		v, err := h.r.View(h.Context())
		if err != nil || strings.Contains(v.Rows[0].Check, "s3cret") {
			h.Errorf("shown: %q (%v)", v.Rows[0].Check, err)
		}
		var out bytes.Buffer
		err = show(&out, v, time.Now())
		if err != nil || strings.Contains(out.String(), "\x1b") {
			h.Errorf("a terminal gets %q (%v)", out.String(), err)
		}
	})
}

func TestH41OnlyALoopThatTurnsGivesASignOfLife(t *testing.T) {
	var said []string
	var log bytes.Buffer
	conf := Config{Notify: func(s string) { said = append(said, s) }, Log: slog.New(slog.NewTextHandler(&log, nil))}
	feed(conf, stalled)
	feed(conf, stalled+time.Second)
	if len(said) != 1 || said[0] != "WATCHDOG=1" || !strings.Contains(log.String(), "has not turned for 11s") {
		t.Errorf("it says %q and %s", said, log.String())
	}
	if stalled > 10*time.Second {
		t.Error("a stall is found too late")
	}
}
