package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) adopt() *cobra.Command {
	var req api.AdoptRequest
	cmd := &cobra.Command{
		Use:   "adopt STACK",
		Short: "Take over what runs already under a stack's names",
		Long: `Take over what runs already under a stack's names, made by lxc/incus-compose or by hand.

The objects are marked as the stack's; that interrupts nothing. Where they are what the file asks
for, that is all: each becomes ours altogether with its next restart. Where they are not, the plan
is shown, and nothing is done without --yes.

Networks keep their way, with their own DHCP and DNS, until --networks.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Stack = args[0]
			r, err := c.client().Adopt(cmd.Context(), req)
			if err != nil {
				return err
			}
			return said(printAdoption(cmd.OutOrStdout(), req, r))
		},
	}
	cmd.Flags().BoolVar(&req.Networks, "networks", false, "take the networks out of dnsmasq's hands, too")
	cmd.Flags().BoolVar(&req.Yes, "yes", false, "do it although something is left to do then")
	cmd.Flags().BoolVar(&req.Dry, "dry-run", false, "only say what would be done")
	return cmd
}

// printAdoption says what an adoption comes to, and returns the exit code.
func printAdoption(w io.Writer, req api.AdoptRequest, r api.AdoptReply) int {
	for _, c := range r.Conflicts {
		fmt.Fprintln(w, c)
	}
	switch {
	case len(r.Conflicts) > 0:
		fmt.Fprintln(w, "nothing was adopted")
		return Failed
	case len(r.Objects) == 0:
		fmt.Fprintf(w, "there is nothing to adopt: what there is of %s is its own already\n", req.Stack)
		return OK
	}
	word := "would be adopted"
	if r.Done {
		word = "adopted"
	}
	fmt.Fprintf(w, "%s:\n", word)
	for _, o := range r.Objects {
		fmt.Fprintf(w, "  %s\n", o)
	}
	if r.Left == 0 {
		fmt.Fprintln(w, "Nothing is left to do then.")
	} else {
		fmt.Fprintf(w, "Then:\n%s\n", indent(r.Plan))
	}
	if !r.Done && !req.Dry {
		fmt.Fprintln(w, "Nothing was done: --yes adopts and carries out that plan.")
		return Failed
	}
	return OK
}
