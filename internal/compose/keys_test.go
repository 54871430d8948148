package compose

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/compose-spec/compose-go/v2/types"
)

// verdict follows a pattern of the compose specification as the walk over a user's file would: honoured,
// ignored with a sentence of its own, or neither.
func verdict(pattern string) string {
	h := honouredKeys()
	var at []string
	for part := range strings.SplitSeq(pattern, ".") {
		at = append(at, part)
		if h == nil {
			return "honoured"
		}

		next, ok := h.below(part, part == "[]")
		h = next
		if ok || part == "[]" {
			continue
		}

		_, ok = reason(strings.Join(at, "."))
		if ok {
			return "ignored"
		}

		return "silent"
	}

	return "honoured" // or the way to keys that are
}

// TestEveryKeyOfTheSpecificationHasAnAnswer fails when compose-go learns a key that no row translates and no
// sentence warns of.
func TestEveryKeyOfTheSpecificationHasAnAnswer(t *testing.T) {
	seen := map[string]int{}
	for _, p := range schema.AttributePaths() {
		v := verdict(string(p))
		seen[v]++
		if v == "silent" {
			t.Errorf("%s is neither honoured nor explained: add a row, or a line to coverage_*.go", p)
		}
	}

	if seen["honoured"] < 100 || seen["ignored"] < 100 {
		t.Errorf("%v: that cannot be the compose specification", seen)
	}
}

func TestEveryFieldOfAServiceHasAnAnswer(t *testing.T) {
	for _, key := range yamlKeys(reflect.TypeFor[types.ServiceConfig]()) {
		if key != "name" && verdict("services.*."+key) == "silent" {
			t.Errorf("services.*.%s is neither honoured nor explained: add a row, or a line to coverage_*.go", key)
		}
	}
}

// yamlKeys are the keys of a struct's fields, inlined ones too.
func yamlKeys(typ reflect.Type) []string {
	var keys []string
	for field := range typ.Fields() {
		tag := field.Tag.Get("yaml")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case name == "" && strings.Contains(options, "inline"):
			keys = append(keys, yamlKeys(field.Type)...)
		case name != "-" && !strings.HasPrefix(name, "#"):
			keys = append(keys, name)
		}
	}

	return keys
}

// TestEveryKeyIsOneOfTheSpecification: the tables and the rows are about keys that compose has, or had once.
func TestEveryKeyIsOneOfTheSpecification(t *testing.T) {
	known := []string{"attach", "dockerfile", "log_driver", "log_opt", "net", "volume_driver", "deploy"}
	for _, p := range schema.AttributePaths() {
		known = append(known, tableKey(string(p)))
	}

	for key := range coverage() {
		if !strings.Contains(key, "x-inc") && !strings.Contains(key, "x-ic") && !slices.Contains(known, key) {
			t.Errorf("the tables explain %q, which the specification does not have", key)
		}
	}

	for _, r := range serviceRows {
		if !strings.HasPrefix(r.key, "x-") && !slices.Contains(known, r.key) {
			t.Errorf("there is a row for %q, which the specification does not have", r.key)
		}
	}
}

// TestRowsAndTablesAgree: what is honoured has a sentence that says so, and the other way round.
func TestRowsAndTablesAgree(t *testing.T) {
	for _, r := range serviceRows {
		l, ok := coverage()[r.key]
		if !ok || l.verdict == Ignored {
			t.Errorf("%s has a row: say in coverage_*.go what it becomes", r.key)
		}

		for _, below := range r.below {
			l, ok = covering(r.key + "." + below)
			if !ok || l.verdict == Ignored {
				t.Errorf("%s.%s is honoured: say in coverage_*.go what it becomes", r.key, below)
			}
		}
	}

	for _, p := range topLevel {
		l, ok := covering(tableKey(p))
		if p != "services" && (!ok || l.verdict == Ignored) {
			t.Errorf("%s is honoured: say in coverage_*.go what it becomes", p)
		}
	}

	for key, l := range coverage() {
		pattern := "services.*." + key
		if strings.HasPrefix(key, "/") {
			pattern = key[1:]
		}

		got := verdict(pattern)
		if got == "honoured" && l.verdict == Ignored || got != "honoured" && l.verdict != Ignored {
			t.Errorf("%s is %s in coverage_*.go and %s by the rows", key, l.verdict, got)
		}
	}
}

func TestTablesAreSortedAndSayEachKeyOnce(t *testing.T) {
	seen := map[string]string{}
	for _, a := range areas {
		if !slices.IsSortedFunc(a.lines, func(x, y line) int { return strings.Compare(x.key, y.key) }) {
			t.Errorf("%s: sort the lines by key", a.title)
		}

		for _, l := range a.lines {
			if seen[l.key] != "" {
				t.Errorf("%s has a line in %s and one in %s", l.key, seen[l.key], a.title)
			}

			seen[l.key] = a.title
			if l.text == "" || strings.HasSuffix(l.text, ".") {
				t.Errorf("%s: %q is no sentence of ours", l.key, l.text)
			}
		}
	}
}

// sample holds a valid value for each key of a service that is ignored.
const sample = `
    cgroup: host
    cgroup_parent: m
    cpu_count: 2
    cpu_percent: 50
    cpu_rt_period: 1000
    cpu_rt_runtime: 1000
    credential_spec: {file: c.json}
    develop: {watch: [{path: ., action: rebuild}]}
    external_links: [other]
    ipc: host
    isolation: default
    oom_kill_disable: true
    pid: host
    pre_start: [{command: a, image: b}]
    pull_refresh_after: 1d
    runtime: runc
    use_api_socket: true
    userns_mode: host
    uts: host
    models: [m]
`

func TestEachUnhonouredKeyIsNamedWithItsLine(t *testing.T) {
	yaml := "models: {m: {model: a}}\nservices:\n  other: {image: x}\n  web:\n    image: x" + sample
	p, err := loadText(t, yaml)
	if err != nil {
		t.Fatal(err)
	}

	lines := map[string]int{}
	for _, w := range p.Warnings {
		lines[w.Key] = w.Line
	}

	for i, line := range strings.Split(yaml, "\n") {
		key, _, ok := strings.Cut(strings.TrimPrefix(line, "    "), ":")
		if i < 5 || !ok {
			continue
		}

		if lines["services.web."+key] != i+1 {
			t.Errorf("%s: warned of in line %d, want line %d", key, lines["services.web."+key], i+1)
		}
	}

	// These are not in the schema any more, or have keys below that are honoured.
	gone := []string{"deploy", "dockerfile", "log_driver", "log_opt", "net", "volume_driver", "provider"}
	for key, l := range coverage() {
		if l.verdict == Ignored && !strings.ContainsAny(key, "./") && !slices.Contains(gone, key) && lines["services.web."+key] == 0 {
			t.Errorf("%s: the sample does not have it", key)
		}
	}
}
