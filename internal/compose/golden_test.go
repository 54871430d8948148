package compose

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/incus-compose/ic-agent/internal/plan"
)

var update = flag.Bool("update", false, "write the golden results of testdata/*.txtar")

// TestMain is also the parse child: this binary with the one argument "parse".
func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], []string{"parse"}) {
		os.Exit(childMain())
	}

	if len(os.Args) == 3 && os.Args[1] == "greedy" {
		os.Exit(greedy(os.Args[2]))
	}

	os.Exit(m.Run())
}

// TestGolden translates each stack of testdata and compares what a reader would look at: the fields of the
// project that are set, the warnings, or the problems.
func TestGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}

	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			path, err := filepath.Abs(path) // describe changes the directory
			if err != nil {
				t.Fatal(err)
			}

			arc, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}

			var want string
			var files []txtar.File
			for _, f := range arc.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}

				files = append(files, f)
			}

			got := describe(t, files)
			if *update {
				arc.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
				err = os.WriteFile(path, txtar.Format(arc), 0o644)
				if err != nil {
					t.Fatal(err)
				}

				return
			}

			diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
			if diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// stack writes files into a directory and returns the input for the stack "blog" they make: blog.yaml,
// blog.override.yaml and .env, those that are there.
func stack(t testing.TB, files []txtar.File) Input {
	t.Helper()
	in := Input{Stack: "blog", Dir: t.TempDir()}
	for _, f := range files {
		path := filepath.Join(in.Dir, f.Name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil {
			t.Fatal(err)
		}

		err = os.WriteFile(path, f.Data, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{"blog.yaml", "blog.override.yaml"} {
		path := filepath.Join(in.Dir, name)
		_, err := os.Lstat(path)
		if err == nil {
			in.Files = append(in.Files, path)
		}
	}

	vault := filepath.Join(in.Dir, "vault")
	_, err := os.Lstat(vault)
	if err == nil {
		in.Vaults = []string{vault, filepath.Join(in.Dir, "vault2")}
	}

	env := filepath.Join(in.Dir, ".env")
	_, err = os.Lstat(env)
	if err == nil {
		in.Env = []string{env}
	}

	return in
}

// describe loads the files and prints the result.
func describe(t *testing.T, files []txtar.File) string {
	t.Helper()
	in := stack(t, files)
	t.Chdir(in.Dir)
	t.Setenv("MISSING", "leaked from the host")
	p, err := Load(t.Context(), in)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatalf("not an *Error: %v", err)
	}

	if refused != nil {
		return strings.ReplaceAll("refused\n"+refused.Error()+"\n"+warned(refused.Warnings), in.Dir+"/", "")
	}

	if len(p.Hash) != 64 {
		t.Errorf("Hash = %q, want 64 hex digits", p.Hash)
	}

	p.Hash = ""
	var b strings.Builder
	dump(&b, "", reflect.ValueOf(p))
	text := strings.ReplaceAll(b.String()+warned(p.Warnings), in.Dir+"/", "")

	return strings.ReplaceAll(text, filepath.Dir(in.Dir)+"/", "../")
}

func warned(list []plan.Warning) string {
	var b strings.Builder
	for _, w := range list {
		fmt.Fprintf(&b, "warning %s:%d: %s: %s\n", w.File, w.Line, w.Key, w.Text)
	}

	return b.String()
}

// dump prints a line for each field that is not zero. Places are shortened to file:line, and warnings are
// left to the caller; where keys come from has a test of its own.
func dump(b *strings.Builder, path string, v reflect.Value) {
	place, ok := reflect.TypeAssert[plan.Place](v)
	if ok && place != (plan.Place{}) {
		fmt.Fprintf(b, "%s %s:%d\n", path, place.File, place.Line)
		return
	}

	text, ok := reflect.TypeAssert[fmt.Stringer](v)
	if ok && !v.IsZero() {
		fmt.Fprintf(b, "%s %s\n", path, text)
		return
	}

	content, ok := reflect.TypeAssert[[]byte](v)
	if ok {
		fmt.Fprintf(b, "%s %q\n", path, content)
		return
	}

	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Type().Field(i).IsExported() && name != "Warnings" && name != "Origins" {
				dump(b, strings.TrimPrefix(path+"."+name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Len() == 0 && !v.IsNil() {
			fmt.Fprintf(b, "%s []\n", path)
		}

		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	case reflect.Map:
		for _, k := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			value := v.MapIndex(k)
			if value.Kind() == reflect.String {
				fmt.Fprintf(b, "%s[%s] %q\n", path, k, value.String())
				continue
			}

			dump(b, fmt.Sprintf("%s[%s]", path, k), value)
		}
	default:
		if !v.IsZero() {
			fmt.Fprintf(b, "%s %v\n", path, v.Interface())
		}
	}
}
