package incus

import (
	"context"
	"fmt"
	"regexp"
	"strings"
)

// explained adds to a failed start what liblxc wrote about it: Incus itself only says that its helper ended with
// exit status 1.
func (c *Client) explained(ctx context.Context, project, name string, err error) error {
	if err == nil || !strings.Contains(err.Error(), "forklxc") {
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
	return kinded{fmt.Errorf("the container does not start: %s", why), []error{err}}
}

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
