// Package journal is how the daemons write to the systemd journal: plain text with a priority, which journalctl -p and
// a reader both understand.
package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/journal"
)

// New returns a logger that writes text to stderr: for the journal with a priority in front and without the time, which the
// journal adds itself (sd-daemon(3)); for a terminal with both. The level is "debug", "info", "warn" or "error";
// empty means info.
func New(level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		err := l.UnmarshalText([]byte(level))
		if err != nil {
			return nil, fmt.Errorf("log level %q: it is debug, info, warn or error", level)
		}
	}

	toJournal, err := systemd.StderrIsJournalStream()
	if err == nil && toJournal {
		return slog.New(newHandler(os.Stderr, l)), nil
	}

	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

// handler prefixes each line with its priority and the plain message: "<4>step failed stack=blog …".
type handler struct {
	slog.Handler
	out *prefixed
}

func newHandler(w io.Writer, level slog.Level) *handler {
	out := &prefixed{w: w}
	text := slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}

		return a
	}})

	return &handler{Handler: text, out: out}
}

// Handle writes a record.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()

	priority := systemd.PriInfo
	switch {
	case r.Level >= slog.LevelError:
		priority = systemd.PriErr
	case r.Level >= slog.LevelWarn:
		priority = systemd.PriWarning
	case r.Level < slog.LevelInfo:
		priority = systemd.PriDebug
	}

	h.out.head = fmt.Sprintf("<%d>%s", priority, r.Message)

	return h.Handler.Handle(ctx, r)
}

// WithAttrs is slog's.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{Handler: h.Handler.WithAttrs(attrs), out: h.out}
}

// WithGroup is slog's.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{Handler: h.Handler.WithGroup(name), out: h.out}
}

// prefixed writes a head before each line. Its lock is held by Handle over both.
type prefixed struct {
	mu   sync.Mutex
	w    io.Writer
	head string
}

func (p *prefixed) Write(line []byte) (int, error) {
	sep := " "
	if len(line) == 1 {
		sep = ""
	}

	_, err := io.WriteString(p.w, p.head+sep+string(line))

	return len(line), err
}
