package healthd

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// pressureEvery is how often the kernel is asked.
	pressureEvery = 2 * time.Second
	// Above these shares of the last ten seconds a host is starved: some task waited for a processor, or all
	// waited for memory or disks (Documentation/accounting/psi.rst).
	starvedCPU, starvedRest = 95.0, 50.0
)

// pressure watches how starved the host is. Where the kernel does not tell it never is.
type pressure struct {
	dir     string
	starved atomic.Bool
}

func (p *pressure) run(ctx context.Context) {
	tick := time.NewTicker(pressureEvery)
	defer tick.Stop()
	for {
		p.starved.Store(p.look())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *pressure) look() bool {
	return share(p.dir+"/cpu", "some") > starvedCPU || share(p.dir+"/memory", "full") > starvedRest || share(p.dir+"/io", "full") > starvedRest
}

// share reads avg10 of a line; 0 when it cannot.
func share(path, line string) float64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}

	for l := range strings.Lines(string(b)) {
		fields := strings.Fields(l)
		if len(fields) < 2 || fields[0] != line {
			continue
		}

		v, _ := strings.CutPrefix(fields[1], "avg10=")
		f, err := strconv.ParseFloat(v, 64)
		if err == nil {
			return f
		}
	}

	return 0
}
