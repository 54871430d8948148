package healthd

import (
	"context"
	"errors"
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

	return work(ctx, conf, kept)
}

// work is the daemon that has the lock.
func work(ctx context.Context, conf Config, kept store) error {
	saved, err := kept.load()
	if err != nil {
		conf.Log.ErrorContext(ctx, "beginning without what was known", "err", err)
	}

	l, err := listen(conf.Listen)
	if err != nil {
		return err
	}

	b, self, err := backendOf(conf)
	if err != nil {
		return errors.Join(err, l.Close())
	}

	changed := make(chan struct{}, 1)
	r := runnerOf(conf, b, self, saved, kept, changed)
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	part := func(name string, run func() error) {
		parts.Go(func() {
			err := run()
			if err != nil {
				conf.Log.ErrorContext(ctx, "a part of the daemon does not work any more", "part", name, "err", err)
			}
		})
	}
	part("status socket", func() error { return serve(ctx, l, r) })
	parts.Go(func() { tell(ctx, conf, r, changed) })
	if b.exits != nil {
		part("exit codes from the kernel", func() error { return b.exits.hear(ctx) })
		parts.Go(func() { b.follow(ctx) })
	}

	if conf.Remote.Project != "" {
		parts.Go(func() { b.announce(ctx, r) })
	}

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

func runnerOf(conf Config, b *backend, self string, saved map[health.ID]health.Saved, kept store, changed chan<- struct{}) *health.Runner {
	p := newProber(b.c)
	p.guest = b.only != ""
	press := &pressure{dir: "/proc/pressure"}

	return health.NewRunner(health.Options{
		Instances: b, Hands: b, Prober: p, Hints: b.hints, Self: self, Starved: press.now,
		Random: rand.Float64, Saved: saved, Save: kept.save, Log: conf.Log,
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	})
}

// summed is who knows how we are.
type summed interface {
	Summary(ctx context.Context) (health.Summary, error)
	Late(now time.Time) time.Duration
	Resync(ctx context.Context)
}

// statusEvery is the least time between two STATUS lines.
const statusEvery = time.Second

// tell tells systemd how we are when that changes, gives a sign of life in time, and reloads when asked to. Each sign goes
// through the loop that it is for.
func tell(ctx context.Context, conf Config, r summed, changed <-chan struct{}) {
	status := "waiting for Incus"
	conf.Notify("READY=1\nSTATUS=" + status)
	var hungry <-chan time.Time
	if conf.Watchdog > 0 {
		tick := time.NewTicker(conf.Watchdog / 4)
		defer tick.Stop()
		hungry = tick.C
	}

	rest := time.NewTimer(0)
	defer rest.Stop()
	news := changed // nil while the last line is too young
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
		case <-rest.C:
			news = changed
		case <-news:
			status = refresh(ctx, conf, r, status)
			news = nil
			rest.Reset(statusEvery)
		case <-hungry:
			status = refresh(ctx, conf, r, status)
			feed(conf, r.Late(time.Now()))
		}
	}
}

// refresh sends the STATUS line when it changed.
func refresh(ctx context.Context, conf Config, r summed, old string) string {
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
func feed(conf Config, late time.Duration) {
	if late > stalled {
		conf.Log.Error("no sign of life: systemd will restart us", "reason", fmt.Sprintf("the loop has not turned for %s", late))
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
