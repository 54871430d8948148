package healthd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// H38: so many commands are brought into instances at once and no more, unless one hangs.
func TestH38CommandsAreLetInAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate, 2)
		in := func(after time.Duration) func() {
			t.Helper()
			began := time.Now()
			leave, err := g.enter(t.Context())
			if err != nil || time.Since(began) != after {
				t.Fatalf("let in after %s, want %s: %v", time.Since(began), after, err)
			}
			return leave
		}
		first := in(0)
		in(0)
		first()
		first() // once counts
		in(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := g.enter(ctx)
		if err == nil {
			t.Error("a third is let in")
		}
		in(gatePatience - time.Millisecond) // what hangs holds nobody up for longer
		in(0)
		in(gatePatience)
	})
}
