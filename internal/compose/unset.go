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

// unsetUses are the variables that become the empty string, with where they are used.
type unsetUses map[string]*unsetUse

type unsetUse struct {
	at  plan.Place // the first use
	key string
	// lines are the places of all uses.
	lines map[plan.Place]bool
}

// scalar adds the variables of a value at a key.
func (u unsetUses) scalar(s *source, value string, line int, key string) {
	if !strings.Contains(value, "$") {
		return
	}

	for _, name := range unset(value, s.env) {
		at := plan.Place{File: s.path, Line: line}
		use, known := u[name]
		if !known {
			use = &unsetUse{at: at, key: key, lines: map[plan.Place]bool{}}
			u[name] = use
		}

		use.lines[at] = true
	}
}

// source adds those of a whole file: of one that was refused it is not known which keys would be in force.
func (u unsetUses) source(s *source) {
	for _, key := range slices.SortedFunc(maps.Keys(s.nodes), func(a, b string) int { return cmp.Or(cmp.Compare(s.lines[a], s.lines[b]), cmp.Compare(a, b)) }) {
		n := deref(s.nodes[key])
		if n.Kind == yaml.ScalarNode && !strings.HasPrefix(key, "x-") {
			u.scalar(s, n.Value, s.lines[key], key)
		}
	}
}

// warnings are one for each variable, at its first use.
func (u unsetUses) warnings(where string) []plan.Warning {
	var list []plan.Warning
	for name, use := range u {
		count := ""
		if n := len(use.lines); n > 1 {
			count = " in " + strconv.Itoa(n) + " places"
		}

		list = append(list, warning(use.at.File, use.at.Line, use.key,
			fmt.Sprintf("the variable %s is not set and becomes empty%s: set it in %s, or write ${%s:-default}", name, count, where, name)))
	}

	return list
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
		uses := unsetUses{}
		for _, s := range l.index.sources {
			uses.source(s)
		}

		l.warnings = append(l.warnings, uses.warnings(l.in.variableFiles())...)
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
