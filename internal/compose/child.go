package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	defaultWall = 5 * time.Second
	maxAnswer   = 8 << 20  // bytes of the child's stdout
	maxStderr   = 64 << 10 // bytes of its stderr that are kept
)

// Child loads stacks in a disposable process, so that no file can take the agent's memory or time.
type Child struct {
	// Argv is the command, {"/usr/bin/ic-agent", "parse"}; it must run Main.
	Argv []string
	// Wall is how long it may take; 0 means 5 s.
	Wall time.Duration
}

// Load runs the child on the stack and returns its project. Files that cannot be honoured, and a child that was
// stopped because of them, give an *Error; a child that cannot be started gives another error. The child has
// its own process group, which is killed at the end, and no environment but PATH and HOME.
func (c Child) Load(ctx context.Context, in Input) (plan.Project, error) {
	r, err := c.Report(ctx, in)
	switch {
	case err != nil:
		return plan.Project{}, err
	case r.Error != nil:
		return plan.Project{}, r.Error
	}

	return *r.Project, nil
}

// Report is Load with all that the child says: either Project or Error is set. Its error is an *Error only when the
// child was stopped.
func (c Child) Report(ctx context.Context, in Input) (Report, error) {
	if len(c.Argv) == 0 {
		return Report{}, errors.New("start the parser: no command is set")
	}

	request, err := json.Marshal(in)
	if err != nil {
		return Report{}, fmt.Errorf("write the request: %w", err)
	}

	wall := c.Wall
	if wall == 0 {
		wall = defaultWall
	}

	limited, cancel := context.WithTimeout(ctx, wall)
	defer cancel()

	out, errs := &capped{most: maxAnswer}, &capped{most: maxStderr, drop: true}
	cmd := c.command(limited, bytes.NewReader(request), out, errs)
	err = run(cmd)
	switch {
	case ctx.Err() != nil:
		return Report{}, fmt.Errorf("parse the stack %s: %w", in.Stack, ctx.Err())
	case cmd.ProcessState == nil:
		return Report{}, fmt.Errorf("start the parser: %w", err)
	case out.full:
		return Report{}, stopped(in, fmt.Sprintf("the resolved stack is larger than %d MiB", maxAnswer>>20), "mount large configs as files of a volume")
	case err != nil && limited.Err() != nil:
		return Report{}, stopped(in, fmt.Sprintf("reading it took longer than %s", wall), "make it smaller, or look why the disk does not answer")
	case err != nil:
		return Report{}, died(in, cmd.ProcessState, errs.buf.String())
	}

	return decode(out.buf.Bytes())
}

// command prepares the child.
func (c Child) command(ctx context.Context, stdin *bytes.Reader, out, errs *capped) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, out, errs
	cmd.Env = []string{"PATH=" + variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME=" + variable("HOME", "/root")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = time.Second

	return cmd
}

func variable(name, otherwise string) string {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}

	return v
}

// run waits for the child to end without reaping it, so that its number still is its own when the rest of
// its group is killed.
func run(cmd *exec.Cmd) error {
	err := cmd.Start()
	if err != nil {
		return err
	}

	for {
		err = unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}

	if err == nil {
		err = killGroup(cmd.Process.Pid)
	}

	return errors.Join(cmd.Wait(), err)
}

// killGroup kills a process group; one that is gone, or a zombie only, is fine.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("kill the parser's group: %w", err)
	}

	return nil
}

// stopped is the error for a stack whose reading was ended.
func stopped(in Input, text, hint string) error {
	return refuse([]Problem{{File: first(in.Files), Text: text, Hint: hint}})
}

// died says why a child ended without an answer.
func died(in Input, state *os.ProcessState, stderr string) error {
	status, _ := state.Sys().(syscall.WaitStatus)
	const less = "split the stack, or look for anchors, variables and ranges that multiply"
	switch {
	case status.Signaled() && (status.Signal() == syscall.SIGXCPU || state.UserTime()+state.SystemTime() >= maxCPU*time.Second),
		strings.Contains(stderr, "SIGXCPU"):
		return stopped(in, fmt.Sprintf("reading it needs more than %d s of CPU time", maxCPU), less)
	case strings.Contains(stderr, "out of memory"), strings.Contains(stderr, "cannot allocate memory"), strings.Contains(stderr, "errno=12"),
		strings.Contains(stderr, "pthread_create failed"): // no room for a thread's stack
		return stopped(in, fmt.Sprintf("reading it needs more than %d MiB of memory", maxMemory>>20), less)
	case status.Signaled():
		return stopped(in, fmt.Sprintf("the parser was ended by %s", status.Signal()), "it is tried again; look for the out-of-memory killer in the journal")
	}

	first, _, _ := strings.Cut(strings.TrimSpace(stderr), "\n")

	return stopped(in, fmt.Sprintf("the parser ended with %s: %s", state, clip(first)), "please report the file")
}

func decode(out []byte) (Report, error) {
	var r Report
	err := json.Unmarshal(out, &r)
	switch {
	case err != nil:
		return Report{}, fmt.Errorf("read the parser's answer: %w", err)
	case r.Error == nil && r.Project == nil:
		return Report{}, errors.New("read the parser's answer: it is empty")
	}

	if r.Project == nil {
		return r, nil
	}

	secrets := r.Project.Secrets()
	if len(secrets) != len(r.Secrets) {
		return Report{}, fmt.Errorf("read the parser's answer: %d secrets have %d contents", len(secrets), len(r.Secrets))
	}

	for i, f := range secrets {
		f.Secret = plan.NewSecret(r.Secrets[i])
	}

	r.Secrets = nil

	return r, nil
}

// capped keeps the first bytes written to it. Beyond them it fails, which ends the writer, or drops the rest.
type capped struct {
	buf  bytes.Buffer
	most int
	drop bool
	full bool
}

// Write is part of io.Writer.
func (c *capped) Write(p []byte) (int, error) {
	room := c.most - c.buf.Len()
	if len(p) <= room {
		return c.buf.Write(p)
	}

	c.buf.Write(p[:room])
	c.full = !c.drop
	if c.drop {
		return len(p), nil
	}

	return room, errors.New("the answer is too large")
}
