package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// errSkipped marks a step that was not tried because one it waits for failed.
var errSkipped = errors.New("not tried: a step it waits for failed")

// outcome is how a step ended.
type outcome struct {
	step plan.Step
	// begun says that the step has not ended: it is a stop about to be asked for.
	begun bool
	err   error
	took  time.Duration
}

// execute runs a plan: a step runs when its prerequisites have succeeded; a failed one stops only what waits for
// it. It returns the failures by object, without those that were only skipped.
func (l *Loop) execute(ctx context.Context, p plan.Plan) map[plan.ID]error {
	l.intend(p)
	results := make(chan outcome)
	done := make([]chan struct{}, len(p.Steps)+1)
	for i := range done {
		done[i] = make(chan struct{})
	}

	var mu sync.Mutex
	bad := map[int]bool{}
	for _, s := range p.Steps {
		go func() {
			o := outcome{step: s}
			for _, n := range s.After {
				<-done[n]
			}

			mu.Lock()
			for _, n := range s.After {
				if bad[n] {
					o.err = errSkipped
				}
			}
			mu.Unlock()

			if o.err == nil {
				_, stop := s.Op.(plan.StopInstance)
				if stop {
					results <- outcome{step: s, begun: true} // its names are withdrawn before its signal
				}

				o = l.do(ctx, s)
			}

			mu.Lock()
			bad[s.N] = o.err != nil
			mu.Unlock()
			close(done[s.N])
			results <- o
		}()
	}

	failed := map[plan.ID]error{}
	for ended := 0; ended < len(p.Steps); {
		o := <-results
		if o.begun {
			inst := l.turn.Observed.Instances[o.step.On.Name]
			inst.Status = Stopping
			l.show(o.step.On.Name, inst)
			continue
		}

		ended++
		l.record(ctx, o, failed)
	}

	l.save()
	if len(l.turn.Stops) > 0 {
		l.turn.Stops = nil
		l.publish() // Who stops an instance from now on means it.
	}

	return failed
}

// do makes one call, when its kind's turn has come.
func (l *Loop) do(ctx context.Context, s plan.Step) outcome {
	sem := l.lane(s.Op)
	err := sem.Acquire(ctx, 1)
	if err != nil {
		return outcome{step: s, err: err}
	}

	defer sem.Release(1)

	stop, ok := s.Op.(plan.StopInstance)
	if ok && stop.Drain > 0 {
		wait(ctx, stop.Drain)
	}

	start := time.Now()
	err = l.host.Server.Do(ctx, l.led.Project.Incus, s.Op)

	return outcome{step: s, err: err, took: time.Since(start)}
}

func (l *Loop) lane(op plan.Op) *semaphore.Weighted {
	switch op.(type) {
	case plan.CreateInstance, plan.StartInstance, plan.RebuildInstance:
		return l.host.starts
	case plan.StopInstance, plan.DeleteInstance:
		return l.host.stops
	case plan.PullImage:
		return l.host.pulls
	default:
		return l.host.others
	}
}

// intend writes the plan's steps into the ledger before the first is tried, and forgets the starts that the
// plan undoes: should the agent die now, what it stopped is started again.
func (l *Loop) intend(p plan.Plan) {
	now := time.Now()
	l.led.Intents = map[string]plan.Intent{}
	l.turn.Stops = map[string]bool{}
	for _, s := range p.Steps {
		l.led.Intents[fmt.Sprintf("%03d %s", s.N, s.On)] = plan.Intent{Text: s.String(), At: now}
		stop, ok := s.Op.(plan.StopInstance)
		if ok {
			delete(l.led.Started, stop.Name)
			l.turn.Stops[stop.Name] = true
		}
	}

	l.begun(p)
	l.save()
	l.publish()
}

// record notes an outcome: in the log, in the ledger, and in what others see.
func (l *Loop) record(ctx context.Context, o outcome, failed map[plan.ID]error) {
	s := o.step
	o.err = l.blamed(s.On, o.err)
	l.since.Store(time.Now().UnixNano())
	l.rooted(ctx, o)
	switch {
	case errors.Is(o.err, errSkipped):
		return
	case o.err != nil:
		level := slog.LevelWarn
		if l.condition["Failed "+s.On.String()].Text == o.err.Error() {
			level = slog.LevelDebug // said already; the condition tells since when
		}

		l.log.Log(ctx, level, "step failed", "step", s.String(), "took", o.took.Round(time.Millisecond), "err", o.err)
		if failed[s.On] == nil {
			failed[s.On] = o.err
		}

		if starts(s.Op) {
			l.failed[s.On.Name] = time.Now()
			delete(l.led.Started, s.On.Name)
		}

		return
	}

	l.log.InfoContext(ctx, "step done", "step", s.String(), "took", o.took.Round(time.Millisecond))
	delete(l.led.Intents, fmt.Sprintf("%03d %s", s.N, s.On))
	if s.On.Kind == plan.KindInstance {
		if l.led.Last == nil {
			l.led.Last = map[string]plan.Intent{}
		}

		l.led.Last[s.On.Name] = plan.Intent{Text: s.Brief(), At: time.Now()}
	}

	l.reflect(s.Op)
}

func starts(op plan.Op) bool {
	create, ok := op.(plan.CreateInstance)
	_, start := op.(plan.StartInstance)

	return start || ok && create.Start
}

// reflect carries a call's effect into the observed world, so that names resolve as soon as an instance runs and
// are withdrawn as soon as it stops, not when the whole plan has ended.
func (l *Loop) reflect(op plan.Op) {
	name, status := "", plan.Running
	switch op := op.(type) {
	case plan.CreateInstance:
		if !op.Start {
			return
		}

		name = op.Name
	case plan.StartInstance:
		name = op.Name
	case plan.StopInstance:
		name, status = op.Name, plan.Stopped
	case plan.SnapshotVolume:
		l.led.Snapshots = append(l.led.Snapshots, op.Snapshot)
		l.save() // What the ledger does not know is never brought back, and never deleted.
		return
	case plan.DeleteSnapshot:
		l.led.Snapshots = slices.DeleteFunc(l.led.Snapshots, func(s plan.Snapshot) bool { return s == op.Snapshot })
		return
	default:
		return
	}

	inst := l.turn.Observed.Instances[name]
	inst.Status = status
	if status == plan.Running {
		delete(l.failed, name)
		for _, w := range l.turn.Desired.Instances {
			if w.Name == name {
				l.led.Started[name] = w.Config[plan.KeyBoot]
				inst.Config, inst.LastUsed = w.Config, time.Now() // of this run nobody has judged the health yet
			}
		}
	}

	l.show(name, inst)
}

// show publishes what an instance has become.
func (l *Loop) show(name string, inst plan.ObservedInstance) {
	instances := maps.Clone(l.turn.Observed.Instances)
	if instances == nil {
		instances = map[string]plan.ObservedInstance{}
	}

	instances[name] = inst
	l.turn.Observed.Instances = instances
	l.publish()
}
