package compose

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"
)

// honoured is the set of keys that are translated, as a tree over path components; a nil tree honours
// everything below.
type honoured map[string]honoured

// honouredKeys is built once from the rows.
var honouredKeys = sync.OnceValue(func() honoured {
	root := honoured{}
	for _, p := range topLevel {
		if p != "services" {
			root.add(strings.Split(p, "."))
		}
	}

	for _, r := range serviceRows {
		path := []string{"services", "*", r.key}
		if r.below == nil {
			root.add(path)
		}

		for _, b := range r.below {
			root.add(append(slices.Clone(path), strings.Split(b, ".")...))
		}
	}

	return root
})

func (h honoured) add(path []string) {
	for i, part := range path {
		next, ok := h[part]
		if i == len(path)-1 {
			h[part] = nil
			return
		}

		if !ok {
			next = honoured{}
			h[part] = next
		}

		h = next
	}
}

// below returns the tree for a component, and whether it has one.
func (h honoured) below(part string, item bool) (honoured, bool) {
	next, ok := h[part]
	if ok {
		return next, true
	}

	if item {
		next, ok = h["[]"]
		return next, ok
	}

	next, ok = h["*"]

	return next, ok
}

// unhonoured warns of every key in the user's files that no row honours and that is in force, and of every
// variable without a value.
func (t *translation) unhonoured() {
	for _, s := range t.index.sources {
		for _, doc := range s.docs {
			w := walker{t: t, source: s}
			w.mapping(doc, nil, "", honouredKeys())
		}
	}

	for from, to := range t.index.bases {
		n, ok := to.source.nodes[to.key]
		name := strings.TrimPrefix(to.key, "services.")
		if !ok || slices.Contains(t.index.sources, to.source) && t.enabled(name) {
			continue // the walk above has been there
		}

		for _, name := range t.extendedBy(from) {
			w := walker{t: t, source: to.source}
			w.value(n, []string{"services", name}, "services.*", honouredKeys()["services"]["*"])
		}
	}

	t.warnings = slices.Concat(t.warnings, t.unset.warnings(t.in.unsetText), t.bare.warnings(t.in.bareText))
}

// extendedBy are the stack's own services that the base is part of.
func (t *translation) extendedBy(from base) []string {
	var names []string
	for at := range t.index.bases {
		if !slices.Contains(t.index.sources, at.source) {
			continue
		}

		for step, seen := at, 0; seen < maxFiles; seen++ {
			if step == from {
				names = append(names, strings.TrimPrefix(at.key, "services."))
				break
			}

			next, ok := t.index.bases[step]
			if !ok {
				break
			}

			step = next
		}
	}

	return names
}

// walker walks the keys of one file.
type walker struct {
	t      *translation
	source *source
}

func (w walker) value(n *yaml.Node, path []string, pattern string, h honoured) {
	line := n.Line
	n = deref(n)
	switch n.Kind {
	case yaml.MappingNode:
		w.mapping(n, path, pattern, h)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			number := strconv.Itoa(i)
			// A list where a mapping is usual, as in "depends_on: [a]", has no keys to judge.
			next, _ := h.below(number, true)
			w.value(item, extend(path, number), pattern+".[]", next)
		}
	case yaml.ScalarNode:
		w.scalar(n.Value, line, path)
	}
}

func (w walker) mapping(n *yaml.Node, path []string, pattern string, h honoured) {
	for _, merged := range mergedInto(n) {
		w.mapping(merged, path, pattern, h)
	}

	for key, value := range pairs(n) {
		here, like := extend(path, key.Value), patternOf(pattern, key.Value)
		if strings.HasPrefix(key.Value, "x-") && !knownExtension(key.Value) || !w.t.inForce(here) {
			continue
		}

		w.t.cover(w.source.path, key.Line, strings.Join(here, "."), like)
		next, ok := h.below(key.Value, false)
		if !ok && h != nil {
			w.warn(here, like, key.Line)
			continue
		}

		w.value(value, here, like, next)
	}
}

// extend returns the path with one more component, leaving the path itself alone.
func extend(path []string, part string) []string { return append(slices.Clip(path), part) }

func knownExtension(key string) bool { return key == extIncus || key == extCompose || key == extAgent }

// freeKeys are the mappings whose keys the user chooses.
var freeKeys = []string{"services", "networks", "volumes", "configs", "secrets", "services.*.networks", "services.*.depends_on"}

// patternOf adds a key to a pattern: "*" where the user chooses the keys.
func patternOf(pattern, key string) string {
	if slices.Contains(freeKeys, pattern) {
		return pattern + ".*"
	}

	return join(pattern, key)
}

func (w walker) warn(path []string, pattern string, line int) {
	text, ok := reason(pattern)
	if !ok {
		text = "not supported yet: it has no effect"
	}

	w.t.warnings = append(w.t.warnings, warning(w.source.path, line, strings.Join(path, "."), text))
}

// scalar notes the variables in a value that become the empty string.
func (w walker) scalar(value string, line int, path []string) {
	w.t.unset.scalar(w.source, value, line, strings.Join(path, "."))
}

// inForce tells whether a key of a file is still there after merging, and not in a service whose profile is
// not enabled.
func (t *translation) inForce(parts []string) bool {
	m := t.dict
	for i, part := range parts[:min(len(parts), 3)] {
		v, ok := m[part]
		if !ok {
			// compose-go drops these, or moves them.
			return i == 0 && (part == "version" || part == "include") || i == 2 && (part == "extends")
		}

		if i == 1 && parts[0] == "services" && !t.enabled(part) {
			return false
		}

		m, ok = v.(map[string]any)
		if !ok {
			return true
		}
	}

	return true
}

func (t *translation) enabled(service string) bool {
	_, disabled := t.project.DisabledServices[service]

	return !disabled
}
