package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 400 // of a file that is not a test
	maxFuncLines = 80  // of a function that is not a test, from "func" to the closing brace
)

// vagueNames are package names that tell a reader nothing and so gather everything.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "shared", "types", "base", "lib"}

func TestSourcesKeepTheHouseStyle(t *testing.T) {
	fset := token.NewFileSet()
	files := map[string]*ast.File{}
	bubbles := map[string]bool{} // directories whose tests use testing/synctest
	for _, path := range goFiles(t, "..") {
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = f
		bubbles[filepath.Dir(path)] = bubbles[filepath.Dir(path)] || usesBubbles(f)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		for _, complaint := range complaints(fset, files[path], bubbles[filepath.Dir(path)]) {
			t.Error(complaint)
		}
	}
}

func usesBubbles(f *ast.File) bool {
	return slices.ContainsFunc(f.Imports, func(imp *ast.ImportSpec) bool { return imp.Path.Value == `"testing/synctest"` })
}

func TestPackagesSayWhatTheyAre(t *testing.T) {
	documented := map[string]bool{}
	for _, path := range goFiles(t, "..") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || f.Doc.Text() != ""
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment: say what it is, what it owns and what it never does", dir)
		}
	}
}

func TestStyleComplaints(t *testing.T) {
	long := "package p\nfunc f() {\n" + strings.Repeat("\t_ = 1\n", maxFuncLines) + "}\n"
	for _, tc := range []struct{ name, file, src, want string }{
		{"a plain file", "p.go", "package p\n// F does.\nfunc F() {}\n// T is.\ntype T int\n", ""},
		{"a group with one comment", "p.go", "package p\n// Errors.\nvar (\n\tErrA error\n\tErrB error\n)\n", ""},
		{"a comment per name", "p.go", "package p\nconst (\n\t// A is.\n\tA = 1\n\tB = 2 // B is.\n)\n", ""},
		{"an unexported type's method", "p.go", "package p\ntype t int\nfunc (t) Run() {}\n", ""},
		{"a file too long", "p.go", "package p\n" + strings.Repeat("\n", maxFileLines+1), "lines, the limit is 400"},
		{"a long test file", "p_test.go", "package p\n" + strings.Repeat("\n", maxFileLines+1), ""},
		{"a function too long", "p.go", long, "f has 82 lines"},
		{"a long test function", "p_test.go", long, ""},
		{"a vague package", "p.go", "package helpers\n", "helpers says nothing"},
		{"an undocumented function", "p.go", "package p\nfunc F() {}\n", "F has no doc comment"},
		{"an undocumented method", "p.go", "package p\n// T is.\ntype T int\nfunc (*T) M() {}\n", "M has no doc comment"},
		{"an undocumented generic method", "p.go", "package p\n// T is.\ntype T[E any] []E\nfunc (T[E]) M() {}\n", "M has no doc comment"},
		{"an undocumented type", "p.go", "package p\ntype T int\n", "T has no doc comment"},
		{"an undocumented variable", "p.go", "package p\nvar A, b = 1, 2\n", "A has no doc comment"},
		{"a one-line error check", "p.go", "package p\nfunc f() { if err := g(); err != nil { return } }\n", "on two lines"},
		{"a one-line error check in a test", "p_test.go", "package p\nfunc f() { if _, err := g(); err != nil { return } }\n", "on two lines"},
		{"a one-line check of another thing", "p.go", "package p\nfunc f() { if v, ok := g(); ok { _ = v } }\n", ""},
		{"a skipped test", "p_test.go", "package p\nfunc f(t *testing.T) { t.Skip(\"no root\") }\n", "Skip"},
		{"a skip of something else", "p_test.go", "package p\nfunc f(d *decoder) { d.Skip() }\n", ""},
		{"a test that sleeps", "p_test.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "sleeps"},
		{"a test that polls", "p_test.go", "package p\nimport \"time\"\nfunc f() { for !done() { time.Sleep(1) } }\n", ""},
		{"a test that sleeps in a bubble", "p_test.go", "package p\nimport (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { time.Sleep(1) }\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, tc.file, tc.src, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := complaints(fset, f, usesBubbles(f))
			if tc.want == "" && len(got) > 0 {
				t.Fatalf("complaints = %q, want none", got)
			}
			if tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Fatalf("complaints = %q, want one that says %q", got, tc.want)
			}
		})
	}
}

// goFiles lists the module's Go files, without test data and hidden directories.
func goFiles(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".") && path != root
		if d.IsDir() && (hidden || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !d.IsDir() {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if root == ".." && len(out) < 10 {
		t.Fatalf("found %d Go files below %s: the walk looks at the wrong place", len(out), root)
	}
	return out
}

// complaints returns what breaks a rule of CONTRIBUTING.md in one file, as "file:line: what". bubble says that the
// package's tests run in synctest bubbles, where sleeping is exact.
func complaints(fset *token.FileSet, f *ast.File, bubble bool) []string {
	c := &critic{fset: fset, test: strings.HasSuffix(fset.File(f.FileStart).Name(), "_test.go"), bubble: bubble}
	if slices.Contains(vagueNames, f.Name.Name) {
		c.add(f.Name.Pos(), "package %s says nothing: name it for what it is", f.Name.Name)
	}
	lines := fset.File(f.FileStart).LineCount()
	if !c.test && lines > maxFileLines {
		c.add(f.FileStart, "%d lines, the limit is %d: it holds more than one idea", lines, maxFileLines)
	}
	for _, decl := range f.Decls {
		c.decl(decl)
	}
	ast.Inspect(f, c.node)
	return c.found
}

// critic collects the complaints about one file.
type critic struct {
	fset   *token.FileSet
	test   bool // a _test.go file
	bubble bool // its package uses testing/synctest
	polls  []*ast.ForStmt
	found  []string
}

func (c *critic) add(pos token.Pos, format string, args ...any) {
	p := c.fset.Position(pos)
	c.found = append(c.found, fmt.Sprintf("%s:%d: %s", strings.TrimPrefix(p.Filename, "../"), p.Line, fmt.Sprintf(format, args...)))
}

// decl looks at the length and the documentation of a top-level declaration.
func (c *critic) decl(decl ast.Decl) {
	if c.test {
		return
	}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		n := c.fset.Position(d.End()).Line - c.fset.Position(d.Pos()).Line + 1
		if n > maxFuncLines {
			c.add(d.Pos(), "%s has %d lines, the limit is %d", d.Name.Name, n, maxFuncLines)
		}
		if d.Name.IsExported() && exportedReceiver(d.Recv) && d.Doc == nil {
			c.add(d.Pos(), "%s has no doc comment", d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			c.spec(d, spec)
		}
	}
}

// spec looks at the documentation of a type, constant or variable; one comment may serve a whole group.
func (c *critic) spec(d *ast.GenDecl, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
			c.add(s.Pos(), "%s has no doc comment", s.Name.Name)
		}
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				c.add(name.Pos(), "%s has no doc comment", name.Name)
			}
		}
	}
}

// node looks at the statements of a file, tests included.
func (c *critic) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		if checksErrorOnOneLine(n) {
			c.add(n.Pos(), "write the call and the check of err on two lines")
		}
	case *ast.ForStmt:
		c.polls = append(c.polls, n)
	case *ast.CallExpr:
		c.call(n)
	}
	return true
}

// call looks for tests that do not run and tests that wait for the wall clock.
func (c *critic) call(n *ast.CallExpr) {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || !c.test {
		return
	}
	on, ok := sel.X.(*ast.Ident)
	if !ok {
		return
	}
	what := on.Name + "." + sel.Sel.Name
	if slices.Contains([]string{"t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "tb.Skip"}, what) {
		c.add(n.Pos(), "%s: a test that cannot run here belongs behind a build tag, and make test says so", what)
	}
	polling := slices.ContainsFunc(c.polls, func(loop *ast.ForStmt) bool { return loop.Pos() < n.Pos() && n.End() < loop.End() })
	if what == "time.Sleep" && !c.bubble && !polling {
		c.add(n.Pos(), "the test sleeps: wait for the event itself, or move into a synctest bubble")
	}
}

// checksErrorOnOneLine matches "if err := f(); err != nil".
func checksErrorOnOneLine(n *ast.IfStmt) bool {
	init, ok := n.Init.(*ast.AssignStmt)
	if !ok {
		return false
	}
	cond, ok := n.Cond.(*ast.BinaryExpr)
	if !ok || cond.Op != token.NEQ || !isIdent(cond.X, "err") || !isIdent(cond.Y, "nil") {
		return false
	}
	return slices.ContainsFunc(init.Lhs, func(e ast.Expr) bool { return isIdent(e, "err") })
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// exportedReceiver tells whether a method belongs to an exported type; a function does.
func exportedReceiver(recv *ast.FieldList) bool {
	if recv == nil || len(recv.List) == 0 {
		return true
	}
	e := recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}
