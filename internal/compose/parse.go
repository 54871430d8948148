package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The limits of the parse child.
const (
	maxMemory  = 512 << 20    // bytes, RLIMIT_AS above what the program maps at its start, and RLIMIT_DATA
	maxCPU     = 2 * slowdown // seconds, RLIMIT_CPU
	maxRequest = 1 << 20      // bytes of the Input
)

// Report is what the child prints: a project or why there is none, and the coverage when it was asked for.
type Report struct {
	Project  *plan.Project `json:"project,omitempty"`
	Error    *Error        `json:"error,omitempty"`
	Coverage []Covered     `json:"coverage,omitempty"`
	// Secrets are the contents of Project.Secrets, which a project does not marshal: the child's pipe is the only
	// place they pass in the clear. Empty once they are in the project.
	Secrets [][]byte `json:"secrets,omitempty"`
}

// Main is the body of "ic-agent parse": it limits its own memory and CPU time, reads an Input as JSON from
// stdin and prints {"project": …} or {"error": {"problems": […]}} to stdout. It returns the exit status: 0
// when it has printed an answer, whichever; 1 when it could not.
func Main(ctx context.Context, stdin io.Reader, stdout io.Writer) int {
	err := limit()
	if err != nil {
		return reply(stdout, Report{Error: failure("limit the parser: %v", err)})
	}

	var in Input
	err = json.NewDecoder(io.LimitReader(stdin, maxRequest)).Decode(&in)
	if err != nil {
		return reply(stdout, Report{Error: failure("read the request: %v", err)})
	}

	// compose-go resolves the env_file of an include against the working directory.
	err = os.Chdir(in.Dir)
	if err != nil {
		return reply(stdout, Report{Error: failure("enter the stack's directory: %v", err)})
	}

	project, covered, err := loadCovered(ctx, in)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		return reply(stdout, Report{Error: refused, Coverage: covered})
	case err != nil:
		return reply(stdout, Report{Error: failure("%v", err)})
	}

	r := Report{Project: &project, Coverage: covered}
	for _, f := range project.Secrets() {
		r.Secrets = append(r.Secrets, f.Secret.Reveal())
	}

	return reply(stdout, r)
}

func failure(format string, args ...any) *Error {
	return &Error{Problems: []Problem{{Text: fmt.Sprintf(format, args...)}}}
}

func reply(w io.Writer, a Report) int {
	err := json.NewEncoder(w).Encode(a)
	if err != nil {
		return 1
	}

	return 0
}

// limit lowers what this process may use. The address space is counted from where the Go runtime begins: it
// reserves more than the whole allowance before main runs.
func limit() error {
	// The process ends before its garbage matters: collect only when half of the memory is gone.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(maxMemory / 2)
	err := unix.Setrlimit(unix.RLIMIT_CPU, &unix.Rlimit{Cur: maxCPU, Max: maxCPU + 1})
	if err != nil {
		return fmt.Errorf("set RLIMIT_CPU: %w", err)
	}

	err = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err != nil {
		return fmt.Errorf("set RLIMIT_CORE: %w", err)
	}

	if raceDetector {
		return nil
	}

	mapped, err := mappedBytes()
	if err != nil {
		return err
	}

	err = unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: mapped + maxMemory, Max: mapped + maxMemory})
	if err != nil {
		return fmt.Errorf("set RLIMIT_AS: %w", err)
	}

	err = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: maxMemory, Max: maxMemory})
	if err != nil {
		return fmt.Errorf("set RLIMIT_DATA: %w", err)
	}

	return nil
}

// mappedBytes is the size of this process's address space (proc_pid_statm(5)).
func mappedBytes() (uint64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read the size of the process: %w", err)
	}

	pages, err := strconv.ParseUint(strings.Fields(string(b) + " 0")[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the size of the process: %w", err)
	}

	return pages * uint64(os.Getpagesize()), nil
}
