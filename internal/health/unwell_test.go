package health

import (
	"testing"
	"time"
)

// Since when an instance was unwell is told over the restarts for it, until it is well or somebody else starts it.
func TestUnwellIsToldOverTheRestart(t *testing.T) {
	l := up(t, checked(KeyRestart, "always", KeyRetries, "1"))
	l.probes(1, Passed)
	l.probes(1, Failed)
	fell := l.now
	unwell := func(want bool) {
		t.Helper()
		if got := l.m.detail().Unwell; got.Equal(fell) != want || !want && !got.IsZero() {
			t.Errorf("unwell since %v; it fell at %v", got, fell)
		}
	}
	unwell(true)
	l.pass(time.Second)
	l.seen(StateStopped, func(e *Seen) { e.Told, e.Ours = true, true })
	unwell(true)
	l.pass(time.Second)
	l.restarted()
	unwell(true)
	l.again()
	unwell(true)
	l.seen(StateRunning)
	l.probes(1, Passed)
	unwell(false)
	l.probes(1, Failed)
	fell = l.now
	unwell(true)
	l.stopBy("root")
	l.start()
	unwell(false)
}
