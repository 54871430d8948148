package incus

import (
	"context"
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
	switch {
	case strings.Contains(why, "Failed to exec"):
		kinds = append(kinds, ErrProgram)
	case clearing.MatchString(why):
		kinds = append(kinds, ErrBusy)
	}
	return kinded{fmt.Errorf("the container does not start: %s", why), kinds}
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
