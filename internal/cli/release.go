package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) release() *cobra.Command {
	var req api.ReleaseRequest
	cmd := &cobra.Command{
		Use:   "release STACK",
		Short: "Give a stack out of the agent's hands; what runs of it runs on",
		Long: `Give a stack out of the agent's hands: its mark goes from everything in Incus that is the stack's.
Nothing is stopped, changed or deleted. What only the agent does ends: it says what that is.

The file may stay where it is: it is left alone until "ic-agent adopt STACK" takes the stack back.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Stack = args[0]
			r, err := c.client().Release(cmd.Context(), req)
			if err != nil {
				return err
			}
			printRelease(cmd.OutOrStdout(), req, r)
			return nil
		},
	}
	cmd.Flags().BoolVar(&req.Dry, "dry-run", false, "only say what would be released, and what would end")
	return cmd
}

func printRelease(w io.Writer, req api.ReleaseRequest, r api.ReleaseReply) {
	if len(r.Objects) == 0 {
		fmt.Fprintf(w, "there is nothing to release: nothing in Incus is %s's\n", req.Stack)
		return
	}
	word := "released; what runs of it runs on"
	if req.Dry {
		word = "would be released"
	}
	fmt.Fprintf(w, "%s:\n", word)
	for _, o := range r.Objects {
		fmt.Fprintf(w, "  %s\n", o)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, n)
	}
	if r.Source != "" {
		fmt.Fprintf(w, "%s is left alone from now on: remove it, or take the stack back with \"ic-agent adopt %s\".\n", r.Source, req.Stack)
	}
}
