package state

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// checkMemory is what a check may use beyond what the process has when it begins.
const checkMemory = 256 << 20

// LimitSelf keeps a damaged file from taking the machine, for a process that checks one: what recurs or counts
// without end is stopped by the kernel. cpu is rounded up to a second.
func LimitSelf(cpu time.Duration) error {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	fields := strings.Fields(string(statm))
	data, err := strconv.ParseUint(fields[min(5, len(fields)-1)], 10, 64)
	if err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	most := data*uint64(os.Getpagesize()) + checkMemory
	err = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most})
	if err != nil {
		return fmt.Errorf("limit memory: %w", err)
	}
	seconds := uint64((cpu + time.Second - 1) / time.Second)
	err = unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: seconds, Max: seconds + 1})
	if err != nil {
		return fmt.Errorf("limit CPU time: %w", err)
	}
	return nil
}
