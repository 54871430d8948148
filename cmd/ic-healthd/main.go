// Command ic-healthd checks the instances of an Incus host and starts again what ended: see internal/healthd.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/healthd"
)

// version is set at link time.
var version = "devel"

func main() {
	healthd.Version = version
	// Incus stops a container with SIGPWR, or with SIGRTMIN+3 where the first process seems to wait for that.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPWR, syscall.Signal(37))
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	code := healthd.Main(ctx, os.Args[1:], os.Stdout, os.Stderr, reload)
	stop()
	os.Exit(code)
}
