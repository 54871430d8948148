package healthd

import (
	"context"
	"runtime"
	"sync"
	"time"
)

const (
	// gatePerCPU is how many commands are brought into instances at once, for each processor: more take longer each, until
	// the short timeouts of many checks are over before their commands have run (measured on Incus 7.0.2).
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
