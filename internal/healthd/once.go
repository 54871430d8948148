package healthd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// probeVerb makes the checks of a service's instances once.
func probeVerb(ctx context.Context, o options, target string, out, errs io.Writer) int {
	c := incus.New(incus.Options{Socket: o.incus})
	stack, service, ok := strings.Cut(target, "/")
	if !ok {
		return failed(errs, exitUsage, fmt.Errorf("%q: write STACK/SERVICE or PROJECT/INSTANCE", target))
	}

	all, err := c.Instances(ctx)
	if err != nil {
		return failed(errs, exitFailed, err)
	}

	// Without the daemon it is not known what a verdict would mean; the check can be made all the same.
	view, _ := askStatus(ctx, o.listen)
	code, found := exitOK, false
	for _, i := range all {
		keys := i.Instance.Config
		if !(keys[plan.KeyStack] == stack && keys[plan.KeyService] == service || i.Project == stack && i.Name == service) {
			continue
		}

		found = true
		p := once{out: out, prober: newProber(c), inst: shown(i.Project, i.Name, i.Instance)}
		at := slices.IndexFunc(view.Rows, func(r health.Row) bool { return r.Project == i.Project && r.Instance == i.Name })
		if at >= 0 {
			p.row = &view.Rows[at]
		}

		code = max(code, p.run(ctx, o.try))
	}

	if !found {
		return failed(errs, exitFailed, fmt.Errorf("there is no %s: \"ic-healthd status\" lists what there is", target))
	}

	return code
}

// once is a check made once and shown.
type once struct {
	out    io.Writer
	prober prober
	inst   health.Instance
	row    *health.Row // what the daemon knows; nil when it cannot be asked
}

func (p once) say(name, format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "%-10s %s\n", name+":", fmt.Sprintf(format, args...))
}

// run makes the check of an instance and prints all about it; with a line in try it makes that one.
func (p once) run(ctx context.Context, try string) int {
	i := p.inst
	p.say("instance", "%s, %s since %s", i.ID, i.State, i.Started.Local().Format(time.DateTime))
	if try != "" {
		p.row = nil // it knows another check
		i.Config[health.KeyTest], i.Config[health.KeyProbe], i.Config[health.KeyEnabled] = tested(try), "auto", "true"
	}

	spec, watched, why, err := health.ParseSpec(i.Config)
	switch {
	case err != nil:
		p.say("keys", "%s", err)
		return exitFailed
	case !watched && why != "":
		p.say("watched", "no: %s", why)
	}

	if !spec.Checked() {
		p.say("check", "none")
		return exitOK
	}

	p.say("timing", "interval %s, timeout %s, retries %d, start period %s", spec.Interval, spec.Timeout, spec.Retries, spec.StartPeriod)
	p.say("status", "%s", cmp.Or(i.Config[health.KeyStatus], "none yet"))
	if spec.Probe != nil {
		p.say("check", "%s, from the host", spec.Probe.Words())
		return p.result(p.prober.fromHost(ctx, i, *spec.Probe, spec.Timeout), spec)
	}

	var host health.Result
	if spec.Shortcut != nil {
		host = p.prober.fromHost(ctx, i, *spec.Shortcut, min(spec.Timeout, shortcutLimit))
		p.say("from host", "%s: %s after %s: %s", spec.Shortcut.Words(), host.Verdict, host.Took.Round(10*time.Microsecond), host.Output)
	} else if spec.Auto {
		p.say("from host", "not a form that is known there: it is run in the instance only")
	}

	p.say("check", "%q as user %s:%s in %s", spec.Argv(), cmp.Or(i.Config["oci.uid"], "0"), cmp.Or(i.Config["oci.gid"], "0"), cmp.Or(i.Config["oci.cwd"], "its home"))
	r, clean := p.prober.exec(ctx, i, spec)
	code := exitOK
	if try == "" && host.Verdict == health.Passed && r.Verdict != health.Passed {
		p.say("command", "%s, exit code %s: %s", r.Verdict, plan.ExitWords(r.Code), strings.TrimSpace(r.Output))
		p.say("means", "healthy: a pass from the host counts, and the command is not run then")
	} else {
		code = p.result(r, spec)
	}

	if clean != nil && !clean() {
		p.say("left", "processes that could not be killed")
	}

	return code
}

// tested is a line of compose's healthcheck.test as its key: a JSON list, or a text for the shell.
func tested(line string) string {
	var list []string
	if json.Unmarshal([]byte(line), &list) == nil {
		return line
	}

	b, _ := json.Marshal([]string{"CMD-SHELL", line}) // strings always marshal

	return string(b)
}

func (p once) result(r health.Result, spec health.Spec) int {
	p.say("verdict", "%s, exit code %s, after %s", r.Verdict, plan.ExitWords(r.Code), r.Took.Round(10*time.Microsecond))
	p.say("means", "%s", p.meaning(r, spec))
	if r.Output != "" {
		_, _ = fmt.Fprintf(p.out, "output:\n%s\n", strings.TrimRight(r.Output, "\n"))
	}

	if r.Verdict != health.Passed {
		return exitFailed
	}

	return exitOK
}

// meaning says what the daemon would make of a result.
func (p once) meaning(r health.Result, spec health.Spec) string {
	streak := 1
	if p.row != nil {
		streak += p.row.Streak
	}

	switch {
	case r.Verdict == health.Passed && spec.Successes > 1:
		return fmt.Sprintf("healthy; where it is unhealthy, after %d in a row", spec.Successes)
	case r.Verdict == health.Passed:
		return "healthy"
	case r.Verdict == health.NoAnswer:
		return "nothing: the check could not be made, which is not the instance's fault"
	case r.Verdict == health.NoAgent:
		return "nothing while the machine starts, a failure later"
	case r.Verdict == health.Failed && (r.Code == 126 || r.Code == 127):
		return "the check is broken: its program cannot be run. It is said, and nothing is done about it"
	case streak < spec.Retries:
		return fmt.Sprintf("failure %d of %d: no verdict yet", streak, spec.Retries)
	case p.row != nil && p.row.Broken:
		return "unhealthy, and it has never passed: the check looks broken, so nothing is done about it"
	}

	return fmt.Sprintf("unhealthy (failure %d of %d), and then: %s", streak, spec.Retries, spec.OnUnhealthy)
}
