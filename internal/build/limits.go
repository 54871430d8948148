package build

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// buildahLimit is what buildah sets for each step, of open files and of processes.
const buildahLimit = 1 << 20

// ownLimits are the limits of steps where this process may not raise its own to what buildah sets by itself, as in a
// container: without them no step would start. Those that the file asks for are left alone.
func ownLimits(program string, asked []string) []string {
	if program == "docker" {
		return nil
	}

	var out []string
	for _, l := range []struct {
		name     string
		resource int
	}{{"nofile", unix.RLIMIT_NOFILE}, {"nproc", unix.RLIMIT_NPROC}} {
		var have unix.Rlimit
		err := unix.Getrlimit(l.resource, &have)
		if err != nil || have.Max >= buildahLimit || slices.ContainsFunc(asked, func(u string) bool { return strings.HasPrefix(u, l.name+"=") }) {
			continue
		}

		err = unix.Setrlimit(l.resource, &unix.Rlimit{Cur: buildahLimit, Max: buildahLimit})
		if err != nil {
			out = append(out, fmt.Sprintf("%s=%d:%d", l.name, have.Max, have.Max))
		}
	}

	return out
}
