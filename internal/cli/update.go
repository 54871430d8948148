package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) update() *cobra.Command {
	var apply, asJSON bool
	cmd := &cobra.Command{
		Use:     "update [STACK]",
		Aliases: []string{"pull"},
		Short:   "Ask the registries about newer images now",
		Long: `Ask the registries about newer images now, of one stack or of all.

Without --apply it only says what is newer; services whose x-ic-agent.update.mode is apply are
updated when their min-age has passed, as at any check. With --apply every newer image is taken: what
"docker compose pull" and "up" do. Images that are built are built again when their last build failed.`,
		Args:              atMost(1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			replies, err := c.client().Update(cmd.Context(), api.UpdateRequest{Stack: strings.Join(args, ""), Apply: apply})
			if err != nil {
				return err
			}
			code := OK
			var t table
			for _, r := range replies {
				t.row(plainCell(r.Stack), plainCell(r.Service), plainCell(r.Image), plainCell(r.Text))
				if r.Failed {
					code = Failed
				}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), replies)
				if err != nil {
					return err
				}
				return said(code)
			}
			if len(replies) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no stacks")
			}
			t.print(cmd.OutOrStdout(), "")
			return said(code)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "take every newer image")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
