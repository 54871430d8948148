package apply

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// endsQuiet is for how long nothing more is said of an instance that ends again and again; the ends are counted.
const endsQuiet = 10 * time.Minute

// ends is what was said of the ends of an instance: when the last time, and how many there were since.
type ends struct {
	told time.Time
	more int
}

// tellEnd writes into the log how an instance ended. The ends of a host's last run are not told: it went down.
func (l *Loop) tellEnd(ctx context.Context, name string, exit plan.Exit) {
	now, said := time.Now(), l.ends[name]
	level := slog.LevelInfo
	if l.led.Host != l.host.Boot || !said.told.IsZero() && now.Sub(said.told) < endsQuiet {
		level = slog.LevelDebug
	}

	if l.ends == nil {
		l.ends = map[string]ends{}
	}

	code := "unknown"
	if exit.Known {
		code = strconv.Itoa(exit.Code)
	}

	args := []any{"instance", name, "code", code}
	if said.more > 0 && level == slog.LevelInfo {
		args = append(args, "times", said.more+1, "since", said.told.UTC().Format(time.RFC3339))
	}

	l.log.Log(ctx, level, "instance ended", args...)
	switch {
	case level == slog.LevelInfo:
		l.ends[name] = ends{told: now}
	case !said.told.IsZero():
		l.ends[name] = ends{told: said.told, more: said.more + 1}
	}
}
