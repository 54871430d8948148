package apply

import (
	"context"
	"time"

	"github.com/incus-compose/ic-agent/internal/calendar"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// openFor is how long a window stays open where the file does not say it.
const openFor = time.Hour

// shut says what the stack's window keeps from being done now; nil when it is open, or there is none.
func (l *Loop) shut(now time.Time) *plan.Shut {
	w, all := l.led.Project.Window, l.led.Hurried[""]
	if w.At == "" || l.hurry[""] || all != 0 && all == l.led.Generation {
		return nil
	}

	expr, err := calendar.Parse(w.At)
	if err != nil {
		return nil // refused when the file was read
	}

	stays := w.For
	if stays == 0 {
		stays = openFor
	}

	open, opens := expr.Open(now, stays)
	if open {
		return nil
	}

	s := &plan.Shut{Opens: opens, Look: now.Add(stays / 2), Hurried: map[string]bool{}, Now: now}
	if !opens.IsZero() && opens.Before(s.Look) {
		s.Look = opens
	}

	for service, generation := range l.led.Hurried {
		s.Hurried[service] = generation == l.led.Generation
	}

	for service := range l.hurry {
		s.Hurried[service] = true
	}

	return s
}

// hurried remembers of the generation in force that somebody does not want it to wait.
func (l *Loop) hurried() {
	for service := range l.hurry {
		if l.led.Hurried == nil {
			l.led.Hurried = map[string]uint64{}
		}

		l.led.Hurried[service] = l.led.Generation
	}

	l.hurry = nil
}

// hasten notes somebody's word not to wait for the window, about one service or, when its name is empty, all.
func (l *Loop) hasten(service string) {
	if l.hurry == nil {
		l.hurry = map[string]bool{}
	}

	l.hurry[service] = true
}

// Apply looks at the stack now; with hurry, what waits for its window, of one service or of all when its name is empty,
// waits no more. done is closed after the pass that has done it; by is who asks.
func (l *Loop) Apply(service string, hurry bool, by string, done chan<- struct{}) {
	l.post(func(m *mail) {
		m.orders = append(m.orders, func(ctx context.Context) {
			if hurry {
				l.hasten(service)
				l.log.InfoContext(ctx, "the window is not waited for", "service", service, "by", by)
			}
		})
		m.dirty = true
		m.waiters = append(m.waiters, done)
	})
}
