// Command ic-agent makes an Incus host run the compose files in its directory. See ic-agent(8).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/agent"
	"github.com/incus-compose/ic-agent/internal/cli"
	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/journal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := cli.Main(ctx, run, place)
	stop()
	os.Exit(code)
}

// run is "ic-agent run".
func run(ctx context.Context, opts cli.RunOptions) error {
	conf, err := config(opts)
	if err != nil {
		return err
	}

	if opts.Dev {
		var done func()
		conf, done, err = agent.Dev(ctx, conf)
		if err != nil {
			return err
		}

		defer done()
	}

	a, err := agent.New(ctx, conf)
	if err != nil {
		return err
	}

	return a.Run(ctx)
}

// place is "ic-agent place".
func place(ctx context.Context, opts cli.RunOptions) error {
	conf, err := config(opts)
	if err != nil {
		return err
	}

	return agent.Place(ctx, conf)
}

// config turns settings and flags into what an agent is made from; a flag wins.
func config(opts cli.RunOptions) (agent.Config, error) {
	settings, err := agent.ReadSettings(opts.Config)
	if err != nil {
		return agent.Config{}, err
	}

	if len(opts.Directories) > 0 {
		settings.Directories = opts.Directories
	}

	if opts.Socket != "" {
		settings.Incus.Socket = opts.Socket
	}

	if opts.LogLevel != "" {
		settings.LogLevel = opts.LogLevel
	}

	exe, err := os.Executable()
	if err != nil {
		return agent.Config{}, fmt.Errorf("find this program: %w", err)
	}

	log, err := journal.New(settings.LogLevel)
	if err != nil {
		return agent.Config{}, err
	}

	return agent.Config{
		Settings: settings, StateDir: opts.State, APISocket: opts.API, Executable: exe, Version: cli.Version,
		Files: opts.Files, Vaults: compose.Vaults(os.Getenv("CREDENTIALS_DIRECTORY")),
		Watchdog: agent.WatchdogTime(), Inherited: agent.Inherited(), Log: log,
	}, nil
}
