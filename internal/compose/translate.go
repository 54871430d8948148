package compose

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// translation makes a plan.Project of what compose-go understood.
type translation struct {
	in      Input
	files   *files
	index   *index
	project *types.Project
	// dict is the merged model as keys and values, for telling which of the user's keys are in force.
	dict map[string]any
	out  plan.Project
	// secretFiles are the files that secrets were read from; the others are false.
	secretFiles map[string]bool
	// hostVolumes are the volumes that mount something of the host, by their key.
	hostVolumes map[string]plan.Mount
	// unset are the variables that become empty, bare those of environment that have no value.
	unset, bare uses
	problems    []Problem
	warnings    []plan.Warning
	covered     []Covered
}

func (t *translation) run() (plan.Project, error) {
	t.out = plan.Project{
		Stack: t.in.Stack, Name: t.project.Name, Incus: ProjectName(t.project.Name), Source: filepath.Clean(t.in.Files[0]),
		Config: t.scalars("x-incus", t.project.Extensions[extIncus]),
	}
	t.projectExtensions()
	t.resolveEnv(t.project)
	t.check()
	for _, name := range slices.Sorted(maps.Keys(t.project.Networks)) {
		t.network(name, t.project.Networks[name])
	}

	for _, name := range slices.Sorted(maps.Keys(t.project.Volumes)) {
		t.volume(name, t.project.Volumes[name])
	}

	for _, name := range slices.Sorted(maps.Keys(t.project.Services)) {
		t.service(name, t.project.Services[name])
	}

	t.linkAliases()
	t.volumesFrom()
	t.checkTogether()
	t.unhonoured()
	if len(t.problems) > 0 {
		return plan.Project{}, refuse(t.problems)
	}

	t.out.Warnings = sortWarnings(t.warnings)
	t.out.Files = t.files.names()
	for _, name := range t.out.Files {
		if t.secretFiles[name] {
			t.out.SecretFiles = append(t.out.SecretFiles, name)
		}
	}

	t.out.Hash = t.files.hash(t.out.Stack)

	return t.out, nil
}

func sortWarnings(list []plan.Warning) []plan.Warning {
	slices.SortStableFunc(list, func(a, b plan.Warning) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})

	return slices.Compact(list)
}

// refuse adds a problem at a key.
func (t *translation) refuse(key, text, hint string) {
	t.refuseAt(t.index.place(key), key, text, hint)
}

func (t *translation) refuseAt(at plan.Place, key, text, hint string) {
	t.problems = append(t.problems, Problem{File: at.File, Line: at.Line, Key: key, Text: text, Hint: hint})
}

// warn adds a warning at a key.
func (t *translation) warn(key, text string) { t.warnAt(t.index.place(key), key, text) }

func (t *translation) warnAt(at plan.Place, key, text string) {
	t.warnings = append(t.warnings, plan.Warning{File: at.File, Line: at.Line, Key: key, Text: text})
}

// service applies the rows of one service.
func (t *translation) service(name string, c types.ServiceConfig) {
	s := &service{
		t: t, key: "services." + name, in: c,
		out: plan.Service{Name: name, At: t.index.place("services." + name), Config: map[string]string{}},
	}
	for _, r := range serviceRows {
		if r.apply != nil {
			r.apply(s)
			s.originate(r.key)
		}
	}

	t.police(s)
	slices.SortStableFunc(s.out.Mounts, func(a, b plan.Mount) int { return strings.Compare(a.Target, b.Target) })
	slices.SortStableFunc(s.out.Files, func(a, b plan.File) int { return strings.Compare(a.Target, b.Target) })
	t.out.Services = append(t.out.Services, s.out)
}

// service is one service on its way from compose to plan.
type service struct {
	t   *translation
	key string // "services.web"
	in  types.ServiceConfig
	out plan.Service
}

func (s *service) refuse(key, text, hint string) { s.t.refuse(s.key+"."+key, text, hint) }

func (s *service) warn(key, text string) { s.t.warn(s.key+"."+key, text) }

func (s *service) place(key string) plan.Place { return s.t.index.place(s.key + "." + key) }

// volume translates a top-level volume.
func (t *translation) volume(name string, c types.VolumeConfig) {
	key := "volumes." + name
	v := plan.Volume{
		Name: name, Incus: VolumeName(name), External: bool(c.External),
		Config: t.scalars(key+".x-incus", c.Extensions[extIncus]), Labels: labels(c.Labels), At: t.index.place(key),
	}
	if v.External || c.Name != t.project.Name+"_"+name {
		v.Incus = c.Name
		t.checkName(key+".name", c.Name)
	}

	pool, ok := t.known(key+".x-incus-compose", c.Extensions[extCompose], "pool")["pool"]
	if ok {
		v.Pool = t.scalar(key+".x-incus-compose.pool", pool)
	}

	if c.Driver != "" && c.Driver != "local" && c.Driver != "default" {
		t.refuse(key+".driver", fmt.Sprintf("the volume driver %q does not exist here", c.Driver),
			"remove driver; choose a storage pool with x-incus-compose.pool")
	}

	if t.hostVolume(name, c) {
		return
	}

	for _, opt := range slices.Sorted(maps.Keys(c.DriverOpts)) {
		t.volumeOpt(&v, key+".driver_opts."+opt, opt, c.DriverOpts[opt])
	}

	t.out.Volumes = append(t.out.Volumes, v)
}

func (t *translation) volumeOpt(v *plan.Volume, key, opt, value string) {
	if value == "" {
		return // as if it were not there
	}

	if opt != "size" {
		t.warn(key, "ignored: size, type, o and device are known here")
		return
	}

	var size types.UnitBytes
	err := size.DecodeMapstructure(value)
	if err != nil || size <= 0 {
		t.refuse(key, fmt.Sprintf("%q is not a size", value), `write a number and a unit, "10g"`)
		return
	}

	v.Size = int64(size)
}

// checkName refuses a volume name of the user's own that Incus would.
func (t *translation) checkName(key, name string) {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/$?&+\"'`* \t\n") || name[0] == '.' {
		t.refuse(key, fmt.Sprintf("%q is not a name Incus accepts for a volume", name), "use letters, digits, hyphens and underscores, 63 at most")
	}
}

func labels(l types.Labels) map[string]string {
	if len(l) == 0 {
		return nil
	}

	return maps.Clone(map[string]string(l))
}

func warning(file string, line int, key, text string) plan.Warning {
	return plan.Warning{File: file, Line: line, Key: key, Text: text}
}
