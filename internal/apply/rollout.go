package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// keptLines is how much of what a failed instance wrote is kept.
const keptLines = 20

// widen prepares what the project needs, in its present version and in the one before, and for the candidates of its
// updates.
func (l *Loop) widen(ctx context.Context, have plan.Observed) (plan.Project, plan.Input) {
	before := l.led.Images
	wide := plan.Widen(plan.Spare(*l.led.Project, l.led), l.led.Good)
	in := l.prepare(ctx, wide, have)
	if l.renewed(before, in.Images) {
		wide = plan.Widen(plan.Spare(*l.led.Project, l.led), l.led.Good)
		in = l.prepare(ctx, wide, have)
	}

	return wide, in
}

// roll decides which instances may have the version of the file now, and remembers how far the updates are.
func (l *Loop) roll(ctx context.Context, wide plan.Project, in plan.Input, have plan.Observed) plan.Desired {
	l.rearm()
	l.hurried()
	now := time.Now()
	want := plan.Render(plan.Surging(*l.led.Project, l.led, in.Images), in)
	rolled := plan.Roll(plan.Rolling{
		Project: *l.led.Project, Generation: l.led.Generation, New: want, Old: plan.Before(wide, l.led.Good, in), Have: have,
		Ledger: l.led, Addresses: in.Addresses, Blind: l.blind, Shut: l.shut(now), Now: now,
	})
	for _, f := range rolled.Failures {
		l.note(ctx, rolled.Rollouts, f)
	}

	for _, name := range rolled.Again {
		delete(l.led.Started, name)
	}

	for _, name := range rolled.Accepted {
		l.log.InfoContext(ctx, "version did well", "service", name, "generation", l.led.Generation)
	}

	for name, ro := range rolled.Rollouts {
		before := l.led.Rollouts[name]
		switch {
		case ro.Phase == before.Phase && ro.Hash == before.Hash && ro.Digest == before.Digest:
		case ro.Phase == "":
			l.log.InfoContext(ctx, "update begins", "service", name, "generation", ro.Generation)
		default:
			l.log.InfoContext(ctx, "update", "service", name, "generation", ro.Generation, "phase", string(ro.Phase), "reason", ro.Reason)
		}
	}

	l.led.Good, l.led.Rollouts = rolled.Good, rolled.Rollouts
	if !rolled.Next.IsZero() {
		l.lookAt(rolled.Next)
	}

	l.turn.Notes = rolled.Notes
	l.turn.Project = l.inForce()

	return rolled.Want
}

// rearm begins the watch over updated instances anew where the host has been started since: that they were, too, is
// not their doing.
func (l *Loop) rearm() {
	if l.led.Host == l.host.Boot {
		return
	}

	l.led.Host = l.host.Boot
	for _, ro := range l.led.Rollouts {
		if ro.Surge != nil {
			ro.Surge.Start, ro.Surge.Moved = time.Time{}, time.Time{}
		}

		for _, trials := range []map[string]plan.Trial{ro.Trials, ro.Returns} {
			for name, t := range trials {
				t.Start, t.Moved = time.Time{}, time.Time{}
				trials[name] = t
			}
		}
	}
}

// note keeps what a failed instance wrote with its update.
func (l *Loop) note(ctx context.Context, rollouts map[string]plan.Rollout, f plan.Failure) {
	text, err := l.host.Server.LastWords(ctx, l.led.Project.Incus, f.Instance)
	if err != nil {
		l.log.DebugContext(ctx, "last words not read", "instance", f.Instance, "err", err)
	}

	ro := rollouts[f.Service]
	if ro.Evidence == "" {
		ro.Evidence = fmt.Sprintf("%s: %s\n%s", f.Instance, f.Reason, lastLines(l.censored(text)))
		rollouts[f.Service] = ro
	}

	l.log.WarnContext(ctx, "update failed", "service", f.Service, "instance", f.Instance, "reason", f.Reason, "phase", string(ro.Phase))
}

// hidden stands where a secret was.
const hidden = "(secret)"

// censored takes the secrets of the project out of a text.
func (l *Loop) censored(text string) string {
	for _, s := range secretsOf(*l.led.Project) {
		text = strings.ReplaceAll(text, s, hidden)
	}

	return text
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")

	return strings.Join(lines[max(0, len(lines)-keptLines):], "\n")
}

// inForce is the project with each service that went back as it was before.
func (l *Loop) inForce() *plan.Project {
	p := *l.led.Project
	p.Services = slices.Clone(p.Services)
	for i, s := range p.Services {
		v, known := l.led.Good[s.Name]
		ro := l.led.Rollouts[s.Name]
		switch {
		case ro.Phase == plan.HeldBack && known:
			v.Service.Replicas = s.Replicas
			p.Services[i] = v.Service
		case ro.Surge != nil && ro.Surge.Failed == "" && ro.Phase != plan.Paused:
			p.Services[i].Replicas++ // the candidate, which serves like the others
		}
	}

	return &p
}

// Retry tries updates again that were given up: of one service, or of all when its name is empty; by is who asks.
func (l *Loop) Retry(service, by string, done chan<- struct{}) {
	l.post(func(m *mail) {
		m.retries = append(m.retries, order{service: service, by: by})
		m.dirty = true
		if done != nil {
			m.waiters = append(m.waiters, done)
		}
	})
}

// Touched tells that somebody started or restarted an instance by hand: it is no failure of an update's, and the end of
// what a stop by hand meant, also where it has ended again since.
func (l *Loop) Touched(instance string) {
	l.post(func(m *mail) {
		m.touched = append(m.touched, instance)
		delete(m.stops, instance)
		m.dirty = true
	})
}

// order is a user's word about a stack.
type order struct {
	service, by string
	generation  uint64
}

// obey carries out what users asked for.
func (l *Loop) obey(m mail) {
	for _, o := range m.retries {
		for _, name := range slices.Sorted(maps.Keys(l.led.Rollouts)) {
			if o.service == "" || o.service == name {
				l.log.Info("update is tried again", "service", name, "by", o.by)
				delete(l.led.Rollouts, name)
			}
		}

		if o.service == "" && l.led.Pin != nil {
			l.log.Info("the file is followed again", "by", o.by)
			l.led.Pin, l.loaded = nil, ""
		}

		l.hasten(o.service)
		l.notBefore, l.failures = time.Time{}, 0
	}

	if m.rollback != nil {
		l.goTo(*m.rollback)
	}

	for _, name := range m.touched {
		delete(l.led.Stops, name)
		for service, ro := range l.led.Rollouts {
			if ro.Surge != nil && l.led.Project != nil && plan.Candidate(*l.led.Project, service) == name {
				surge := *ro.Surge
				surge.Start, surge.Moved = time.Time{}, time.Time{}
				ro.Surge = &surge
				l.led.Rollouts[service] = ro
			}

			t, tried := ro.Trials[name]
			if tried {
				t.Start, t.Moved = time.Time{}, time.Time{}
				ro.Trials[name] = t
			}
		}
	}
}

// refused notes steps that failed because Incus refuses what the version asks for, or because its program cannot be
// run or ends while it is started: that is the version's own doing, and no outage. It reports whether there were any.
func (l *Loop) refused(ctx context.Context, failed map[plan.ID]error) bool {
	found := false
	for id, err := range failed {
		for service, ro := range l.led.Rollouts {
			t, tried := ro.Trials[id.Name]
			candidate := ro.Surge != nil && plan.Candidate(*l.led.Project, service) == id.Name
			if candidate {
				t, tried = *ro.Surge, true
			}

			reason := ""
			if id.Kind == plan.KindInstance && tried && ro.Phase == "" && !t.Passed {
				reason = l.fault(ctx, id.Name, err)
			}

			if reason == "" {
				continue
			}

			found = true
			t.Failed = reason
			l.log.WarnContext(ctx, "update failed", "service", service, "instance", id.Name, "reason", reason)
			if candidate {
				ro.Surge = &t
				l.led.Rollouts[service] = ro
			} else {
				ro.Trials[id.Name] = t
			}
		}
	}

	return found
}

// fault says what is wrong with the version itself when a step of its instance failed; empty when it is something else.
func (l *Loop) fault(ctx context.Context, name string, err error) string {
	if l.host.Rootless != nil && l.host.Rootless(err) {
		return ""
	}

	if l.host.Refused != nil && l.host.Refused(err) {
		return err.Error()
	}

	_, start := l.failed[name]
	if !start || l.host.Exit == nil {
		return ""
	}

	code, known, exitErr := l.host.Exit(ctx, l.led.Project.Incus, name)
	if exitErr != nil || !known || code == 0 {
		return ""
	}

	return fmt.Sprintf("it ended with exit code %s while it was started", plan.ExitWords(code))
}
