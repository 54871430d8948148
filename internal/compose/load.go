package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Input names the files of a stack; the parse child reads it as JSON.
type Input struct {
	// Stack is the directory entry's name without its ending; it is the project's name when the files give
	// none.
	Stack string `json:"stack"`
	// Dir is the absolute directory of relative paths; nothing outside it is read.
	Dir string `json:"dir"`
	// Files are the absolute paths of the stack's compose files, at least one; later ones override earlier
	// ones.
	Files []string `json:"files"`
	// Env are the absolute paths of files in dotenv format; later ones override earlier ones. They are all
	// that interpolation sees.
	Env []string `json:"env,omitempty"`
	// Vaults are the directories of external secrets and configs, the first one first; none makes them an error.
	Vaults []string `json:"vaults,omitempty"`
	// Policy is how much the file may ask of the host.
	Policy Policy `json:"policy"`
	// Coverage asks for what becomes of each key.
	Coverage bool `json:"coverage,omitempty"`
}

// quiet stops compose-go from writing warnings to stderr: they come back as plan.Warning.
var quiet = sync.OnceFunc(func() { logrus.SetOutput(io.Discard) })

// Load reads a stack's files and resolves them into a project. Files that cannot be honoured give an *Error.
//
// It works in this process: input that exhausts memory or time takes the process with it, so a daemon uses
// Child instead.
func Load(ctx context.Context, in Input) (plan.Project, error) {
	project, _, err := loadCovered(ctx, in)

	return project, err
}

// loadCovered is Load with the coverage, when it is asked for.
func loadCovered(ctx context.Context, in Input) (project plan.Project, covered []Covered, err error) {
	quiet()
	defer func() {
		// compose-go asserts types that its schema should have checked, and does not always.
		r := recover()
		if r != nil {
			text := fmt.Sprintf("the compose parser gave up: %v", r)
			project, covered, err = plan.Project{}, nil, stopped(in, text, "take the last change back; please report the file")
		}
	}()

	if len(in.Files) == 0 {
		return plan.Project{}, nil, refuse([]Problem{{Text: "the stack has no compose file", Hint: "write NAME.yaml, or NAME/compose.yaml"}})
	}

	f, err := openFiles(in.Dir)
	if err != nil {
		return plan.Project{}, nil, refuse([]Problem{{File: in.Dir, Text: err.Error(), Hint: "make the directory readable for the agent"}})
	}

	defer f.close() //nolint:errcheck // nothing was written

	l := load{in: in, files: f, env: types.Mapping{}, index: &index{file: in.Files[0], bases: map[base]base{}}}

	project, err = l.run(ctx)
	refused, ok := errors.AsType[*Error](err)
	if ok {
		refused.Files = f.wanted()
		l.blame(refused)
	}

	return project, l.covered, err
}

func first(files []string) string {
	if len(files) == 0 {
		return ""
	}

	return files[0]
}

// load is one run over a stack's files.
type load struct {
	in    Input
	files *files
	env   types.Mapping
	index *index
	name  string
	// main are the stack's own files that have content.
	main     []*source
	problems []Problem
	warnings []plan.Warning
	// covered is the coverage; nil when nobody asks.
	covered []Covered
	// translated tells whether warnings holds those of the translation, too.
	translated bool
}

func (l *load) run(ctx context.Context) (plan.Project, error) {
	l.readEnv()
	l.readMain()
	if len(l.problems) > 0 {
		return plan.Project{}, refuse(l.problems)
	}

	l.projectName()
	refs := refs{files: l.files, index: l.index, allowed: map[string]bool{}, extended: map[string]*source{}}
	for _, s := range l.main {
		refs.follow(scope{source: s, dir: l.in.Dir, work: l.in.Dir})
	}

	l.problems = append(l.problems, refs.problems...)
	l.precheck()
	if len(l.problems) > 0 {
		return plan.Project{}, refuse(l.problems)
	}

	project, dict, err := l.compose(ctx, guard{refs.allowed})
	for _, path := range refs.opened {
		if !l.files.unchanged(path) {
			return plan.Project{}, refuse([]Problem{{File: path, Text: "changed while it was being read", Hint: "it is read again at the next change"}})
		}
	}

	if err != nil {
		return plan.Project{}, err
	}

	t := translation{in: l.in, files: l.files, index: l.index, project: project, dict: dict, warnings: l.warnings, secretFiles: map[string]bool{}, hostVolumes: map[string]plan.Mount{}, unset: uses{}, bare: uses{}}
	out, err := t.run()
	l.covered, l.warnings, l.translated = t.coverage(), t.warnings, true

	return out, err
}

// readEnv reads the stack's variables.
func (l *load) readEnv() {
	for _, path := range l.in.Env {
		b, err := l.files.given(path)
		if err != nil {
			l.problems = append(l.problems, Problem{File: path, Text: err.Error(), Hint: fileHint(err)})
			continue
		}

		problem := parseEnv(path, b, l.env, nil)
		if problem != nil {
			l.problems = append(l.problems, *problem)
		}
	}
}

// readMain reads and scans the stack's own files. Override files may be empty, the main file may not.
func (l *load) readMain() {
	for i, path := range l.in.Files {
		b, err := l.files.given(path)
		if err != nil {
			l.problems = append(l.problems, Problem{File: path, Text: err.Error(), Hint: fileHint(err)})
			continue
		}

		docs, problems := Prescan(path, b)
		l.problems = append(l.problems, problems...)
		if len(docs) == 0 && len(problems) == 0 && i == 0 {
			l.problems = append(l.problems, Problem{
				File: path, Line: 1, Text: "the file is empty", Hint: `write "services:" into it, or remove it`,
			})
		}

		if len(docs) > 0 {
			l.main = append(l.main, newSource(path, docs, l.env))
		}
	}
}

// dockerOnly are the variables that steer Docker Compose from .env and have no meaning here.
var dockerOnly = []string{"COMPOSE_FILE", "COMPOSE_ENV_FILES", "COMPOSE_PROJECT_NAME", "COMPOSE_PATH_SEPARATOR"}

// warnDockerOnly says that a stack is what its directory entry is.
func (l *load) warnDockerOnly() {
	for _, name := range dockerOnly {
		_, set := l.env[name]
		if set {
			l.warnings = append(l.warnings, warning(first(l.in.Env), 0, name,
				"ignored: a stack is called what name: says, and made of the files beside it"))
		}
	}
}

// projectName decides the name before anything is interpolated: the files may use ${COMPOSE_PROJECT_NAME}.
func (l *load) projectName() {
	l.warnDockerOnly()
	l.name = loader.NormalizeProjectName(l.in.Stack)
	for _, s := range l.main {
		given := asString(s.value("name"))
		if given == "" {
			continue
		}

		l.name = loader.NormalizeProjectName(given)
		if l.name != given {
			l.warnings = append(l.warnings, warning(s.path, s.lines["name"], "name",
				fmt.Sprintf("the name %q becomes %q: project names have lower-case letters, digits, - and _ only", given, l.name)))
		}
	}

	if l.name == "" {
		l.problems = append(l.problems, Problem{
			File: l.index.file, Key: "name", Text: "no project name can be made of the file's name", Hint: `add "name: something" at the top`,
		})
	}

	l.env["COMPOSE_PROJECT_NAME"] = l.name
}

// compose hands the files to compose-go.
func (l *load) compose(ctx context.Context, g guard) (*types.Project, map[string]any, error) {
	details := types.ConfigDetails{WorkingDir: l.in.Dir, Environment: l.env}
	for _, s := range l.main {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: s.path, Content: l.files.read[s.path]})
	}

	options := func(o *loader.Options) {
		o.SetProjectName(l.name, true)
		o.ResourceLoaders = []loader.ResourceLoader{g}
		// Both read files by themselves, and neither knows lines.
		o.SkipResolveEnvironment, o.SkipResolveLabels = true, true
		o.SkipConsistencyCheck = true
	}

	dict, err := loader.LoadModelWithContext(ctx, details, options)
	if err != nil {
		return nil, nil, l.explain(ctx, err)
	}

	keep := cloneMap(dict)
	opts := loader.ToOptions(&details, []func(*loader.Options){options, loader.WithProfiles(l.profiles(dict))})
	project, err := loader.ModelToProject(dict, opts, details)
	if err != nil {
		return nil, nil, l.explain(ctx, err)
	}

	return project, keep, nil
}

// profiles are those of x-ic-agent and of COMPOSE_PROFILES.
func (l *load) profiles(dict map[string]any) []string {
	names := texts(asMap(dict[extAgent])["profiles"])
	names = append(names, strings.Split(l.env["COMPOSE_PROFILES"], ",")...)
	names = slices.DeleteFunc(names, func(s string) bool { return strings.TrimSpace(s) == "" })
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}

	slices.Sort(names)

	return slices.Compact(names)
}

func cloneMap(m map[string]any) map[string]any {
	out := maps.Clone(m)
	for k, v := range out {
		out[k] = clone(v)
	}

	return out
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneMap(v)
	case []any:
		out := slices.Clone(v)
		for i := range out {
			out[i] = clone(out[i])
		}

		return out
	}

	return v
}

// explain turns what compose-go says into problems with a place and a hint.
func (l *load) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("load %s: %w", filepath.Base(l.index.file), ctx.Err())
	}

	var problems []Problem
	for _, e := range flatten(err) {
		problems = append(problems, explain(l.index, e.Error())...)
	}

	return refuse(problems)
}

// flatten splits joined errors.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		inner := errors.Unwrap(err)
		if inner != nil && strings.HasPrefix(err.Error(), inner.Error()) {
			return flatten(inner)
		}

		return []error{err}
	}

	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}

	return all
}
