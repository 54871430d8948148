package healthd

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
)

// Config is what the daemon is started with.
type Config struct {
	// Socket is Incus's socket; empty means where a packaged Incus listens.
	Socket string
	// Remote is used instead of Socket where it has an address.
	Remote Remote
	// Dir is where state is kept, Listen the path of the status socket.
	Dir, Listen string
	// Log is for transitions.
	Log *slog.Logger
	// Notify tells systemd; nil means sd_notify(3).
	Notify func(state string)
	// Reload makes everything be read again at each receive; nil means never.
	Reload <-chan os.Signal
	// Watchdog is within which time systemd wants a sign of life; 0 means never.
	Watchdog time.Duration
}

// Run is the daemon. It returns when ctx ends, or with what keeps it from working at all; an Incus that is away
// does not.
func Run(ctx context.Context, conf Config) error {
	if conf.Notify == nil {
		conf.Notify = func(state string) { _, _ = daemon.SdNotify(false, state) }
	}

	kept := store{conf.Dir}
	unlock, err := kept.lock(ctx, func() {
		conf.Log.WarnContext(ctx, "another ic-healthd has the lock: standing by", "dir", conf.Dir)
		conf.Notify("READY=1\nSTATUS=standing by: another ic-healthd works")
	})
	if ctx.Err() != nil {
		return nil
	}

	if err != nil {
		return err
	}

	defer unlock()
	saved, err := kept.load()
	if err != nil {
		conf.Log.ErrorContext(ctx, "beginning without what was known", "err", err)
	}

	l, err := listen(conf.Listen)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	press := &pressure{dir: "/proc/pressure"}
	b, self, err := backendOf(conf)
	if err != nil {
		return err
	}

	r := runnerOf(conf, b, self, saved, kept, press)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	if b.exits != nil {
		parts.Go(func() { b.exits.hear(ctx) })
		parts.Go(func() { b.follow(ctx) })
	}

	if conf.Remote.Project != "" {
		parts.Go(func() { b.announce(ctx, r) })
	}

	parts.Go(func() { press.run(ctx) })
	parts.Go(func() {
		err := serve(ctx, l, r)
		if err != nil {
			conf.Log.ErrorContext(ctx, "the status socket does not work any more", "err", err)
		}
	})
	parts.Go(func() { tell(ctx, conf, r) })

	return r.Run(ctx)
}

// backendOf connects with Incus, and tells under which name it will know us.
func backendOf(conf Config) (b *backend, self string, err error) {
	if conf.Remote.Address != "" {
		cert, err := identity(conf.Dir)
		if err != nil {
			return nil, "", fmt.Errorf("prepare a certificate: %w", err)
		}

		b = newBackend(incus.New(incus.Options{Dial: conf.Remote.dialer(cert), Log: conf.Log}), nil)
		b.only = conf.Remote.Project

		return b, fingerprint(cert.Certificate[0]), nil
	}

	x, err := newExits("/sys/fs/cgroup")
	if err != nil {
		return nil, "", fmt.Errorf("prepare to hear of ends: %w", err)
	}

	if !descriptorsTell() {
		err = x.connect()
		if err != nil {
			conf.Log.Info("exit codes come from the logs of containers alone", "reason", err)
		}
	}

	me, err := user.Current()
	if err == nil {
		self = me.Username
	}

	return newBackend(incus.New(incus.Options{Socket: conf.Socket, Log: conf.Log}), x), self, nil
}

func runnerOf(conf Config, b *backend, self string, saved map[health.ID]health.Saved, kept store, press *pressure) *health.Runner {
	p := newProber(b.c)
	p.guest = b.only != ""

	return health.NewRunner(health.Options{
		Instances: b, Hands: b, Prober: p, Hints: b.hints, Self: self, Starved: press.starved.Load,
		Random: rand.Float64, Saved: saved, Save: kept.save, Log: conf.Log,
	})
}

// tell tells systemd how we are, and reloads when asked to.
func tell(ctx context.Context, conf Config, r *health.Runner) {
	status := "waiting for Incus"
	conf.Notify("READY=1\nSTATUS=" + status)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var fed time.Time
	for {
		select {
		case <-ctx.Done():
			conf.Notify("STOPPING=1\nSTATUS=stopping; instances keep running")
			return
		case <-conf.Reload:
			conf.Log.InfoContext(ctx, "reading everything again")
			conf.Notify("RELOADING=1\n" + strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
			r.Resync(ctx)
			conf.Notify("READY=1")
		case now := <-tick.C:
			status = refresh(ctx, conf, r, status)
			if conf.Watchdog > 0 && now.Sub(fed) > conf.Watchdog/4 {
				fed = now
				feed(conf, r.Idle(now))
			}
		}
	}
}

// refresh sends the STATUS line when it changed.
func refresh(ctx context.Context, conf Config, r *health.Runner, old string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := r.Summary(ctx)
	if err != nil || !s.Ready && !s.Away {
		return old
	}

	status := s.String()
	if status != old {
		conf.Notify("STATUS=" + status)
	}

	return status
}

// feed gives a sign of life, which only a loop that turns deserves.
func feed(conf Config, idle time.Duration) {
	if idle > stalled {
		conf.Log.Error("no sign of life: systemd will restart us", "reason", fmt.Sprintf("the loop has not turned for %s", idle))
		return
	}

	conf.Notify("WATCHDOG=1")
}

// WatchdogTime is what systemd asks for in this process's environment, 0 when nothing.
func WatchdogTime() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}

	return d
}
