package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
)

func (c *cli) history() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "history STACK",
		Short: "Show a stack's versions: when, who, why, and what became of them",
		Long: `Show a stack's versions, the newest first: when each was accepted, who is behind it, why, and what
became of it. The last fifty are kept, as far as there is room, and always what runs and what ran before.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := c.client().History(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return printJSON(w, all)
			}
			if len(all) == 0 {
				fmt.Fprintln(w, "nothing is kept of it yet")
				return nil
			}
			t := table{palette: colours(w)}
			t.head("GENERATION", "WHEN", "WHO", "WHY", "OUTCOME")
			for _, g := range all {
				number := strconv.FormatUint(g.Number, 10)
				if g.Current {
					number += " *"
				}
				outcome := cell{g.Outcome, green}
				if g.Outcome != "did well" {
					outcome.colour = yellow
				}
				t.row(plainCell(number), plainCell(ago(g.At, c.now())), plainCell(g.Who), plainCell(g.Why), outcome)
			}
			t.print(w, "")
			for _, g := range all {
				for _, s := range g.Snapshots {
					fmt.Fprintf(w, "\nthe data before generation %d: snapshot %s\n", g.Number, s)
				}
				for _, s := range g.Left {
					fmt.Fprintf(w, "\nthe data that generation %d left, when it was given up: snapshot %s, kept until you delete it\n", g.Number, s)
				}
				if g.Evidence != "" {
					fmt.Fprintf(w, "\ngeneration %d:\n%s\n", g.Number, indent(g.Evidence))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) diff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff STACK [GENERATION [GENERATION]]",
		Short: "Show what differs between two versions of a stack",
		Long: `Show what differs between two versions of a stack: in its files, and in what they mean in Incus.

Without generations, between the version that runs and the one before; with one, between that one
and the version that runs.`,
		Args:              between(1, 3),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := c.pair(cmd.Context(), args[0], args[1:])
			if err != nil {
				return err
			}
			printDiff(cmd.OutOrStdout(), from, to)
			return nil
		},
	}
}

// pair fetches the two generations to compare.
func (c *cli) pair(ctx context.Context, stack string, numbers []string) (from, to api.Generation, err error) {
	all, err := c.client().History(ctx, stack)
	if err != nil {
		return from, to, err
	}
	current := slices.IndexFunc(all, func(g api.Generation) bool { return g.Current })
	var want [2]uint64
	for i, s := range numbers {
		want[i], err = strconv.ParseUint(s, 10, 64)
		if err != nil {
			return from, to, misused(fmt.Errorf("%q is not the number of a generation: \"ic-agent history %s\" lists them", s, stack))
		}
	}
	if len(numbers) == 0 {
		if current < 0 || current+1 >= len(all) {
			return from, to, fmt.Errorf("there is no version of %s to compare with yet", stack)
		}
		want[0] = all[current+1].Number
	}
	if len(numbers) < 2 {
		if current < 0 {
			return from, to, fmt.Errorf("nothing is kept of the version of %s that runs", stack)
		}
		want[1] = all[current].Number
	}
	from, err = c.client().Generation(ctx, stack, want[0])
	if err != nil {
		return from, to, err
	}
	to, err = c.client().Generation(ctx, stack, want[1])
	return from, to, err
}

func printDiff(w io.Writer, from, to api.Generation) {
	label := func(g api.Generation) string { return fmt.Sprintf("generation %d", g.Number) }
	texts := func(g api.Generation) map[string]api.Document {
		out := map[string]api.Document{}
		for _, d := range g.Documents {
			out[d.Name] = d
		}
		return out
	}
	a, b := texts(from), texts(to)
	var names []string
	for _, d := range slices.Concat(from.Documents, to.Documents) {
		if !slices.Contains(names, d.Name) && d.Name != "Incus" {
			names = append(names, d.Name)
		}
	}
	differs := false
	for _, name := range append(names, "Incus") {
		if a[name].Omitted != "" || b[name].Omitted != "" {
			fmt.Fprintf(w, "%s is not kept: %s\n", name, strings.TrimSpace(a[name].Omitted+" "+b[name].Omitted))
			continue
		}
		d := textDiff(name, label(from), label(to), a[name].Text, b[name].Text)
		fmt.Fprint(w, d)
		differs = differs || d != ""
	}
	if !differs {
		fmt.Fprintf(w, "generation %d and %d are the same\n", from.Number, to.Number)
	}
}

func (c *cli) rollback() *cobra.Command {
	var data bool
	cmd := &cobra.Command{
		Use:   "rollback STACK [GENERATION]",
		Short: "Go back to an earlier version of a stack",
		Long: `Go back to an earlier version of a stack: its files' content, its images and its settings, as they were
then. Without a generation it is the newest earlier one that did well. Volumes are not touched, unless with
--data: then they hold again what they did when that generation was given up, from the snapshots that
x-ic-agent: {snapshot: true} had taken; what they hold now is kept as a snapshot, too.

The user's file stays as it is, and "ic-agent status" says that it differs. The next edit of the file ends
the rollback, and so does "ic-agent retry STACK".`,
		Args:              between(1, 2),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			n := uint64(0)
			if len(args) == 2 {
				var err error
				n, err = strconv.ParseUint(args[1], 10, 64)
				if err != nil || n == 0 {
					return misused(fmt.Errorf("%q is not the number of a generation: \"ic-agent history %s\" lists them", args[1], args[0]))
				}
			}
			r, err := c.client().Rollback(cmd.Context(), api.RollbackRequest{Stack: args[0], Generation: n, Data: data})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), r.Text)
			return nil
		},
	}
	cmd.Flags().BoolVar(&data, "data", false, "bring back the data of that time, too")
	return cmd
}

func (c *cli) retry() *cobra.Command {
	return &cobra.Command{
		Use:   "retry STACK[/SERVICE]",
		Short: "Try again what was given up",
		Long: `Try again what was given up: the version of a service that failed and is held, an update that is
paused, or, for a whole stack, the file that a rollback left aside.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			stack, service, _ := strings.Cut(args[0], "/")
			r, err := c.client().Retry(cmd.Context(), stack, service)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), r.Text)
			return nil
		},
	}
}

func (c *cli) apply() *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "apply STACK[/SERVICE]",
		Short: "Look at a stack and do what is missing; with --now, also what waits for its window",
		Long: `Look at a stack and do what is missing, instead of at the next event.

With --now, what waits for the stack's window (x-ic-agent: {window: ...}), of one service or of all,
is done at once. That holds for the version of the stack that is wanted now; the next edit waits again.`,
		Args:              between(1, 1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			stack, service, _ := strings.Cut(args[0], "/")
			r, err := c.client().Apply(cmd.Context(), api.ApplyRequest{Stack: stack, Service: service, Now: now})
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), r.Text)
			return nil
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "do not wait for the stack's window")
	return cmd
}

func (c *cli) why() *cobra.Command {
	return &cobra.Command{
		Use:   "why STACK/SERVICE",
		Short: "Show what a service is, since when, what last touched it, and what it waits for",
		Args:  between(1, 1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return c.serviceNames(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			stack, service, ok := strings.Cut(args[0], "/")
			if !ok {
				return misused(fmt.Errorf("write it as STACK/SERVICE"))
			}
			r, err := c.client().Why(cmd.Context(), stack, service)
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), r.Text)
			return nil
		},
	}
}

// serviceNames completes STACK/SERVICE, as far as the agent answers at once.
func (c *cli) serviceNames(cmd *cobra.Command) ([]string, cobra.ShellCompDirective) {
	s, err := c.client().Status(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, st := range s.Stacks {
		for _, svc := range st.Services {
			names = append(names, st.Name+"/"+svc.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
