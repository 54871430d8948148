package compose

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// source is one file of the stack that compose-go reads, as YAML nodes.
type source struct {
	path string
	docs []*yaml.Node
	// env is what interpolation sees in this file.
	env map[string]string
	// lines maps dotted keys, list items by number, to lines; nodes the same keys to their values.
	lines map[string]int
	nodes map[string]*yaml.Node
}

func newSource(path string, docs []*yaml.Node, env map[string]string) *source {
	s := &source{path: path, docs: docs, env: env, lines: map[string]int{}, nodes: map[string]*yaml.Node{}}
	for _, doc := range docs {
		s.index("", doc)
	}

	return s
}

// index records the keys below a node. The keys of a merged mapping (<<) come first, so that the mapping's
// own win.
func (s *source) index(path string, n *yaml.Node) {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		for _, merged := range mergedInto(n) {
			s.index(path, merged)
		}

		for key, value := range pairs(n) {
			at := join(path, key.Value)
			s.lines[at], s.nodes[at] = key.Line, value
			s.index(at, value)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			at := join(path, strconv.Itoa(i))
			s.lines[at], s.nodes[at] = item.Line, item
			s.index(at, item)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}

	return path + "." + key
}

// deref follows aliases.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}

	return n
}

// pairs yields the keys and values of a mapping, without merge keys.
func pairs(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Tag != "!!merge" && key.Value != "<<" && !yield(key, n.Content[i+1]) {
				return
			}
		}
	}
}

// mergedInto returns the mappings merged into n by "<<", least important first.
func mergedInto(n *yaml.Node) []*yaml.Node {
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" && n.Content[i].Value != "<<" {
			continue
		}

		value := deref(n.Content[i+1])
		if value.Kind == yaml.MappingNode {
			merged = append(merged, value)
			continue
		}

		for _, item := range value.Content {
			merged = append([]*yaml.Node{deref(item)}, merged...)
		}
	}

	return merged
}

// plain turns a node into strings, lists and maps, aliases and merges followed, variables replaced.
func (s *source) plain(n *yaml.Node) any {
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for _, merged := range mergedInto(n) {
			maps.Copy(m, asMap(s.plain(merged)))
		}

		for key, value := range pairs(n) {
			m[key.Value] = s.plain(value)
		}

		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = s.plain(item)
		}

		return list
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return nil
		}

		return s.expand(n.Value)
	}

	return nil
}

// expand replaces the variables of a value; what is not valid stays as it is, for compose-go to refuse.
func (s *source) expand(value string) string {
	if !strings.Contains(value, "$") {
		return value
	}

	out, err := template.Substitute(value, func(name string) (string, bool) {
		v, ok := s.env[name]
		return v, ok
	})
	if err != nil {
		return value
	}

	return out
}

// value is the plain value of a dotted key, nil when the file does not have it.
func (s *source) value(key string) any {
	n, ok := s.nodes[key]
	if !ok {
		return nil
	}

	return s.plain(n)
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

func asString(v any) string {
	s, _ := v.(string)
	return s
}

// base is where a service's definition continues: "extends".
type base struct {
	source *source
	// key is the dotted path of the extended service there.
	key string
}

// index finds places in all files of a stack.
type index struct {
	// file is the stack's main file, the place of a problem without a key.
	file string
	// sources are those whose keys count by themselves, least important first: includes, then the stack's
	// own files in order.
	sources []*source
	// bases are the extended services, by source and dotted path of the extending one.
	bases map[base]base
}

// where yields the places that can define a key, most important first: the key as it is in each file, then
// as it is called in the services it extends.
func (x *index) where(key string) func(yield func(s *source, key string) bool) {
	return func(yield func(s *source, key string) bool) {
		for _, s := range slices.Backward(x.sources) {
			if !yield(s, key) {
				return
			}
		}

		service, rest := splitService(key)
		for _, s := range slices.Backward(x.sources) {
			at := base{s, service}
			for range maxFiles {
				next, ok := x.bases[at]
				if !ok {
					break
				}

				if !yield(next.source, next.key+rest) {
					return
				}

				at = next
			}
		}
	}
}

// splitService cuts "services.web" off a key; the name may hold dots only when it is the whole key.
func splitService(key string) (service, rest string) {
	after, ok := strings.CutPrefix(key, "services.")
	if !ok {
		return "", ""
	}

	name, _, _ := strings.Cut(after, ".")

	return "services." + name, strings.TrimPrefix(after, name)
}

// has tells whether some file sets the key itself.
func (x *index) has(key string) bool {
	for s, k := range x.where(key) {
		_, ok := s.lines[k]
		if ok {
			return true
		}
	}

	return false
}

// place returns where a key, or else the nearest key above it, is set.
func (x *index) place(key string) plan.Place {
	for {
		for s, k := range x.where(key) {
			line, ok := s.lines[k]
			if ok {
				return plan.Place{File: s.path, Line: line}
			}
		}

		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return plan.Place{File: x.file}
		}

		key = key[:i]
	}
}

// items yields the items of a list in all files, most important file first, with their places.
func (x *index) items(list string) func(yield func(v any, at plan.Place) bool) {
	return func(yield func(v any, at plan.Place) bool) {
		for s, k := range x.where(list) {
			for i, v := range asList(s.value(k)) {
				if !yield(v, plan.Place{File: s.path, Line: s.lines[join(k, strconv.Itoa(i))]}) {
					return
				}
			}
		}
	}
}

// item returns where the item of a list that satisfies is stands; else where the list does.
func (x *index) item(list string, is func(v any) bool) plan.Place {
	for v, at := range x.items(list) {
		if is(v) {
			return at
		}
	}

	return x.place(list)
}
