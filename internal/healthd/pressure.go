package healthd

import (
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// pressureEvery is how often the kernel is asked at most.
	pressureEvery = 2 * time.Second
	// Above these shares of the last ten seconds a host is starved: some task waited for a processor, or all
	// waited for memory or disks (Documentation/accounting/psi.rst).
	starvedCPU, starvedRest = 95.0, 50.0
)

// pressure tells how starved the host is, when it is asked. Where the kernel does not tell it never is. One goroutine may use
// it.
type pressure struct {
	dir     string
	at      time.Time // of the last look
	starved bool
}

// now looks, unless it has just done so: the kernel takes its averages anew every two seconds.
func (p *pressure) now() bool {
	now := time.Now()
	if p.at.IsZero() || now.Sub(p.at) >= pressureEvery {
		p.at, p.starved = now, p.look()
	}

	return p.starved
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
