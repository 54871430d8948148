package health

import (
	"testing"
	"time"
)

// A stop by the agent is not written while it may be at work on the instance; what follows is written at once.
func TestStopForAChangeIsNotWrittenAtOnce(t *testing.T) {
	for who, brief := range map[string]bool{"ic-agent": true, "root": false} {
		m := New(nil, func() float64 { return 0 })
		now := epoch
		m.Step(Seen{State: StateRunning, Started: now}, now)
		var stop SetStatus
		for _, a := range m.Step(Seen{State: StateStopped, Started: now, Told: true, By: who}, now) {
			s, ok := a.(SetStatus)
			if ok {
				stop = s
			}
		}

		if stop.Status != Stopped || stop.Brief != brief {
			t.Fatalf("stopped by %s: %+v", who, stop)
		}

		var w writeState
		w.want(stop, now)
		if due := w.after.After(now.Add(4 * time.Second)); due != brief {
			t.Errorf("stopped by %s: written after %v", who, w.after)
		}

		w.want(SetStatus{Status: Starting, From: Stopped}, now.Add(time.Second))
		if !w.after.IsZero() {
			t.Errorf("the start is written after %v", w.after)
		}
	}
}
