package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// NewLogger writes text to stderr: for the journal with a priority in front and without the time, which the
// journal adds itself (sd-daemon(3)); for a terminal with both. The level is "debug", "info", "warn" or "error";
// empty means info.
func NewLogger(level string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		err := l.UnmarshalText([]byte(level))
		if err != nil {
			return nil, fmt.Errorf("log level %q: it is debug, info, warn or error", level)
		}
	}

	toJournal, err := journal.StderrIsJournalStream()
	if err == nil && toJournal {
		return slog.New(newJournalHandler(os.Stderr, l)), nil
	}

	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}

// journalHandler prefixes each line with its priority and the plain message: "<4>step failed stack=blog …".
type journalHandler struct {
	slog.Handler
	out *prefixed
}

func newJournalHandler(w io.Writer, level slog.Level) *journalHandler {
	out := &prefixed{w: w}
	text := slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}

		return a
	}})

	return &journalHandler{Handler: text, out: out}
}

// Handle writes a record.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()

	priority := journal.PriInfo
	switch {
	case r.Level >= slog.LevelError:
		priority = journal.PriErr
	case r.Level >= slog.LevelWarn:
		priority = journal.PriWarning
	case r.Level < slog.LevelInfo:
		priority = journal.PriDebug
	}

	h.out.head = fmt.Sprintf("<%d>%s", priority, r.Message)

	return h.Handler.Handle(ctx, r)
}

// WithAttrs is slog's.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{Handler: h.Handler.WithAttrs(attrs), out: h.out}
}

// WithGroup is slog's.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{Handler: h.Handler.WithGroup(name), out: h.out}
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
