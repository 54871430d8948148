package healthd

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// gatePerCPU is how many commands are brought into instances at once, for each processor. More at once are no faster
	// altogether (measured on Incus 7.0.2), and each would take longer of the timeout that its check has.
	gatePerCPU = 2
	// gatePatience is how long one may hold up those behind it. What takes longer waits for something else than processors.
	gatePatience = 500 * time.Millisecond
)

// gate lets in so many at a time, in the order in which they come. Any goroutine may use it.
type gate chan struct{}

func newGate() gate { return make(gate, max(4, gatePerCPU*runtime.NumCPU())) }

// enter waits for room and returns what gives it back; that may be called again, from any goroutine. The error is ctx's.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}

	leave = sync.OnceFunc(func() { <-g })
	time.AfterFunc(gatePatience, leave)

	return leave, nil
}
