package compose

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// Verdict is what happens to a key of a compose file.
type Verdict string

// The verdicts.
const (
	// Honoured keys mean what compose says.
	Honoured Verdict = "honoured"
	// Differs is honoured differently: the sentence says how.
	Differs Verdict = "honoured differently"
	// Ignored keys have no effect and give a warning.
	Ignored Verdict = "ignored"
	// Refused keys keep the whole stack from being applied.
	Refused Verdict = "refused"
)

// line is what becomes of one key. The tables in coverage_*.go hold one for each key of the specification, sorted;
// a key that has none shares the line of the nearest one above it.
type line struct {
	// key is relative to the service; outside services it begins with a slash. "*" is a name the user chooses,
	// "[]" an item of a list.
	key     string
	verdict Verdict
	// text is one sentence: what the key becomes, or why it does not and what to do instead. For an ignored key
	// it is the warning.
	text string
}

// area is a chapter of docs/compose.md.
type area struct {
	title string
	lines []line
}

// areas are the chapters, in the order of the page.
var areas = []area{
	{"Image and build", coverImage},
	{"Process", coverProcess},
	{"Names and notes", coverNames},
	{"Life of a service", coverLife},
	{"Deployment", coverDeploy},
	{"Resources", coverResources},
	{"Privileges and devices", coverPrivileges},
	{"Networks and ports of a service", coverAttach},
	{"Files and volumes of a service", coverMounts},
	{"Networks", coverNetworks},
	{"Volumes, configs and secrets", coverStorage},
	{"The project", coverProject},
	{"Extensions", coverExtensions},
}

// coverage is the table by key.
var coverage = sync.OnceValue(func() map[string]line {
	all := map[string]line{}
	for _, a := range areas {
		for _, l := range a.lines {
			all[l.key] = l
		}
	}

	return all
})

// tableKey is the key of the table for a pattern of the model: "services.*.image" is "image", "name" is "/name".
func tableKey(pattern string) string {
	rest, ok := strings.CutPrefix(pattern, "services.*.")
	if ok {
		return rest
	}

	return "/" + pattern
}

// covering is the line for a key of the table, or for the nearest key above it that has one.
func covering(key string) (line, bool) {
	for {
		l, ok := coverage()[key]
		if ok {
			return l, true
		}

		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return line{}, false
		}

		key = key[:i]
	}
}

// reason is the warning for a key that is ignored, by its pattern.
func reason(pattern string) (string, bool) {
	l, ok := covering(tableKey(pattern))

	return l.text, ok && l.verdict == Ignored
}

// Covered is what becomes of one key of a user's file, when it is in force.
type Covered struct {
	// File is an absolute path, Line counts from 1.
	File string `json:"file"`
	Line int    `json:"line"`
	// Key is the dotted path of the key, "services.web.image".
	Key     string  `json:"key"`
	Verdict Verdict `json:"verdict"`
	// Text says what it becomes, or why it does not and what to do instead.
	Text string `json:"text"`
}

// cover notes a key of a file, when it has a line of its own.
func (t *translation) cover(file string, at int, key, pattern string) {
	l, ok := coverage()[tableKey(pattern)]
	if t.in.Coverage && ok {
		t.covered = append(t.covered, Covered{File: file, Line: at, Key: key, Verdict: l.verdict, Text: l.text})
	}
}

// coverage is what was found in the files, corrected by what the rows said about this one stack: a problem refuses
// its key, a warning means that the key is honoured differently.
func (t *translation) coverage() []Covered {
	if !t.in.Coverage {
		return nil
	}

	table := len(t.covered)
	for _, w := range t.warnings {
		t.correct(table, Covered{File: w.File, Line: w.Line, Key: w.Key, Verdict: Differs, Text: w.Text})
	}

	for _, p := range t.problems {
		text := p.Text
		if p.Hint != "" {
			text += " (" + p.Hint + ")"
		}

		t.correct(table, Covered{File: p.File, Line: p.Line, Key: p.Key, Verdict: Refused, Text: text})
	}

	t.covered = slices.DeleteFunc(t.covered, func(c Covered) bool { return c.Text == "" })
	slices.SortStableFunc(t.covered, func(a, b Covered) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})

	return slices.Compact(t.covered)
}

// correct adds what was said about a key, instead of what the table says of it, the first so many of covered; a key
// that is ignored stays so.
func (t *translation) correct(table int, c Covered) {
	for i, have := range t.covered[:table] {
		if have.File != c.File || have.Line != c.Line || have.Key != c.Key {
			continue
		}

		if have.Verdict == Ignored && c.Verdict == Differs {
			return
		}

		t.covered[i].Text = ""
	}

	if c.Key != "" {
		t.covered = append(t.covered, c)
	}
}
