package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// dns is "ic-agent dns NAME".
func (c *cli) dns() *cobra.Command {
	var asJSON bool
	var from string
	cmd := &cobra.Command{
		Use:   "dns NAME",
		Short: "Show what is answered for a name, to whom, and why",
		Long: `Show what is answered for a name, to whom, and why.

Without --from it is the host that asks. An instance is "web-1", or "shop/web-1" where several
stacks have one of that name.`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			reply, err := c.client().DNS(cmd.Context(), args[0], from)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), reply)
			}
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(reply.Text, "\n"))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&from, "from", "", "the instance or address that asks")
	return cmd
}
