package healthd

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/journal"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// Version is the program's; the command sets it.
var Version = "devel"

const usage = `usage: ic-healthd VERB [OPTIONS]

  run                    the daemon, started by ic-healthd.service
  status [--json]        what it looks after, and how that is
  probe STACK/SERVICE    make the check once, now, and show everything about it; PROJECT/INSTANCE works too.
        [--try LINE]     make this check instead, as if it stood in healthcheck.test
  up --project P         run this daemon as an instance of Incus project P, with rights in that project alone
  down --project P       remove it and its certificate
  status --project P     what it says
  version                the version

Options of run:
  --incus PATH           socket of Incus (default: where a packaged Incus listens)
  --state DIR            where state is kept (default /var/lib/ic-healthd)
  --listen PATH          the status socket (default /run/ic-healthd/status.sock)
  --log-level LEVEL      debug, info, warn or error (default info)

Exit codes: 0 all is well, 1 it failed or something is unhealthy, 2 the command line is wrong, 3 the daemon
cannot be reached.
`

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitAway   = 3
)

// options are the flags of all verbs.
type options struct {
	incus, state, listen, level, try, project string
	json                                      bool
}

// Main runs the command line and returns its exit code. reload is for run.
func Main(ctx context.Context, args []string, out, errs io.Writer, reload <-chan os.Signal) int {
	remote, guest := guestRemote()
	if guest {
		args = []string{"run"}
	} else {
		remote = Remote{}
	}

	if len(args) == 0 {
		_, _ = io.WriteString(errs, usage)
		return exitUsage
	}

	verb := args[0]
	var o options
	f := flag.NewFlagSet("ic-healthd "+verb, flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() { _, _ = io.WriteString(errs, usage) }
	f.StringVar(&o.incus, "incus", "", "")
	f.StringVar(&o.state, "state", "/var/lib/ic-healthd", "")
	f.StringVar(&o.listen, "listen", "/run/ic-healthd/status.sock", "")
	f.StringVar(&o.level, "log-level", "info", "")
	f.StringVar(&o.try, "try", "", "")
	f.StringVar(&o.project, "project", "", "")
	f.BoolVar(&o.json, "json", false, "")
	err := f.Parse(args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}

	if err != nil {
		return exitUsage
	}

	switch {
	case verb == "run" && f.NArg() == 0:
		return runVerb(ctx, o, remote, errs, reload)
	case (verb == "up" || verb == "down" || verb == "status" && o.project != "") && f.NArg() == 0:
		return guestVerb(ctx, o, verb, out, errs)
	case verb == "status" && f.NArg() == 0:
		return statusVerb(ctx, o, out, errs)
	case verb == "probe" && f.NArg() == 1:
		return probeVerb(ctx, o, f.Arg(0), out, errs)
	case verb == "version", verb == "--version":
		_, _ = fmt.Fprintln(out, "ic-healthd", Version)
		return exitOK
	case verb == "help", verb == "--help", verb == "-h":
		_, _ = io.WriteString(out, usage)
		return exitOK
	}

	_, _ = io.WriteString(errs, usage)

	return exitUsage
}

func runVerb(ctx context.Context, o options, remote Remote, errs io.Writer, reload <-chan os.Signal) int {
	log, err := journal.New(o.level)
	if err != nil {
		return failed(errs, exitUsage, fmt.Errorf("--log-level: %w", err))
	}

	if remote.Address != "" && os.Getpid() == 1 {
		err = loopbackUp()
		if err != nil {
			return failed(errs, exitFailed, err)
		}
	}

	log.InfoContext(ctx, "ic-healthd", "version", Version, "pid", os.Getpid())
	err = Run(ctx, Config{Socket: o.incus, Remote: remote, Dir: o.state, Listen: o.listen, Log: log, Reload: reload, Watchdog: WatchdogTime()})
	if err != nil {
		return failed(errs, exitFailed, err)
	}

	return exitOK
}

func failed(errs io.Writer, code int, err error) int {
	_, _ = fmt.Fprintln(errs, "ic-healthd:", err)

	return code
}

func statusVerb(ctx context.Context, o options, out, errs io.Writer) int {
	v, err := askStatus(ctx, o.listen)
	if err != nil {
		return failed(errs, exitAway, err)
	}

	code := exitOK
	if v.Summary.Unhealthy > 0 || v.Summary.Away {
		code = exitFailed
	}

	if o.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(v)
	} else {
		err = show(out, v, time.Now())
	}

	if err != nil {
		return failed(errs, exitFailed, err)
	}

	return code
}

// show prints a view for people.
func show(out io.Writer, v health.View, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PROJECT/INSTANCE\tSTATUS\tSINCE\tCHECK\tRESTART\tREMARKS")
	for _, r := range v.Rows {
		since := ""
		if !r.Since.IsZero() {
			since = now.Sub(r.Since).Round(time.Second).String()
		}

		status := string(r.Status)
		if !r.Watched {
			status = "not watched"
		}

		_, _ = fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", r.Project, r.Instance, status, since, r.Check, r.Restart, strings.Join(remarks(r), "; "))
	}

	err := w.Flush()
	if err != nil {
		return err
	}

	for project, why := range v.Refused {
		_, _ = fmt.Fprintf(out, "project %s: %s\n", project, why)
	}

	_, err = fmt.Fprintf(out, "%s; the loop turned %s ago\n", v.Summary, v.Idle.Round(time.Millisecond))

	return err
}

func remarks(r health.Row) []string {
	var list []string
	add := func(on bool, format string, args ...any) {
		if on {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	add(r.Why != "", "%s", r.Why)
	add(r.Watched && r.Status == "", "it has not run since it is looked after")
	add(r.Broken, "the check looks broken")
	add(r.Streak > 0, "%s in a row", plan.Count(r.Streak, "failure"))
	add(r.Exit != "" && r.Status == health.Stopped, "%s", r.Exit)
	add(r.Manual != "", "stopped by %s", r.Manual)
	add(r.GaveUp, "given up after %s", plan.Count(r.Restarts, "restart"))
	add(!r.RestartAt.IsZero(), "a restart is due")
	if n := len(r.Results); n > 0 && r.Results[n-1].Verdict != health.Passed {
		add(true, "last probe: %s", r.Results[n-1].Words())
	}

	return list
}
