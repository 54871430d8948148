package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/compose"
)

func (c *cli) plan() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "plan [STACK]",
		Short:             "Show what is left to do, and why",
		Args:              atMost(1),
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			plans, err := c.client().Plan(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), plans)
			}
			if len(plans) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no stacks")
			}
			for i, p := range plans {
				if i > 0 && (len(p.Steps) > 0 || len(plans[i-1].Steps) > 0) {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				fmt.Fprint(cmd.OutOrStdout(), p.Text)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (c *cli) reload() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Look at the directories now",
		Long: `Look at the directories now, instead of at the next event or within a minute.

With --wait it returns when every changed file was accepted or refused, and fails when one was
refused. "systemctl reload ic-agent" does that.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := c.client().Reload(cmd.Context(), wait)
			if err != nil {
				return err
			}
			return said(printReload(cmd.OutOrStdout(), reply))
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the outcome, and fail when a file is refused")
	return cmd
}

// printReload prints what became of the stacks, and returns the exit code.
func printReload(w io.Writer, r api.ReloadReply) int {
	code := OK
	for _, p := range r.Problems {
		fmt.Fprintln(w, p)
	}
	var t table
	for _, s := range r.Stacks {
		if s.Error == "" {
			t.row(plainCell(s.Stack), plainCell(string(s.State)))
		}
	}
	t.print(w, "")
	for _, s := range r.Stacks {
		if s.Error != "" {
			code = Failed
			fmt.Fprintf(w, "%s: refused; what runs of it stays as it is\n%s\n", s.Stack, indent(s.Error))
		}
	}
	return code
}

func (c *cli) confirm() *cobra.Command {
	return &cobra.Command{
		Use:   "confirm-removal [STACK[/SERVICE]...]",
		Short: "Let stacks go whose files vanished together, or that are protected",
		Long: `Let stacks go whose files vanished together, or that are protected.

When more than half of the stacks vanish at once, they run on until their files return or this
verb says that it was meant. Without names it means all of them. What x-ic-agent protects, a stack
or a service of one, and what was found without a file, goes when it is named. Volumes are kept.`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.stackNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			removed, err := c.client().ConfirmRemoval(cmd.Context(), args...)
			if err != nil {
				return err
			}
			if len(removed) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no removal was held")
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed: %s\n", strings.Join(removed, ", "))
			return nil
		},
	}
}

func version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show this program's version",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			commit := ""
			info, ok := debug.ReadBuildInfo()
			if ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = " " + s.Value[:min(12, len(s.Value))]
					}
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "ic-agent %s%s (%s, %s/%s)\n", Version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func schema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of compose files, for editors",
		Long: `Print the JSON schema of compose files with x-ic-agent, for editors.

The package has it as a file. An editor with the YAML language server uses it when a file begins with

  # yaml-language-server: $schema=/usr/share/ic-agent/x-ic-agent.schema.json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(compose.Schema())
			return err
		},
	}
}

// stackNames completes the names of stacks, as far as the agent answers at once.
func (c *cli) stackNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	s, err := c.client().Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, st := range s.Stacks {
		names = append(names, st.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
