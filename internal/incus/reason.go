package incus

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// explained says what to do about a missing mount or a directory in the way, and adds to a failed start what liblxc wrote about it: Incus
// itself only says that its helper ended with exit status 1.
func (c *Client) explained(ctx context.Context, project, name string, err error) error {
	if err == nil {
		return nil
	}
	m := noSource.FindStringSubmatch(err.Error())
	if m != nil {
		return kinded{fmt.Errorf("the host has no %s, which the file mounts: make it (mkdir -p %s); the agent has no right to", m[1], m[1]), []error{err}}
	}
	m = leftBehind.FindStringSubmatch(err.Error())
	if m != nil {
		return kinded{fmt.Errorf("an instance of this name was lost, and Incus left %s behind and no longer knows it: look into it, remove it (rm -r %s), and the next try goes on", m[1], m[1]), []error{err}}
	}
	if !strings.Contains(err.Error(), "forklxc") {
		return err
	}
	text, logErr := c.lxcLog(ctx, project, name)
	if logErr != nil {
		return err
	}
	why := reasonIn(text)
	if why == "" {
		return err
	}
	kinds := []error{err}
	m = unstarted.FindStringSubmatch("- " + why)
	switch {
	case m != nil:
		return kinded{errors.New(unrun(m[2], m[1])), append(kinds, ErrProgram)}
	case clearing.MatchString(why):
		kinds = append(kinds, ErrBusy)
	}
	return kinded{fmt.Errorf("the container does not start: %s", why), kinds}
}

// unrun says that a program could not be run, and where to look.
func unrun(program, reason string) string {
	code := unrunCode(reason)
	switch {
	case code == exitNotFound && strings.Contains(program, "/"):
		return fmt.Sprintf("the container has no %s to run, or lacks the interpreter or loader that it needs (exit code %d): correct entrypoint or command, or the image", program, code)
	case code == exitNotFound:
		return fmt.Sprintf("the container has no program %q in its PATH (exit code %d): correct entrypoint or command, or the image", program, code)
	case strings.Contains(reason, "Exec format"):
		return fmt.Sprintf("%s is no program for this machine, or a script without \"#!\" in its first line (exit code %d): correct entrypoint, command or platform", program, code)
	}
	return fmt.Sprintf("%s may not be run: %s (exit code %d): make it executable for the service's user, or correct entrypoint or command", program, strings.ToLower(reason), code)
}

// noSource is how Incus refuses a bind mount of what does not exist.
var noSource = regexp.MustCompile(`Missing source path "([^"]+)"`)

// clearing is how a start ends from which the hooks of the run before took the rights to its own directory.
var clearing = regexp.MustCompile(`^Permission denied - Failed to mount ".*/credentials"`)

// leftBehind is how Incus refuses to make a root filesystem where a directory is.
var leftBehind = regexp.MustCompile(`Volume path "([^"]+)" already exists`)

// lxcError is a line of liblxc's log: level, category, place, text.
var lxcError = regexp.MustCompile(` ERROR +\S+ - \S+ - (.+)`)

// reasonIn finds what a start failed for: the first error that liblxc wrote, which the others follow from.
func reasonIn(text string) string {
	m := lxcError.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return strings.TrimSpace(m[1])
}
