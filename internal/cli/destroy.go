package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) destroy() *cobra.Command {
	var volumes, yes bool
	cmd := &cobra.Command{
		Use:   "destroy STACK",
		Short: "Delete a stack whose file is gone",
		Long: `Delete a stack whose file is gone: its instances and networks, and with --volumes also its volumes
with the data in them. Nothing else in this program deletes a volume.

It says what it is about to delete and asks for the stack's name, or does it at once with --yes.
A stack whose file is there is not touched, and neither is a protected one before its removal is
confirmed.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.DestroyRequest{Stack: args[0], Volumes: volumes, Dry: true}
			would, err := c.client().Destroy(cmd.Context(), req)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			printDestroy(w, args[0], would)
			if !yes && !typed(cmd.InOrStdin(), w, args[0]) {
				return &exit{Failed, fmt.Errorf("nothing was deleted: the name was not typed (--yes does without)")}
			}
			req.Dry = false
			_, err = c.client().Destroy(cmd.Context(), req)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s is deleted\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&volumes, "volumes", false, "delete its volumes, too, with all data in them")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for the name")
	return cmd
}

// printDestroy says what would be deleted, and what stays.
func printDestroy(w io.Writer, stack string, r api.DestroyReply) {
	fmt.Fprintf(w, "This deletes of %s, for ever:\n", stack)
	for _, l := range []struct {
		noun  string
		names []string
	}{{"instances", r.Instances}, {"networks", r.Networks}, {"volumes", r.Volumes}} {
		if len(l.names) > 0 {
			fmt.Fprintf(w, "  %s: %s\n", l.noun, strings.Join(l.names, ", "))
		}
	}
	if len(r.Instances)+len(r.Networks)+len(r.Volumes) == 0 {
		fmt.Fprintln(w, "  nothing")
	}
	if len(r.Kept) > 0 {
		fmt.Fprintf(w, "Its volumes stay (--volumes deletes them, too): %s\n", strings.Join(r.Kept, ", "))
	}
}

// typed asks for a name and reports whether it was typed.
func typed(in io.Reader, w io.Writer, name string) bool {
	fmt.Fprintf(w, "Type the name of the stack to go on: ")
	line, err := bufio.NewReader(in).ReadString('\n')
	fmt.Fprintln(w)
	return (err == nil || err == io.EOF) && strings.TrimSpace(line) == name
}
