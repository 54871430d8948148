package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// verdict is what "check" says about one stack.
type verdict struct {
	Stack string `json:"stack"`
	// Files are those it was read from, the main file first.
	Files []string `json:"files"`
	OK    bool     `json:"ok"`
	// Project is the Incus project it would get.
	Project  string            `json:"project,omitempty"`
	Services int               `json:"services"`
	Networks int               `json:"networks"`
	Volumes  int               `json:"volumes"`
	Problems []compose.Problem `json:"problems"`
	Warnings []api.Warning     `json:"warnings"`
	// Coverage says what becomes of each key of the files.
	Coverage []compose.Covered `json:"coverage"`
}

func (c *cli) check() *cobra.Command {
	var asJSON, coverage bool
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Say what is wrong with compose files, without running them",
		Long: `Say what is wrong with compose files, or directories with one, without running them.

It needs neither the daemon nor Incus, and reads a file as the daemon would: with its overrides
and .env files, and nothing of your environment. With --coverage it says of each key whether it is
honoured, and if not as compose means it, how or why; docs/compose.md has the same for all keys.`,
		Args: between(1, 1000),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			verdicts, err := checkAll(cmd.Context(), args)
			if err != nil {
				return err
			}
			code := OK
			for _, v := range verdicts {
				if !v.OK {
					code = Failed
				}
			}
			if asJSON {
				return orSaid(printJSON(cmd.OutOrStdout(), verdicts), code)
			}
			for _, v := range verdicts {
				v.print(cmd.OutOrStdout(), coverage)
			}
			return said(code)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&coverage, "coverage", false, "say what becomes of each key")
	return cmd
}

// checkAll checks every stack, and that no two claim one project.
func checkAll(ctx context.Context, paths []string) ([]verdict, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	child := compose.Child{Argv: []string{self, "parse"}}
	verdicts := []verdict{}
	claimed := map[string]string{}
	for _, path := range paths {
		v, err := checkOne(ctx, path, child)
		if err != nil {
			return nil, err
		}
		other, twice := claimed[v.Project]
		switch {
		case v.Project == "" || len(v.Files) == 0:
		case !twice:
			claimed[v.Project] = v.Files[0]
		case other != v.Files[0]:
			v.refuse(compose.Problem{
				File: v.Files[0], Key: "name", Text: fmt.Sprintf("%s makes the Incus project %q, too", shown(other), v.Project),
				Hint: "give one of them another top-level name",
			})
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

func checkOne(ctx context.Context, path string, child compose.Child) (verdict, error) {
	v := verdict{Stack: path, Files: []string{}, OK: true, Problems: []compose.Problem{}, Warnings: []api.Warning{}, Coverage: []compose.Covered{}}
	st, err := watch.Find(path)
	if err != nil {
		v.refuse(compose.Problem{Text: err.Error()})
		return v, nil
	}
	v.Stack = st.Name
	v.Files = append(v.Files, st.Files...)
	if st.Err != nil {
		v.refuse(compose.Problem{File: st.Err.Path, Text: st.Err.Text})
		return v, nil
	}
	r, err := child.Report(ctx, compose.Input{
		Stack: st.Name, Dir: st.Dir, Files: st.Files, Env: st.Env, Policy: hostPolicy(), Coverage: true,
		Vaults: compose.Vaults("/run/credentials/ic-agent.service"),
	})
	var stopped *compose.Error
	switch {
	case errors.As(err, &stopped):
		v.refuse(stopped.Problems...)
		return v, nil
	case err != nil:
		return v, err
	}
	v.Coverage = append(v.Coverage, r.Coverage...)
	if r.Error != nil {
		v.refuse(r.Error.Problems...)
		v.Warnings = append(v.Warnings, api.WarningsOf(r.Error.Warnings)...)
		return v, nil
	}
	v.accept(*r.Project)
	return v, nil
}

// hostPolicy is what the daemon's settings allow files, where they can be read; the daemon says what is wrong in them.
func hostPolicy() compose.Policy {
	var settings struct {
		Policy compose.Policy `toml:"policy"`
	}
	_, err := toml.DecodeFile(defaultConfig, &settings)
	if err != nil || settings.Policy.Valid() != nil {
		return compose.Policy{}
	}
	return settings.Policy
}

func (v *verdict) refuse(problems ...compose.Problem) {
	v.OK = false
	v.Problems = append(v.Problems, problems...)
}

func (v *verdict) accept(p plan.Project) {
	v.Project = p.Incus
	v.Services, v.Networks, v.Volumes = len(p.Services), len(p.Networks), len(p.Volumes)
	v.Warnings = append(v.Warnings, api.WarningsOf(p.Warnings)...)
}

// print prints the coverage when it is asked for, then the problems and warnings that are not in it, then one line
// that sums up.
func (v *verdict) print(w io.Writer, coverage bool) {
	said := map[string]bool{}
	for _, c := range v.Coverage {
		if coverage {
			fmt.Fprintf(w, "%s%s%s: %s\n", place(shown(c.File), c.Line, 0), keyed(c.Key), c.Verdict, c.Text)
			said[fmt.Sprint(c.File, c.Line, c.Key)] = true
		}
	}
	for _, p := range v.Problems {
		if !said[fmt.Sprint(p.File, p.Line, p.Key)] {
			fmt.Fprintln(w, problem(p))
		}
	}
	for _, x := range v.Warnings {
		if said[fmt.Sprint(x.File, x.Line, x.Key)] {
			continue
		}
		fmt.Fprintln(w, place(shown(x.File), x.Line, 0)+"warning: "+keyed(x.Key)+x.Text)
	}
	if !v.OK {
		fmt.Fprintf(w, "%s: refused, %s", v.Stack, plan.Count(len(v.Problems), "problem"))
	} else {
		fmt.Fprintf(w, "%s: %s, %s, %s: ok", v.Stack, plan.Count(v.Services, "service"), plan.Count(v.Networks, "network"), plan.Count(v.Volumes, "volume"))
	}
	if len(v.Warnings) > 0 {
		fmt.Fprintf(w, ", %s", plan.Count(len(v.Warnings), "warning"))
	}
	fmt.Fprintln(w)
}

// problem prints "dir/blog.yaml:7:3: services.web.ports: what is wrong (what to do)".
func problem(p compose.Problem) string {
	text := place(shown(p.File), p.Line, p.Column) + keyed(p.Key) + p.Text
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// shown is a path as a user here would write it: relative below the working directory, else absolute.
func shown(path string) string {
	wd, err := os.Getwd()
	if err != nil || path == "" || wd == "/" {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || !filepath.IsLocal(rel) {
		return path
	}
	return rel
}
