package healthd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// startBudget is what getting a process in an instance may take, beside the time the probe itself has.
	startBudget = 30 * time.Second
	// killBudget bounds the removal of what a probe left behind.
	killBudget = 5 * time.Second
	// keepOutput is how much of a probe's output is kept (moby's maxOutputLen).
	keepOutput = 4096
	// markVariable is in the environment of a probe and of all it starts, so that they can be found.
	markVariable = "IC_HEALTH_PROBE"
)

// reaper kills every process in an instance whose environment holds the mark $1, until there is none. It uses
// nothing but the shell itself, and is not marked: the mark is in its arguments only.
const reaper = `while :; do
	found=
	for d in /proc/[0-9]*; do
		hit=
		while IFS= read -r l || [ -n "$l" ]; do
			case $l in *"$1"*) hit=1; break ;; esac
		done 2>/dev/null <"$d/environ"
		if [ -n "$hit" ]; then kill -9 "${d#/proc/}" 2>/dev/null; found=1; fi
	done 2>/dev/null
	if [ -z "$found" ]; then exit 0; fi
	sleep 0.02 2>/dev/null || :
done`

// prober makes probes.
type prober struct {
	c     *incus.Client
	short *shortcuts
	gate  gate // for what gets a process in an instance
	guest bool // this daemon is an instance itself, without a network
}

func newProber(c *incus.Client) prober {
	return prober{c: c, short: &shortcuts{vain: map[health.ID]vain{}}, gate: newGate()}
}

// Probe makes one.
func (p prober) Probe(ctx context.Context, i health.Instance, s health.Spec) (health.Result, func() bool) {
	if s.Probe != nil {
		return p.fromHost(ctx, i, *s.Probe, s.Timeout), nil
	}

	tried := s.Shortcut != nil && p.reaches(i, *s.Shortcut) && p.short.open(i)
	if tried {
		r := p.fromHost(ctx, i, *s.Shortcut, min(s.Timeout, shortcutLimit))
		if r.Verdict == health.Passed || ctx.Err() != nil {
			p.short.ended(i, false)
			return r, nil
		}
	}

	r, clean := p.exec(ctx, i, s)
	if tried {
		p.short.ended(i, r.Verdict == health.Passed)
	}

	return r, clean
}

// reaches tells whether a probe from the host gets to an instance by itself; through Incus it costs what a command does.
func (p prober) reaches(i health.Instance, probe health.Probe) bool {
	_, err := addressOf(i.Devices, probe.Device)

	return err == nil && !p.guest
}

func (p prober) fromHost(ctx context.Context, i health.Instance, probe health.Probe, timeout time.Duration) health.Result {
	at := time.Now()
	var r health.Result
	addr, err := addressOf(i.Devices, probe.Device)
	switch {
	case err != nil && probe.Device != "":
		r = health.Result{Verdict: health.NoAnswer, Output: err.Error()}
	case err != nil, p.guest:
		r = p.inside(ctx, i, probe, timeout)
	default:
		r = direct.dial(ctx, addr.String(), probe, timeout)
	}

	r.At, r.Took = at, time.Since(at)

	return r
}

// exec runs the test as the app would: its user, its directory, its environment.
func (p prober) exec(ctx context.Context, i health.Instance, s health.Spec) (health.Result, func() bool) {
	mark := rand.Text()
	argv := s.Argv()
	if launcher := i.Config[plan.KeyLauncher]; launcher != "" {
		argv = append([]string{launcher}, argv...)
	}

	cmd := incus.Command{
		Argv: argv, UID: number(i.Config["oci.uid"]), GID: number(i.Config["oci.gid"]), Cwd: i.Config["oci.cwd"],
		Env: map[string]string{markVariable: mark}, Limit: keepOutput, Start: startBudget, Run: s.Timeout,
	}
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return health.Result{Verdict: health.NoAnswer, Output: "called off", At: time.Now()}, nil
	}

	defer leave()
	cmd.Begun = leave
	at := time.Now()
	e, err := p.c.Exec(ctx, i.ID.Project, i.ID.Name, cmd)
	clean := func() bool { return p.reap(ctx, i.ID, mark) }
	switch {
	case ctx.Err() != nil:
		return health.Result{Verdict: health.NoAnswer, Output: "called off", At: at, Took: time.Since(at)}, clean
	case errors.Is(err, incus.ErrNoAgent):
		return health.Result{Verdict: health.NoAgent, Output: err.Error(), At: at, Took: time.Since(at)}, nil
	case err != nil:
		return health.Result{Verdict: health.NoAnswer, Output: err.Error(), At: at, Took: time.Since(at)}, clean
	}

	r := health.Result{Verdict: health.Passed, Code: e.Code, Output: text(e.Output, e.More), At: e.Began, Took: e.Took}
	switch {
	case e.Late:
		r.Verdict = health.TimedOut
		r.Output = strings.TrimSuffix(fmt.Sprintf("exceeded timeout (%s): %s", s.Timeout, r.Output), ": ")

		return r, clean
	case e.Code != 0:
		r.Verdict = health.Failed
	}

	if r.Output == "" && (e.Code == 126 || e.Code == 127) { // Incus itself could not run it
		r.Output = cmd.Argv[0] + map[int]string{126: ": cannot be executed", 127: ": not found in the instance"}[e.Code]
	}

	return r, nil
}

// reap ends all that a probe started, and tells whether nothing remains. Without a shell in the image there is
// nothing that could tell.
func (p prober) reap(ctx context.Context, id health.ID, mark string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killBudget)
	defer cancel()
	e, err := p.c.Exec(ctx, id.Project, id.Name, incus.Command{
		Argv: []string{"/bin/sh", "-c", reaper, "sh", markVariable + "=" + mark}, Cwd: "/", Limit: keepOutput,
		Start: killBudget, Run: killBudget,
	})
	if err != nil {
		// A stopped instance has no processes, and one that is away cannot be asked.
		return true
	}

	return !e.Late && (e.Code == 0 || e.Code == 126 || e.Code == 127)
}

// text makes what an instance said fit to be shown, on a terminal too: nothing in it is a command to that.
func text(b []byte, more bool) string {
	s := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}

		return unicode.ReplacementChar
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
	if more {
		s += "..."
	}

	return s
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}

	return uint32(n)
}
