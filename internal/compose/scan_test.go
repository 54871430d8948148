package compose

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

func TestPrescanRefusesBytesNoTextHas(t *testing.T) {
	for _, tc := range []struct{ content, want string }{
		{"a: b\nc: \x01\n", "f.yaml:2:4: control character 0x01"},
		{"a: b\nc: é\xff\n", "f.yaml:2:5: not UTF-8 text (save the file as UTF-8)"},
		{"a: \u0080\n", "f.yaml:1:4: control character 0x80"},
		{"a: b # \u0085\n", ""},
		{"\ufeffa: b\r\n", ""},
		{strings.Repeat("#", maxFile+1), "f.yaml: is larger than 1024 KiB"},
	} {
		_, problems := Prescan("/f.yaml", []byte(tc.content))
		got := ""
		if len(problems) > 0 {
			got = problems[0].String()
		}

		if len(problems) > 1 || !strings.HasPrefix(got, tc.want) || (tc.want == "") != (got == "") {
			t.Errorf("%.20q: %q, want %q", tc.content, got, tc.want)
		}
	}
}

// What people write comes near none of the limits; one more than a limit is refused.
func TestPrescanLimits(t *testing.T) {
	nested := func(n int) string {
		return "a: \"" + strings.Repeat("${A:-", n) + strings.Repeat("}", n) + "\"\n"
	}
	aliases := func(n int) string { return "a: &a 1\nb: [" + strings.Repeat("*a,", n) + "]\n" }
	depth := func(n int) string { return "a: " + strings.Repeat("[", n) + strings.Repeat("]", n) + "\n" }
	for _, tc := range []struct {
		name string
		make func(int) string
		most int
	}{
		{"nesting", nested, maxNesting},
		{"aliases", aliases, maxAliases},
		{"depth", depth, maxDepth},
		{"services", services, maxServices},
	} {
		_, problems := Prescan("f", []byte(tc.make(tc.most)))
		if len(problems) > 0 {
			t.Errorf("%d %s: %v", tc.most, tc.name, problems)
		}

		_, problems = Prescan("f", []byte(tc.make(tc.most+1)))
		if len(problems) != 1 {
			t.Errorf("%d %s: %v, want one problem", tc.most+1, tc.name, problems)
		}
	}
}

func TestAliasesOfAliasesCountEachTime(t *testing.T) {
	_, problems := Prescan("f", []byte("a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"))
	if len(problems) != 1 || !strings.Contains(problems[0].Text, "more than 1000 aliases") {
		t.Errorf("problems = %v", problems)
	}
}

func TestUnset(t *testing.T) {
	env := map[string]string{"SET": "1", "EMPTY": ""}
	for value, want := range map[string][]string{
		"$A ${B} $$C $${D} ${SET} $SET": {"A", "B"},
		"${A:-x} ${A-x} ${A:-} ${A?x}":  nil,
		"${A:-${B}} ${SET:-${C}}":       {"B"},
		"${EMPTY:-$X} ${EMPTY-$Y}":      {"X"},
		"${SET:+$X} ${A:+$Y} ${SET+$Z}": {"X", "Z"},
		"${unclosed $A":                 nil,
		"$1 $ ${} 100$":                 nil,
	} {
		diff := cmp.Diff(want, unset(value, env))
		if diff != "" {
			t.Errorf("%s: (-want +got)\n%s", value, diff)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct{ word, want string }{{"imgae", "image"}, {"nam", "name"}, {"retry", "retries"}, {"zzzzzz", ""}, {strings.Repeat("image", 99), ""}} {
		got := nearest(tc.word, []string{"command", "image", "name", "retries"})
		if got != tc.want {
			t.Errorf("nearest(%.10q) = %q, want %q", tc.word, got, tc.want)
		}
	}
}

// FuzzPrescan: whatever the bytes are, the scan answers with nodes or with problems that have a text, and what
// it lets through stays within the limits when aliases are followed.
func FuzzPrescan(f *testing.F) {
	for _, b := range bombs() {
		if len(b.yaml) < 1<<12 {
			f.Add([]byte(b.yaml))
		}
	}

	f.Add([]byte("a: &a {b: *a}\n"))
	f.Add([]byte("<<: [{a: 1}, {b: 2}]\n--- \n? {a: b}\n: c\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		docs, problems := Prescan("f.yaml", content)
		for _, p := range problems {
			if p.Text == "" || p.File != "f.yaml" {
				t.Errorf("problem %+v", p)
			}
		}

		if len(docs) > 0 && len(problems) > 0 {
			t.Error("nodes and problems")
		}

		s := newSource("f.yaml", docs, nil)
		for _, doc := range docs {
			s.plain(doc)
		}
	})
}

// FuzzLoad: whatever the file is, Load answers with a project that has a name and a hash, or with an *Error.
func FuzzLoad(f *testing.F) {
	for _, name := range []string{"process", "networks", "volumes", "ports", "healthcheck", "limits", "x-incus", "configs"} {
		arc, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			f.Fatal(err)
		}

		for _, file := range arc.Files {
			if file.Name == "blog.yaml" {
				f.Add(string(file.Data))
			}
		}
	}

	f.Fuzz(func(t *testing.T, yaml string) {
		p, err := loadText(t, yaml)
		var refused *Error
		switch {
		case err == nil:
			if p.Name == "" || len(p.Hash) != 64 {
				t.Errorf("project %+v", p)
			}
		case !errors.As(err, &refused):
			t.Errorf("not an *Error: %v", err)
		case len(refused.Problems) == 0, refused.Problems[0].Text == "":
			t.Errorf("an *Error that says nothing: %+v", refused)
		case strings.Contains(refused.Error(), "the compose parser gave up"):
			t.Logf("compose-go panics on %q: %s", yaml, fmt.Sprint(refused))
		}
	})
}
