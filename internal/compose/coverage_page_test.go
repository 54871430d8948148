package compose

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
)

const pagePath = "../../docs/compose.md"

// pageHead is what stands above the tables of docs/compose.md.
const pageHead = `# What each key of a compose file becomes

This page is made from the tables the agent itself uses (` + "`internal/compose/coverage_*.go`" + `): do not edit it, run ` + "`make docs`" + `.
It holds every key of the compose specification that compose-go, its reference library, knows. Nothing is dropped silently:

* **honoured**: the key means what compose says;
* **differs**: it is honoured, but differently, and the text says how;
* **ignored**: it has no effect; ` + "`ic-agent check`, `plan` and `status`" + ` show the text as a warning;
* **refused**: the file is refused, and what runs keeps running.

A value can be refused where its key is honoured; the message says what to write. ` + "`ic-agent check --coverage FILE`" + ` says
all this about one file, line by line.

A dotted key stands below another one, ` + "`*`" + ` is a name of your own, ` + "`[]`" + ` an item of a list. Keys in brackets go with the one
they stand behind.
`

// TestCoveragePage compares docs/compose.md with the tables it is made of; with -update-page it writes the page.
func TestCoveragePage(t *testing.T) {
	want := coveragePage()
	if *updatePage {
		err := os.WriteFile(pagePath, []byte(want), 0o644)
		if err != nil {
			t.Fatal(err)
		}

		return
	}

	got, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}

	if string(got) != want {
		t.Error("docs/compose.md is stale: run make docs (go test ./internal/compose -run TestCoveragePage -update-page)")
	}
}

// TestCoveragePageHasEveryKey fails when compose-go knows a key that the page does not have.
func TestCoveragePageHasEveryKey(t *testing.T) {
	text := coveragePage()
	for _, p := range schema.AttributePaths() {
		key := strings.TrimPrefix(tableKey(string(p)), "/")
		if !shownOnPage(string(p)) || strings.Contains(text, "`"+key+"`") {
			continue
		}

		t.Errorf("%s is not on the page: add a line to coverage_*.go", p)
	}
}

// shownOnPage leaves out the names users choose, and what stands below keys that are ignored as a whole.
func shownOnPage(pattern string) bool {
	if strings.HasSuffix(pattern, ".*") || pattern == "services" || strings.HasSuffix(pattern, ".external.name") {
		return false
	}

	l, ok := covering(tableKey(pattern))

	return !ok || l.verdict != Ignored || l.key == tableKey(pattern)
}

func coveragePage() string {
	below := map[string][]string{}
	for _, p := range schema.AttributePaths() {
		key := tableKey(string(p))
		l, ok := covering(key)
		if ok && l.key != key && shownOnPage(string(p)) {
			below[l.key] = append(below[l.key], "`"+strings.TrimPrefix(key, "/")+"`")
		}
	}

	words := map[Verdict]string{Differs: "differs"}
	var b strings.Builder
	b.WriteString(pageHead)
	for _, a := range areas {
		fmt.Fprintf(&b, "\n## %s\n\n| key | | what it becomes |\n|---|---|---|\n", a.title)
		for _, l := range a.lines {
			name := "`" + strings.TrimPrefix(l.key, "/") + "`"
			if len(below[l.key]) > 0 {
				name += " (" + strings.Join(below[l.key], ", ") + ")"
			}

			word := words[l.verdict]
			if word == "" {
				word = string(l.verdict)
			}

			text := strings.TrimPrefix(strings.TrimPrefix(l.text, "ignored: "), "ignored, ")
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, word, strings.ReplaceAll(text, "|", "\\|"))
		}
	}

	return b.String()
}
