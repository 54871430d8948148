package apply

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// observe reads what Incus has of the stack, and notes until when it could not be seen.
func (l *Loop) observe(ctx context.Context) (plan.Observed, error) {
	err := l.host.looks.Acquire(ctx, 1)
	if err != nil {
		return plan.Observed{}, err
	}

	began := time.Now()
	have, err := l.host.Server.Observe(ctx, l.led.Project.Incus)
	l.host.looks.Release(1)
	if err == nil && l.vanished(have) {
		err = errVanished
	}

	if err != nil || l.unseen || time.Since(began) > lateAnswer {
		l.blind = time.Now()
	}

	if err == nil && l.unseen {
		l.notBefore, l.failures = time.Time{}, 0 // What the outage broke off goes on now.
	}

	l.unseen = err != nil
	l.discreet(have)

	return have, err
}

// discreet takes the project's secrets out of what the probes of its instances said: that goes into conditions, the log
// and the ledger.
func (l *Loop) discreet(have plan.Observed) {
	var swaps []string
	for _, s := range secretsOf(*l.led.Project) {
		quoted, err := json.Marshal(s)
		if err == nil {
			swaps = append(swaps, string(quoted[1:len(quoted)-1]), hidden)
		}
	}

	if len(swaps) == 0 {
		return
	}

	swap := strings.NewReplacer(swaps...)
	for name, inst := range have.Instances {
		said := inst.Config[plan.KeyHealthDetail]
		kept := swap.Replace(said)
		if kept != said {
			inst.Config = maps.Clone(inst.Config)
			inst.Config[plan.KeyHealthDetail] = kept
			have.Instances[name] = inst
		}
	}
}

// believed is how long Incus has to have nothing of a stack that had something, until that is taken for the truth.
const believed = time.Second

// errVanished is the answer that is not believed yet.
var errVanished = errors.New("Incus has nothing of what there was of this stack: it is asked again before anything is done about it") //nolint:staticcheck // Incus is a name

// vanished reports whether Incus has nothing any more where something was started, and that is not sure: a list that was
// empty by mistake would have everything forgotten, and what somebody stopped or what ended by itself would be started.
func (l *Loop) vanished(have plan.Observed) bool {
	if have.Project != nil && len(have.Instances) > 0 || len(l.led.Started) == 0 {
		l.emptied = time.Time{}
		return false
	}

	if l.emptied.IsZero() {
		l.emptied = time.Now()
	}

	return time.Since(l.emptied) < believed
}

// look only observes; with planned, the view shows what would be done.
func (l *Loop) look(ctx context.Context, found *findings, planned bool) again {
	have, err := l.observe(ctx)
	if err != nil {
		return l.away(err, found)
	}

	l.seen(have)
	l.turn.Observed = have
	l.turn.Plan = plan.Plan{Stack: l.stack}
	if planned {
		l.turn.Plan = l.diff(ctx, have)
	}

	return later
}
