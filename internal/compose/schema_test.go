package compose

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var updatePage = flag.Bool("update-page", false, "write the tables of docs/x-ic-agent.md")

// TestSchemaAndParserAgree holds the table of rules against the schema made of it, with the compose
// specification's own schema under it: each example passes both, and what the schema lets pass the parser does.
func TestSchemaAndParserAgree(t *testing.T) {
	judge := compileSchema(t)
	for _, level := range []struct {
		name  string
		rules []extRule
		wrap  func(v any) any
	}{
		{"project", projectExt, func(v any) any {
			return map[string]any{extAgent: v, "services": map[string]any{"web": map[string]any{"image": "x"}}}
		}},
		{"service", serviceExt, func(v any) any {
			return map[string]any{"services": map[string]any{"web": map[string]any{"image": "x", extAgent: v}}}
		}},
	} {
		names := map[string]bool{}
		for _, r := range level.rules {
			names[r.name] = true
			agree(t, judge, level.name+"."+r.name, r, func(v any) any { return level.wrap(map[string]any{r.name: v}) })
		}

		err := judge.Validate(level.wrap(map[string]any{"nonsense": true}))
		if err == nil {
			t.Errorf("%s: the schema lets an unknown key pass", level.name)
		}
	}
}

// agree tries values of every kind at one key, and goes down to the keys below it.
func agree(t *testing.T, judge *jsonschema.Schema, name string, r extRule, wrap func(v any) any) {
	t.Helper()
	var example any
	err := yaml.Unmarshal([]byte(r.example), &example)
	if err != nil {
		t.Fatalf("%s: the example is no YAML: %v", name, err)
	}

	if r.says == "" {
		t.Errorf("%s: no sentence says what it is", name)
	}

	values := []any{example, nil, true, 7, -1, 70000, 1.5, "", "zzz-wrong", "5m", []any{}, []any{"zzz"}, []any{3}, map[string]any{}, map[string]any{"a": "b"}}
	for i, v := range values {
		tr := translation{index: &index{}}
		tr.extValue("key", r, v)
		parser, editor := len(tr.problems) == 0, judge.Validate(wrap(v)) == nil
		loose := r.kind == extCalendar || r.short != "" && ruleOf(r.below, r.short).kind == extCalendar // no schema knows a calendar
		switch {
		case i == 0 && (!parser || !editor):
			t.Errorf("%s: its example %q: parser %v (%v), schema %v", name, r.example, parser, tr.problems, judge.Validate(wrap(v)))
		case editor && !parser && !loose:
			t.Errorf("%s: %#v: the schema lets it pass, the parser says %v", name, v, tr.problems)
		}
	}

	for _, b := range r.below {
		if r.one || len(r.need) == 0 || len(r.need) == 1 && r.need[0] == b.name {
			agree(t, judge, name+"."+b.name, b, func(v any) any { return wrap(map[string]any{b.name: v}) })
		}
	}
}

// compileSchema compiles ours with the compose specification's as compose-go ships it.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for url, text := range map[string]string{composeSpec: schema.Schema, "ours.json": string(Schema())} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}

		err = c.AddResource(url, doc)
		if err != nil {
			t.Fatal(err)
		}
	}

	s, err := c.Compile("ours.json")
	if err != nil {
		t.Fatal(err)
	}

	return s
}

// TestExtensionPage compares docs/x-ic-agent.md with the table of rules.
func TestExtensionPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "x-ic-agent.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	const mark = "<!-- What follows is made by: go test ./internal/compose -run TestExtensionPage -update-page -->\n\n"
	above, tables, ok := strings.Cut(string(b), mark)
	if !ok {
		t.Fatalf("%s has no line %q", path, mark)
	}

	if *updatePage {
		err = os.WriteFile(path, []byte(above+mark+ExtensionPage()), 0o644)
		if err != nil {
			t.Fatal(err)
		}

		return
	}

	diff := cmp.Diff(strings.Split(ExtensionPage(), "\n"), strings.Split(tables, "\n"))
	if diff != "" {
		t.Errorf("the page differs from the rules; go test ./internal/compose -run TestExtensionPage -update-page (-rules +page)\n%s", diff)
	}
}
