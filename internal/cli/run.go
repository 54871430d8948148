package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/buffer"
	"github.com/incus-compose/ic-agent/internal/build"
	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/hostdir"
	"github.com/incus-compose/ic-agent/internal/state"
)

// RunOptions are the flags of "ic-agent run". Empty ones were not given, unless the comment names a default.
type RunOptions struct {
	// Dev runs the whole agent against an Incus in memory.
	Dev bool
	// Config is the path of agent.toml; "/etc/ic-agent/agent.toml" by default, and empty by default with Dev.
	Config string
	// Directories replace those of the settings, highest precedence first.
	Directories []string
	// State is the directory of the ledger; $STATE_DIRECTORY (systemd.exec(5)) or "/var/lib/ic-agent" by
	// default, and empty by default with Dev.
	State string
	// Files is the directory of the configs and secrets of instances; "/run/ic-agent-files" by default, and empty by
	// default with Dev.
	Files string
	// Socket is the path of Incus's socket.
	Socket string
	// API is the path of the API socket; "/run/ic-agent/api.sock" by default, and empty by default with Dev.
	API string
	// LogLevel is "debug", "info", "warn" or "error".
	LogLevel string
}

var logLevels = []string{"debug", "info", "warn", "error"}

func (c *cli) runVerb(run func(ctx context.Context, opts RunOptions) error) *cobra.Command {
	var o RunOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent (ic-agent.service does)",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.LogLevel != "" && !slices.Contains(logLevels, o.LogLevel) {
				return misused(fmt.Errorf("--log-level %s: it is one of %s", o.LogLevel, strings.Join(logLevels, ", ")))
			}
			o.API = c.api
			if o.Dev {
				for name, value := range map[string]*string{"config": &o.Config, "state": &o.State, "api": &o.API, "files": &o.Files} {
					if !cmd.Flags().Changed(name) {
						*value = ""
					}
				}
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.Dev, "dev", false, "pretend: an Incus in memory, DNS on a loopback port, a temporary directory")
	f.StringVar(&o.Config, "config", defaultConfig, "`PATH` of the settings")
	f.StringArrayVar(&o.Directories, "directory", nil, "`DIR` of stacks, may be repeated (default: the settings')")
	f.StringVar(&o.State, "state", stateDir(), "`DIR` of the ledger")
	f.StringVar(&o.Files, "files", filesDir, "`DIR` of the instances' configs and secrets, on a tmpfs")
	f.StringVar(&o.Socket, "socket", "", "`PATH` of Incus's socket (default: found)")
	f.StringVar(&o.LogLevel, "log-level", "", "`LEVEL`: debug, info, warn or error (default: the settings')")
	return cmd
}

// filesDir is made by the package's tmpfiles.d entry.
const filesDir = "/run/ic-agent-files"

// placeVerb is run at boot, before Incus starts the instances.
func (c *cli) placeVerb(place func(ctx context.Context, opts RunOptions) error) *cobra.Command {
	var o RunOptions
	cmd := &cobra.Command{
		Use:    "place",
		Short:  "Place the configs and secrets of all stacks (ic-agent-files.service does, at boot)",
		Hidden: true,
		Args:   atMost(0),
		RunE:   func(cmd *cobra.Command, _ []string) error { return place(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Config, "config", "/etc/ic-agent/agent.toml", "`PATH` of the settings")
	f.StringVar(&o.State, "state", stateDir(), "`DIR` of the ledger")
	f.StringVar(&o.Files, "files", filesDir, "`DIR` to place them in")
	return cmd
}

func stateDir() string {
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if dir == "" {
		return "/var/lib/ic-agent"
	}
	return dir
}

// parse is the child that reads untrusted files for the agent.
func parse() *cobra.Command {
	return &cobra.Command{
		Use:    "parse",
		Short:  "Translate a stack's files for the agent (JSON in, JSON out)",
		Hidden: true,
		Args:   atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return said(compose.Main(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout()))
		},
	}
}

// checkCPU is the CPU time that checking a ledger may take, which is a thousand times what it does.
const checkCPU = 5 * time.Second

// buildImage is the process that builds an image for the agent, outside of its sandbox.
func buildImage() *cobra.Command {
	var h build.Helper
	cmd := &cobra.Command{
		Use:    "build",
		Short:  "Build an image for the agent (ic-agent-build@.service)",
		Hidden: true,
		Args:   atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return h.Serve(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&h.Cache, "cache", build.Cache, "`DIR` of the builder's store and of what it made")
	cmd.Flags().StringVar(&h.Runtime, "runtime", os.TempDir(), "`DIR` for the time of a build")
	return cmd
}

// dbcheck is the child that reads a ledger which may be damaged.
func dbcheck() *cobra.Command {
	return &cobra.Command{
		Use:    "dbcheck PATH",
		Short:  "Check a ledger for the agent",
		Hidden: true,
		Args:   between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Where the limits cannot be set (a system call filter), the unit's own have to do.
			_ = state.LimitSelf(checkCPU)
			err := state.Check(cmd.Context(), args[0])
			if errors.Is(err, state.ErrDamaged) {
				return &exit{state.ExitDamaged, err}
			}
			return err
		},
	}
}

// buffers is the helper that enlarges the agent's sockets, at the other end of one.
func buffers() *cobra.Command {
	return &cobra.Command{
		Use:    "buffer",
		Short:  "Enlarge the receive buffers of sockets for the agent (sockets in, an answer out)",
		Hidden: true,
		Args:   atMost(0),
		RunE: func(*cobra.Command, []string) error {
			return buffer.Serve(os.Stdin)
		},
	}
}

// mkdir is the helper that makes directories for the agent, at the other end of a socket.
func mkdir() *cobra.Command {
	return &cobra.Command{
		Use:    "mkdir",
		Short:  "Make a directory for the agent (a path in, an answer out)",
		Hidden: true,
		Args:   atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return hostdir.Serve(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}
