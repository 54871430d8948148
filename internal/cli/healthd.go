package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// healthd is "ic-agent healthd up|down|status": the verbs of ic-healthd(8), which is beside this program.
func healthd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthd up|down|status --project P",
		Short: "Run the health daemon as an instance of one Incus project, with rights in that project alone",
		Long: `Run the health daemon as an instance of one Incus project, with rights in that project alone.

up makes the instance and lets its certificate into the project, down removes both, status shows what it
says. The daemon of the host leaves such a project alone. Without --project, status is that of the host's.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && (args[0] == "up" || args[0] == "down" || args[0] == "status") {
				return nil
			}
			return misused(errors.New("write up, down or status"))
		},
	}
	project := cmd.Flags().String("project", "", "the Incus project")
	socket := cmd.Flags().String("incus", "", "socket of Incus (default: where a packaged Incus listens)")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		argv := []string{args[0]}
		for flag, value := range map[string]string{"--project": *project, "--incus": *socket} {
			if value != "" {
				argv = append(argv, flag, value)
			}
		}
		if *asJSON {
			argv = append(argv, "--json")
		}
		run := exec.CommandContext(cmd.Context(), filepath.Join(filepath.Dir(self), "ic-healthd"), argv...)
		run.Stdout, run.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
		err = run.Run()
		ended, ok := errors.AsType[*exec.ExitError](err)
		if ok {
			return said(max(ended.ExitCode(), Failed))
		}
		return err
	}
	return cmd
}
