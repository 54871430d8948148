package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) status() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [STACK]",
		Short: "Show the stacks, or one stack with its services",
		Long: `Show the stacks, or one stack with its services, conditions and warnings.

The exit code is 1 when a stack that is shown is blocked or invalid, and 4 while Incus is away.`,
		Args:              atMost(1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if len(args) == 0 {
				if asJSON {
					err = printJSON(w, s)
				} else {
					view{w, c.now(), colours(w)}.all(s)
				}
				return orSaid(err, health(s, s.Stacks))
			}
			named := func(st api.Stack) bool { return st.Name == args[0] }
			i := slices.IndexFunc(s.Stacks, named)
			if i < 0 { // Its file may have been put there a moment ago.
				s = c.afterALook(cmd.Context(), s)
				i = slices.IndexFunc(s.Stacks, named)
			}
			if i < 0 {
				return noStack(args[0], s.Stacks)
			}
			if asJSON {
				err = printJSON(w, s.Stacks[i])
			} else {
				view{w, c.now(), colours(w)}.one(s.Stacks[i], s.Incus)
			}
			return orSaid(err, health(s, s.Stacks[i:i+1]))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// lookFor is how long a look at the directories is waited for: the agent has read them sooner, and then does what they
// say, which may take long.
const lookFor = time.Second

// afterALook returns the status after the agent has looked at its directories; the one before when that cannot be had.
func (c *cli) afterALook(ctx context.Context, before api.Status) api.Status {
	timed, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	_, _ = c.client().Reload(timed, true) // whatever becomes of it, the status tells
	s, err := c.client().Status(ctx)
	if err != nil {
		return before
	}
	return s
}

func orSaid(err error, code int) error {
	if err != nil {
		return err
	}
	return said(code)
}

// health is the exit code for some stacks.
func health(s api.Status, shown []api.Stack) int {
	for _, st := range shown {
		if st.State == api.Blocked || st.State == api.Invalid {
			return Failed
		}
	}
	if s.Incus.Error != "" {
		return AwayIncus
	}
	return OK
}

func noStack(name string, all []api.Stack) error {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return fmt.Errorf("there is no stack %q: there is none at all", name)
	}
	return fmt.Errorf("there is no stack %q: there are %s", name, strings.Join(names, ", "))
}
