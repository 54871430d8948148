package apply

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// findings are the conditions one pass ran into.
type findings struct {
	now  time.Time
	list []plan.Condition
}

func (f *findings) add(kind string, on plan.ID, text string) {
	object := ""
	if on.Kind != "" {
		object = on.String()
	}

	f.list = append(f.list, plan.Condition{Type: kind, Object: object, Text: text, Since: f.now})
}

func (f *findings) blocked(b plan.Blocked) {
	kind := "Blocked"
	switch {
	case b.Type != "":
		kind = b.Type
	case b.Conflict:
		kind = "Conflict"
	case b.Waits:
		kind = "Waiting"
	}

	_, text, _ := strings.Cut(b.String(), " "+b.On.String()+": ")
	f.add(kind, b.On, text)
}

func (f *findings) has(kind string) bool {
	return slices.ContainsFunc(f.list, func(c plan.Condition) bool { return c.Type == kind })
}

// again carries what was wrong with an object over: it is not known to be well yet.
func (f *findings) again(old map[string]plan.Condition, on plan.ID) {
	c, known := old["Failed "+on.String()]
	if known {
		f.list = append(f.list, c)
	}
}

// keep carries the conditions of the last pass over: this one did not look.
func (f *findings) keep(old map[string]plan.Condition) {
	f.list = append(f.list, slices.Collect(maps.Values(old))...)
}

// conclude compares the pass's conditions with the last one's, logs each change once, and saves the ledger.
func (l *Loop) conclude(f *findings) {
	next := map[string]plan.Condition{}
	for _, c := range f.list {
		key := c.Type + " " + c.Object
		old, known := l.condition[key]
		switch {
		case known && old.Text == c.Text:
			c.Since = old.Since
		case c.Type == "IncusUnavailable" && known:
			c.Since = old.Since
		case c.Type == "Failed": // its step was logged
		case c.Type == "Waiting", c.Type == plan.TypeScheduled:
			l.log.Info("waits", "on", c.Object, "text", c.Text)
		default:
			l.log.Warn("condition", "type", c.Type, "on", c.Object, "text", c.Text)
		}

		next[key] = c
	}

	for _, key := range slices.Sorted(maps.Keys(l.condition)) {
		_, still := next[key]
		if !still {
			c := l.condition[key]
			l.log.Info("condition cleared", "type", c.Type, "on", c.Object)
		}
	}

	l.condition = next
	l.led.Conditions = nil
	for _, key := range slices.Sorted(maps.Keys(next)) {
		l.led.Conditions = append(l.led.Conditions, next[key])
	}

	l.save()
}

// save writes the ledger. A ledger that cannot be written does not keep services from running: everything in it
// can be found again. It is said once, and tried again with each pass.
func (l *Loop) save() {
	empty := l.led.Project == nil && l.led.Generation == 0 && len(l.led.Conditions) == 0
	if empty || reflect.DeepEqual(l.led, l.saved) { // to write it out again, only to compare, costs more
		return
	}

	err := l.host.Ledger.Save(l.led)
	switch {
	case err != nil && l.unwritten == "":
		l.log.Error("ledger not saved: going on without", "err", err)
	case err == nil && l.unwritten != "":
		l.log.Info("ledger saved again")
	}

	l.unwritten = ""
	if err != nil {
		l.unwritten = err.Error()
		return
	}

	l.saved = l.led.Snapshot()
}

// unwrittenCondition says that what is learned would be lost; there is none where all is saved.
func (l *Loop) unwrittenCondition() []plan.Condition {
	if l.unwritten == "" {
		return nil
	}

	return []plan.Condition{{
		Type: "StateNotPersisted",
		Text: "what the agent learns is not on disk: " + l.unwritten + "; services run on, and it is written as soon as that is possible: look at the file system of its state directory (df, mount)",
	}}
}
