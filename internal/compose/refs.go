package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
)

// refs follows include and extends the way compose-go will, reading every file through files first. What it
// has not seen, compose-go is not allowed to open.
type refs struct {
	files    *files
	index    *index
	problems []Problem
	// extended holds the extended sources by path, so that a file reached twice is parsed once.
	extended map[string]*source
	// allowed are the references as compose-go will spell them; opened the files it will open by itself.
	allowed map[string]bool
	opened  []string
}

// scope is what the references of one file are resolved against.
type scope struct {
	source *source
	// dir is the directory of relative paths, work the one compose-go counts from.
	dir, work string
	// chain are the files that led here, for cycles; the stack's own files have none.
	chain []string
}

func (r *refs) refuse(sc scope, key, text, hint string) {
	r.problems = append(r.problems, Problem{File: sc.source.path, Line: sc.source.lines[key], Key: key, Text: text, Hint: hint})
}

// follow reads everything the file refers to by include and extends, and adds the file to the index after
// what it includes.
func (r *refs) follow(sc scope) {
	if len(r.index.sources) >= maxFiles {
		r.refuse(sc, "include", fmt.Sprintf("the stack includes more than %d files", maxFiles), "include each file once")
		return
	}

	for i, entry := range asList(sc.source.value("include")) {
		r.include(sc, "include."+strconv.Itoa(i), entry)
	}

	r.index.sources = append(r.index.sources, sc.source)
	for _, name := range slices.Sorted(maps.Keys(asMap(sc.source.value("services")))) {
		r.extends(sc, "services."+name)
	}
}

// include follows one entry, "path" or {path, project_directory, env_file}.
func (r *refs) include(sc scope, key string, entry any) {
	paths, dir, env := includeEntry(entry)
	if len(paths) == 0 {
		r.refuse(sc, key, "names no file", "write the path of a compose file beside this one")
		return
	}

	nested := len(sc.chain) > 0
	if nested && (dir != "" || len(env) > 0) {
		r.refuse(sc, key, "project_directory and env_file are not followed from inside an included file",
			"include the file from the stack's main file instead")
		return
	}

	var sources []*source
	for _, p := range paths {
		s := r.open(sc, key, p, nil)
		if s == nil {
			return
		}

		chain := append(slices.Clone(sc.chain), sc.source.path)
		if slices.Contains(chain, s.path) {
			r.refuse(sc, key, "includes itself: "+cycle(append(chain, s.path)), "remove one of these includes")
			return
		}

		sources = append(sources, s)
	}

	if dir == "" {
		dir = filepath.Dir(sources[0].path)
	}

	child := scope{dir: absolute(sc.dir, dir), work: absolute(sc.dir, dir), chain: append(slices.Clone(sc.chain), sc.source.path)}
	vars, ok := r.includeEnv(sc, key, child.dir, env)
	if !ok {
		return
	}

	for _, s := range sources {
		child.source = newSource(s.path, s.docs, types.Mapping(sc.source.env).Clone().Merge(vars))
		r.follow(child)
	}
}

func includeEntry(entry any) (paths []string, dir string, env []string) {
	m, ok := entry.(map[string]any)
	if !ok {
		return texts(entry), "", nil
	}

	return texts(m["path"]), asString(m["project_directory"]), texts(m["env_file"])
}

// texts returns a string or a list of strings as a list.
func texts(v any) []string {
	s, ok := v.(string)
	if ok && s != "" {
		return []string{s}
	}

	var list []string
	for _, item := range asList(v) {
		list = append(list, asString(item))
	}

	return list
}

func cycle(paths []string) string {
	first := slices.Index(paths, paths[len(paths)-1])
	var names []string
	for _, p := range paths[first:] {
		names = append(names, filepath.Base(p))
	}

	return strings.Join(names, " → ")
}

// absolute is compose-go's rule for paths: "~" is left to it.
func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}

	return filepath.Join(dir, path)
}

// includeEnv reads what an include adds to the variables: its env_file, else the .env beside it.
func (r *refs) includeEnv(sc scope, key, dir string, named []string) (types.Mapping, bool) {
	paths := named
	if len(named) == 0 {
		beside := filepath.Join(dir, dotenv.DotEnv)
		_, err := r.files.referred(beside)
		if err != nil {
			return nil, r.absent(sc, key, beside, err)
		}

		paths = []string{beside}
	}

	vars := types.Mapping{}
	for _, p := range paths {
		if p == "/dev/null" {
			continue
		}

		p = absolute(sc.dir, p)
		b, err := r.files.referred(p)
		if err != nil {
			r.refuse(sc, key, fmt.Sprintf("env_file %s %v", p, err), fileHint(err))
			return nil, false
		}

		problem := parseEnv(p, b, vars, sc.source.env)
		if problem != nil {
			r.problems = append(r.problems, *problem)
			return nil, false
		}

		r.opened = append(r.opened, p)
	}

	return vars, true
}

// absent says whether an optional file may be missing: yes, but not be anything else than a file.
func (r *refs) absent(sc scope, key, path string, err error) bool {
	_, outside := r.files.inside(path)
	if errors.Is(err, errMissing) || outside != nil {
		return true
	}

	r.refuse(sc, key, fmt.Sprintf("%s %v", path, err), fileHint(err))

	return false
}

// extends follows a service's extends, and those of what it extends.
func (r *refs) extends(sc scope, service string) {
	for range maxFiles {
		v := sc.source.value(service + ".extends")
		m := asMap(v)
		name, file := asString(v), asString(m["file"])
		if m != nil {
			name = asString(m["service"])
		}

		if name == "" {
			return
		}

		from := base{sc.source, service}
		next := sc
		if file != "" {
			s := r.open(sc, service+".extends", file, r.extended)
			if s == nil {
				return
			}

			next.source, next.dir = s, filepath.Dir(s.path)
		}

		_, known := r.index.bases[from]
		if known {
			return
		}

		service = "services." + name
		r.index.bases[from] = base{next.source, service}
		sc = next
	}
}

// open reads and scans a compose file that the scope refers to.
func (r *refs) open(sc scope, key, ref string, cache map[string]*source) *source {
	if strings.Contains(ref, "://") || strings.HasPrefix(ref, "git@") || strings.HasPrefix(ref, "oci:") {
		r.refuse(sc, key, fmt.Sprintf("%q is remote", ref), "only files of the stack's directory are read: copy it there")
		return nil
	}

	if strings.HasPrefix(ref, "~") {
		r.refuse(sc, key, fmt.Sprintf("%s %v", ref, errOutside), fileHint(errOutside))
		return nil
	}

	path := absolute(sc.dir, ref)
	r.allow(sc.work, ref, path)
	s, seen := cache[path]
	if seen {
		return s
	}

	b, err := r.files.referred(path)
	if err != nil {
		r.refuse(sc, key, fmt.Sprintf("%s %v", ref, err), fileHint(err))
		return nil
	}

	docs, problems := Prescan(path, b)
	if len(problems) > 0 {
		r.problems = append(r.problems, problems...)
		return nil
	}

	if len(docs) == 0 {
		r.refuse(sc, key, ref+" is empty", `write "services:" into it, or remove the reference`)
		return nil
	}

	r.opened = append(r.opened, path)
	s = newSource(path, docs, sc.source.env)
	if cache != nil {
		cache[path] = s
	}

	return s
}

// allow permits a reference under each of the names compose-go gives it: as written, absolute, and relative
// to where it counts from.
func (r *refs) allow(work, ref, path string) {
	r.allowed[ref], r.allowed[path] = true, true
	rel, err := filepath.Rel(work, path)
	if err == nil {
		r.allowed[rel] = true
	}
}

// guard is the resource loader that stands before compose-go's own and takes every reference refs has not
// seen, to refuse it.
type guard struct{ allowed map[string]bool }

// Accept is part of loader.ResourceLoader.
func (g guard) Accept(ref string) bool { return !g.allowed[ref] }

// Load is part of loader.ResourceLoader.
func (g guard) Load(_ context.Context, ref string) (string, error) {
	return "", fmt.Errorf("%q is not read: write the path without anchors or merge keys", ref)
}

// Dir is part of loader.ResourceLoader.
func (g guard) Dir(ref string) string { return filepath.Dir(ref) }
