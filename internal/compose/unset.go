package compose

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// uses are the places of variables by name, so that each is warned of once.
type uses map[string]*use

type use struct {
	at  plan.Place // the first one
	key string
	// places are all of them.
	places map[plan.Place]bool
}

// note adds a place. The first is the first in the order of files and lines, in whichever order they are noted.
func (u uses) note(name string, at plan.Place, key string) {
	known, ok := u[name]
	if !ok {
		known = &use{at: at, key: key, places: map[plan.Place]bool{}}
		u[name] = known
	}

	known.places[at] = true
	if cmp.Or(cmp.Compare(at.File, known.at.File), cmp.Compare(at.Line, known.at.Line), cmp.Compare(key, known.key)) < 0 {
		known.at, known.key = at, key
	}
}

// scalar notes the variables of a value that become the empty string.
func (u uses) scalar(s *source, value string, line int, key string) {
	if !strings.Contains(value, "$") {
		return
	}

	for _, name := range unset(value, s.env) {
		u.note(name, plan.Place{File: s.path, Line: line}, key)
	}
}

// source notes those of a whole file: of one that was refused it is not known which keys would be in force.
func (u uses) source(s *source) {
	for key, n := range s.nodes {
		n = deref(n)
		if n.Kind == yaml.ScalarNode && !strings.HasPrefix(key, "x-") {
			u.scalar(s, n.Value, s.lines[key], key)
		}
	}
}

// warnings are one for each variable, at its first place; text makes the sentence of the name and of in how many places it is.
func (u uses) warnings(text func(name, places string) string) []plan.Warning {
	var list []plan.Warning
	for name, x := range u {
		places := ""
		if n := len(x.places); n > 1 {
			places = " in " + strconv.Itoa(n) + " places"
		}

		list = append(list, warning(x.at.File, x.at.Line, x.key, text(name, places)))
	}

	return list
}

// unsetText is about a variable that becomes the empty string.
func (in Input) unsetText(name, places string) string {
	return fmt.Sprintf("the variable %s is not set and becomes empty%s: set it in %s, or write ${%s:-default}", name, places, in.variableFiles(), name)
}

// bareText is about a variable of environment that is named without a value, to be taken from where docker compose runs.
func (in Input) bareText(name, places string) string {
	return fmt.Sprintf("%s has no value, and none in %s: it is left out%s", name, in.variableFiles(), places)
}

// variableFiles are where a stack's variables are set, for messages.
func (in Input) variableFiles() string {
	name := filepath.Base(first(in.Files))
	stem := strings.TrimSuffix(name, filepath.Ext(name))
	if stem != in.Stack || filepath.Base(in.Dir) == in.Stack {
		return ".env beside the file"
	}

	return ".env or " + in.Stack + ".env beside the file"
}

// blame says of each problem which variables without a value are in what is refused, and adds what there is to warn of.
func (l *load) blame(refused *Error) {
	for i := range refused.Problems {
		p := &refused.Problems[i]
		names := l.unsetAt(*p)
		if len(names) == 0 {
			continue
		}

		are := "is"
		if len(names) > 1 {
			are = "are"
		}

		list := strings.Join(names, " and ")
		p.Text += fmt.Sprintf(", because %s %s not set", list, are)
		p.Hint = fmt.Sprintf("set %s in %s, or write ${%s:-default}", list, l.in.variableFiles(), names[0])
	}

	if !l.translated {
		u := uses{}
		for _, s := range l.index.sources {
			u.source(s)
		}

		l.warnings = append(l.warnings, u.warnings(l.in.unsetText)...)
	}

	refused.Warnings = sortWarnings(l.warnings)
}

// unsetAt are the variables without a value in the value that a problem is about, in order.
func (l *load) unsetAt(p Problem) []string {
	var names []string
	for _, s := range l.index.sources {
		for _, key := range slices.Sorted(maps.Keys(s.nodes)) {
			n := deref(s.nodes[key])
			if s.path == p.File && s.lines[key] == p.Line && n.Kind == yaml.ScalarNode && (key == p.Key || itemOf(key, p.Key)) {
				names = append(names, unset(n.Value, s.env)...)
			}
		}
	}

	seen := map[string]bool{}

	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true

		return again
	})
}

// itemOf tells whether a key is an item of a list.
func itemOf(key, list string) bool {
	number, ok := strings.CutPrefix(key, list+".")
	_, err := strconv.Atoi(number)

	return ok && err == nil
}
