package incus

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
)

// Exit is how the program of a stopped container ended.
type Exit struct {
	// Known is false where the log does not tell: its level is not info, or it is no container's.
	Known bool
	// Code is the exit code; 128 and the signal's number when a signal ended it.
	Code int
	// Signal is the signal's number when one ended it; 0 otherwise.
	Signal int
}

// maxLog is how much of a log is read. A run writes about 6 KB.
const maxLog = 1 << 20

// ExitOf reads how the program of a stopped container ended from its log, which liblxc writes at level info
// (lxc.log.level in raw.lxc) and Incus begins anew with each start.
func (c *Client) ExitOf(ctx context.Context, project, name string) (Exit, error) {
	text, err := c.lxcLog(ctx, project, name)
	if err != nil {
		return Exit{}, fmt.Errorf("read the log of instance %s in project %s: %w", name, project, err)
	}
	return exitIn(text), nil
}

// ProcessOf is the host's number of the first process of a running instance; 0 for one that does not run, or whose
// number Incus does not tell.
func (c *Client) ProcessOf(ctx context.Context, project, name string) (int, error) {
	var state *api.InstanceState
	err := c.read(ctx, project, func(s incusapi.InstanceServer) (err error) {
		state, _, err = s.GetInstanceState(name)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("read the state of instance %s in project %s: %w", name, project, err)
	}
	return int(max(state.Pid, 0)), nil
}

// lxcLog reads lxc.log.
func (c *Client) lxcLog(ctx context.Context, project, name string) (string, error) {
	v := url.Values{"project": {project}}
	return c.text(ctx, "/1.0/instances/"+url.PathEscape(name)+"/logs/lxc.log?"+v.Encode())
}

var (
	// endedOn is liblxc's error.c, lxc_error_set_and_log.
	endedOn = regexp.MustCompile(`Child <\d+> ended on (?:error \((\d+)\)|signal [^(\n]*\((\d+)\))`)
	// unstarted is liblxc's start.c: the program could not be put in the place of the process that was to run it.
	unstarted = regexp.MustCompile(`- (.+) - Failed to exec "([^"\n]*)"`)
	// chatty are the levels that tell that nothing was left out.
	chatty = regexp.MustCompile(` (?:INFO|NOTICE|DEBUG|TRACE) `)
)

// What a shell and Docker give for a program that does not run.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// unrunCode is the exit code of a program that could not be run, for the reason the kernel gave.
func unrunCode(reason string) int {
	if strings.Contains(reason, "No such file or directory") {
		return exitNotFound
	}
	return exitNotExecutable
}

// exitIn finds the end of the run in a log. An end with code 0 says nothing but that its hooks ran, and so does a start
// that failed: its program never ran, and it tells that before.
func exitIn(text string) Exit {
	all := endedOn.FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		m := unstarted.FindStringSubmatch(text)
		if m != nil {
			return Exit{Known: true, Code: unrunCode(m[1])}
		}
		failed := strings.Contains(text, "Failed to spawn container")
		return Exit{Known: !failed && chatty.MatchString(text) && strings.Contains(text, "stopns")}
	}
	last := all[len(all)-1]
	if last[2] != "" {
		n, err := strconv.Atoi(last[2])
		return Exit{Known: err == nil, Code: 128 + n, Signal: n}
	}
	n, err := strconv.Atoi(last[1])
	e := Exit{Known: err == nil, Code: n}
	if n > 128 && n < 128+65 { // liblxc's own init passes a signal on like a shell does
		e.Signal = n - 128
	}
	return e
}
