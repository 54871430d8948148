package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/state"
)

// Version is the program's, set at link time: -ldflags "-X …/internal/cli.Version=1.2.3".
var Version = "devel"

// The exit codes, shown by "ic-agent help".
const (
	// OK: done, and what was asked about is well.
	OK = 0
	// Failed: it went wrong, or a file or stack is refused.
	Failed = 1
	// Usage: the command line is wrong.
	Usage = 2
	// NotRunning: the agent cannot be reached.
	NotRunning = 3
	// AwayIncus: the agent waits for Incus.
	AwayIncus = 4
	// Locked: another agent has the ledger.
	Locked = state.ExitLocked
)

const exitHelp = `Exit codes:
  0   done, and what was asked about is well
  1   it failed, or a file or stack is refused
  2   the command line is wrong
  3   the agent is not running or cannot be reached
  4   the agent waits for Incus
  75  another agent uses the state directory
`

// usage is a verb's synopsis and flags, and the list of verbs for the program itself.
const usage = `Usage: {{if .HasAvailableSubCommands}}{{.CommandPath}} VERB{{else}}{{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}

Verbs:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}

"{{.CommandPath}} VERB --help" says more about one.
{{- end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}{{if .HasAvailableInheritedFlags}}
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}
{{- end}}
`

// defaultAPI is the path of the API socket.
const defaultAPI = "/run/ic-agent/api.sock"

// defaultConfig is the path of the daemon's settings.
const defaultConfig = "/etc/ic-agent/agent.toml"

// exit is an error with an exit code. With a nil err, all has been said already.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// said ends a verb that has printed what is wrong.
func said(code int) error {
	if code == OK {
		return nil
	}
	return &exit{code: code}
}

func misused(err error) error { return &exit{Usage, err} }

// cli is what the verbs share.
type cli struct {
	api string
	now func() time.Time
}

func (c *cli) client() *api.Client { return api.NewClient(c.api) }

// New makes the command line. run is the body of "ic-agent run", place that of "ic-agent place".
func New(run, place func(ctx context.Context, opts RunOptions) error) *cobra.Command {
	c := &cli{now: time.Now}
	root := &cobra.Command{
		Use:   "ic-agent",
		Short: "Makes an Incus host run the compose files in its directory",
		Long: `ic-agent makes an Incus host run the compose files in /etc/incus-compose.d.

The daemon is "ic-agent run", started by ic-agent.service. The other verbs ask it, or, like
"check", need no daemon.`,
		Version:       Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return misused(fmt.Errorf("there is no verb %q%s", args[0], suggest(cmd, args[0])))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("ic-agent {{.Version}}\n")
	root.AddCommand(healthd())
	root.SetUsageTemplate(usage)
	root.SetHelpTemplate(root.HelpTemplate() + "\n" + exitHelp)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misused(err) })
	root.PersistentFlags().StringVar(&c.api, "api", defaultAPI, "`PATH` of the agent's API socket")
	root.AddCommand(c.runVerb(run), c.placeVerb(place), c.check(), c.status(), c.plan(), c.reload())
	root.AddCommand(c.apply(), c.confirm(), c.destroy(), c.adopt(), c.release(), c.dns(), schema(), version())
	root.AddCommand(parse(), dbcheck(), mkdir(), buffers())
	root.AddCommand(c.history(), c.diff(), c.rollback(), c.retry(), c.why())
	root.AddCommand(c.update(), buildImage())
	root.SetHelpCommand(help(root))
	return root
}

// Main runs the command line of this process and returns its exit code.
func Main(ctx context.Context, run, place func(ctx context.Context, opts RunOptions) error) int {
	err := New(run, place).ExecuteContext(ctx)
	return report(os.Stderr, err)
}

// report prints an error, unless it was said already, and returns the exit code for it.
func report(w io.Writer, err error) int {
	if err == nil {
		return OK
	}
	var e *exit
	quiet := errors.As(err, &e) && e.err == nil
	if !quiet {
		fmt.Fprintln(w, "ic-agent: "+strings.TrimPrefix(err.Error(), "ic-agent "))
	}
	var refused *api.Error
	switch {
	case e != nil:
		if e.code == Usage {
			fmt.Fprintln(w, `Try "ic-agent --help".`)
		}
		return e.code
	case errors.Is(err, state.ErrLocked):
		return Locked
	case errors.As(err, &refused) && refused.Kind == api.NotRunning:
		return NotRunning
	case errors.As(err, &refused) && refused.Kind == api.AwayIncus:
		return AwayIncus
	}
	return Failed
}

func suggest(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	close := cmd.SuggestionsFor(word)
	if len(close) == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", close[0])
}

// help is "ic-agent help [VERB]".
func help(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [VERB]",
		Short: "Show what a verb does",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, _, err := root.Find(args)
			if err != nil || len(args) > 0 && cmd == root {
				return misused(fmt.Errorf("there is no verb %q%s", args[0], suggest(root, args[0])))
			}
			return cmd.Help()
		},
	}
}

// atMost, and exactly, refuse surplus and missing arguments.
func atMost(n int) cobra.PositionalArgs { return between(0, n) }

func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misused(fmt.Errorf("%s needs an argument: %s", cmd.Name(), cmd.UseLine()))
		case len(args) > most:
			return misused(fmt.Errorf("%s does not know what to do with %q: %s", cmd.Name(), args[most], cmd.UseLine()))
		}
		return nil
	}
}
