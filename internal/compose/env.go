package compose

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
)

var (
	envLine = regexp.MustCompile(`line (\d+): `)
	// envValue is where dotenv quotes the line, which may hold a secret.
	envValue = regexp.MustCompile(`(?s)((?:quoted value|in variable name) ).*$`)
)

// parseEnv adds the variables of a file in dotenv format to vars. A variable it refers to is looked up in
// outer, then in vars.
func parseEnv(path string, content []byte, vars, outer map[string]string) *Problem {
	p := checkBytes(content)
	for i, line := range strings.Split(string(content), "\n") {
		depth, count := nesting(line)
		if p == nil && (depth > maxNesting || count > maxVariable) {
			p = &Problem{
				Line: i + 1, Text: fmt.Sprintf("variables nested more than %d deep, or more than %d of them", maxNesting, maxVariable),
				Hint: "give intermediate values names of their own",
			}
		}
	}

	if p != nil {
		p.File = path
		return p
	}

	err := dotenv.ParseWithFormat(bytes.NewReader(content), path, vars, func(name string) (string, bool) {
		v, ok := outer[name]
		if !ok {
			v, ok = vars[name]
		}

		return v, ok
	}, "")
	if err == nil {
		return nil
	}

	text := strings.TrimPrefix(err.Error(), "failed to read "+path+": ")
	p = &Problem{File: path, Text: envValue.ReplaceAllString(envLine.ReplaceAllString(text, ""), "$1…"), Hint: "write NAME=value, one a line"}
	p.Line = errorLine(string(content), text)

	return p
}

// errorLine is the line a message of dotenv means. It counts to the end of a quoted value that never ends, so
// the value's beginning, which it quotes, is searched for.
func errorLine(content, text string) int {
	_, quoted, open := strings.Cut(text, "unterminated quoted value ")
	if open {
		before, _, _ := strings.Cut(content, quoted)
		return strings.Count(before, "\n") + 1
	}

	m := envLine.FindStringSubmatch(text)
	if m == nil {
		return 0
	}

	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}

	return n
}

// resolveEnv puts the services' env_file under their environment, and their label_file under their labels.
func (t *translation) resolveEnv(p *types.Project) {
	for name, s := range p.Services {
		key := "services." + name
		s.Environment = t.environment(key+".env_file", s, p.Environment)
		s.Labels = t.labels(key+".label_file", s)
		p.Services[name] = s
	}
}

// environment follows compose: later files win over earlier ones, the service's environment over all of
// them, and the stack's variables over both when a value refers to one.
func (t *translation) environment(key string, s types.ServiceConfig, outer types.Mapping) types.MappingWithEquals {
	own := s.Environment.Resolve(outer.Resolve)
	vars := map[string]string(own.ToMapping())
	lookup := own.ToMapping()
	maps.Copy(lookup, outer)
	for _, f := range s.EnvFiles {
		at := t.index.item(key, func(v any) bool { return strings.HasSuffix(f.Path, strings.TrimPrefix(envPath(v), "./")) })
		b, err := t.files.referred(f.Path)
		if errors.Is(err, errMissing) && !bool(f.Required) {
			continue
		}

		if err != nil {
			t.refuseAt(at, key, fmt.Sprintf("%s %v", f.Path, err), fileHint(err))
			continue
		}

		if f.Format != "" {
			t.refuseAt(at, key, fmt.Sprintf("the format %q is not supported", f.Format), "remove format")
			continue
		}

		problem := parseEnv(f.Path, b, vars, lookup)
		if problem != nil {
			t.problems = append(t.problems, *problem)
		}
	}

	return types.Mapping(vars).ToMappingWithEquals().OverrideBy(own)
}

func envPath(v any) string {
	m := asMap(v)
	if m != nil {
		return asString(m["path"])
	}

	return asString(v)
}

func (t *translation) labels(key string, s types.ServiceConfig) types.Labels {
	vars := map[string]string{}
	for _, path := range s.LabelFiles {
		b, err := t.files.referred(path)
		if err != nil {
			t.refuse(key, fmt.Sprintf("%s %v", path, err), fileHint(err))
			continue
		}

		problem := parseEnv(path, b, vars, nil)
		if problem != nil {
			t.problems = append(t.problems, *problem)
		}
	}

	maps.Copy(vars, s.Labels)

	return vars
}
