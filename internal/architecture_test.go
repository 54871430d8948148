// Package internal_test holds the module to its architecture: who may import whom, which library is known
// where, how long a file may grow. ARCHITECTURE.md gives the reasoning; a failure here prints the reason.
package internal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/incus-compose/ic-agent/"

// pkg is what "go list" says about a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// ownImports says which packages of this module a package may import, by path below the module. A package
// without a row is refused: adding one is a decision that belongs into ARCHITECTURE.md.
var ownImports = map[string]struct {
	may []string
	why string
}{
	"internal/plan":            {nil, "a core: the planner is pure because it can reach nothing"},
	"internal/calendar":        {nil, "a core: the clock is its caller's"},
	"internal/compose":         {[]string{"internal/plan", "internal/calendar"}, "an adapter knows the nouns and its own outside world"},
	"internal/build":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/image":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/incus":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/state":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/files":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/watch":           {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/dns":             {[]string{"internal/plan"}, "an adapter knows the nouns and its own outside world"},
	"internal/health":          {[]string{"internal/plan"}, "the machine is a core, and its runner sees Incus through its own interface"},
	"internal/healthd":         {[]string{"internal/plan", "internal/health", "internal/incus", "internal/journal"}, "the composition root of the health daemon wires the runner to Incus"},
	"internal/image/imagetest": {[]string{"internal/plan"}, "the registry in memory stands beside the client it serves"},
	"internal/incus/incustest": {[]string{"internal/plan", "internal/incus"}, "the fake Incus stands beside the client it serves"},
	"internal/incus/incustest/conformance": {
		[]string{"internal/plan", "internal/incus", "internal/incus/incustest"},
		"what the client promises, as tests for the fake and for a real server",
	},
	"internal/apply": {[]string{"internal/plan", "internal/calendar"}, "the loop sees Incus, the ledger and the loader through its own interfaces"},
	"internal/api":   {[]string{"internal/plan"}, "the API speaks in nouns; the daemon hands it functions"},
	"internal/cli": {
		[]string{"internal/plan", "internal/api", "internal/buffer", "internal/build", "internal/compose", "internal/hostdir", "internal/state", "internal/watch"},
		"verbs are clients of the API; only check, and the agent's children parse, dbcheck, mkdir, buffer and build, touch files themselves",
	},
	"internal/errand":  {nil, "it carries a message and an answer, and knows no nouns"},
	"internal/buffer":  {[]string{"internal/errand"}, "it enlarges sockets, and knows no nouns"},
	"internal/journal": {nil, "it writes text, and knows no nouns"},
	"internal/hostdir": {[]string{"internal/errand"}, "it makes directories, and knows no nouns"},
	"internal/publish": {nil, "it carries bytes, and knows no nouns"},
	"internal/agent": {[]string{
		"internal/plan", "internal/api", "internal/apply", "internal/buffer", "internal/build", "internal/compose", "internal/dns", "internal/files", "internal/health",
		"internal/hostdir", "internal/image", "internal/image/imagetest", "internal/incus", "internal/incus/incustest", "internal/publish",
		"internal/state", "internal/watch",
	}, "the composition root wires everything but the command line"},
	"cmd/ic-agent": {
		[]string{"internal/agent", "internal/cli", "internal/compose", "internal/journal", "internal/state"},
		"a command turns flags into a config and calls Run, or is one of the children that parse and check",
	},
	"cmd/ic-healthd": {
		[]string{"internal/healthd"},
		"a command turns flags into a config and calls Run",
	},
	"cmd/ic-launch": {
		[]string{"internal/plan"},
		"it runs in instances, and is small: it reads one file and becomes the program",
	},
}

// onlyHere says which packages may import a library, so that replacing it is the work of one package.
var onlyHere = []struct {
	library string
	may     []string
	why     string
}{
	{"github.com/compose-spec/compose-go", []string{"internal/compose"}, "compose files become plan.Project in one place"},
	{"github.com/lxc/incus", []string{"internal/incus", "internal/incus/incustest", "internal/incus/incustest/conformance"}, "the client's traps are known in one place"},
	{"go.etcd.io/bbolt", []string{"internal/state"}, "one process, one owner of the ledger"},
	{"github.com/google/go-containerregistry", []string{"internal/image", "internal/image/imagetest"}, "references and digests are resolved in one place"},
	{"github.com/miekg/dns", []string{"internal/dns"}, "the library is frozen upstream: keep it replaceable"},
	{"github.com/fsnotify/fsnotify", []string{"internal/watch"}, "events are hints, and only watch knows how deaf they are"},
	{"github.com/spf13/cobra", []string{"internal/cli"}, "the command line is one package"},
	{"github.com/coreos/go-systemd", []string{"internal/agent", "internal/healthd", "internal/journal"}, "only a daemon talks to systemd"},
	{"testing", []string{"internal/incus/incustest/conformance"}, "test helpers stay out of the binaries"},
	{"github.com/stretchr/testify", nil, "tests use testing and go-cmp"},
}

// impure lists what a core must not import: with these it could look at the world.
var impure = []string{
	"context", "crypto/rand", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
	"os", "os/exec", "os/signal", "sync", "sync/atomic", "syscall",
}

// cores are the packages that decide without looking.
var cores = []string{"internal/plan", "internal/calendar"}

func TestImportsFollowTheArchitecture(t *testing.T) {
	pkgs := listPackages(t)
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"internal/plan" }) {
		t.Fatalf("internal/plan is not among the %d packages listed: nothing was checked", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	own := func(s string) string { return module + s }
	for _, tc := range []struct {
		name string
		pkg  pkg
		want string // part of the one violation; empty: none
	}{
		{"a core imports the standard library", pkg{own("internal/plan"), []string{"slices", "net/netip"}, false}, ""},
		{"a core does I/O", pkg{own("internal/plan"), []string{"os"}, false}, "internal/plan imports os"},
		{"a core imports an adapter", pkg{own("internal/plan"), []string{own("internal/state")}, false}, "internal/plan imports internal/state"},
		{"an adapter imports the nouns", pkg{own("internal/watch"), []string{own("internal/plan"), "os"}, false}, ""},
		{"an adapter imports an adapter", pkg{own("internal/watch"), []string{own("internal/state")}, false}, "internal/watch imports internal/state"},
		{"the loop imports Incus", pkg{own("internal/apply"), []string{own("internal/incus")}, false}, "internal/apply imports internal/incus"},
		{"somebody imports the agent", pkg{own("internal/cli"), []string{own("internal/agent")}, false}, "internal/cli imports internal/agent"},
		{"a library at its place", pkg{own("internal/dns"), []string{"github.com/miekg/dns"}, false}, ""},
		{"a library elsewhere", pkg{own("internal/agent"), []string{"github.com/miekg/dns"}, false}, "internal/agent imports github.com/miekg/dns"},
		{"a later major version elsewhere", pkg{own("internal/agent"), []string{"github.com/lxc/incus/v7/client"}, false}, "internal/agent imports github.com/lxc/incus/v7/client"},
		{"a name that only begins alike", pkg{own("internal/agent"), []string{"github.com/miekg/dnsutils"}, false}, ""},
		{"a test library in a binary", pkg{own("internal/agent"), []string{"testing"}, false}, "internal/agent imports testing"},
		{"a package without a row", pkg{own("internal/misc"), nil, false}, "internal/misc has no row"},
		{"a command without a row", pkg{own("cmd/trial"), []string{own("internal/agent")}, false}, "cmd/trial has no row"},
		{"scenarios import anything but the agent", pkg{own("test/e2e"), []string{own("internal/incus"), own("internal/agent")}, false}, "test/e2e imports internal/agent"},
		{"other people's packages", pkg{"github.com/other/thing", []string{"os", "github.com/miekg/dns"}, false}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := violations([]pkg{tc.pkg})
			if tc.want == "" && len(got) > 0 {
				t.Fatalf("refused: %q", got)
			}
			if tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Fatalf("violations = %q, want one that says %q", got, tc.want)
			}
		})
	}
}

// violations returns one sentence for each forbidden import, with its reason.
func violations(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		_, known := ownImports[name]
		if production(name) && !known {
			out = append(out, fmt.Sprintf("%s has no row in ownImports: say who it may import, there and in ARCHITECTURE.md", name))
		}
		for _, imp := range p.Imports {
			why := forbidden(name, imp)
			if why != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", name, strings.TrimPrefix(imp, module), why))
			}
		}
	}
	return out
}

// forbidden returns why the package may not import imp, or nothing when it may.
func forbidden(name, imp string) string {
	own, ours := strings.CutPrefix(imp, module)
	if ours {
		return forbiddenOwn(name, own)
	}
	if slices.Contains(cores, name) && slices.Contains(impure, imp) {
		return "a core decides, it does not look: no I/O, clock, logger, randomness or lock"
	}
	for _, rule := range onlyHere {
		if production(name) && within(imp, rule.library) && !slices.Contains(rule.may, name) {
			return fmt.Sprintf("%s (only %s may)", rule.why, strings.Join(append(rule.may, "tests"), ", "))
		}
	}
	return ""
}

// forbiddenOwn is forbidden for an import of this module.
func forbiddenOwn(name, own string) string {
	rule, known := ownImports[name]
	if known && !slices.Contains(rule.may, own) {
		return rule.why
	}
	if !production(name) && (own == "internal/agent" || own == "internal/cli") {
		return "only cmd imports it: everything else uses the binary or the API"
	}
	return ""
}

// production tells whether the package is part of the programs; the others are scenarios and benchmarks.
func production(name string) bool {
	return strings.HasPrefix(name, "internal/") || strings.HasPrefix(name, "cmd/")
}

// within tells whether the import path is the module or a package of it, whatever its major version.
func within(path, library string) bool {
	return path == library || strings.HasPrefix(path, library+"/")
}

// listPackages asks the go command for all packages of the module and what they depend on.
func listPackages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports,Standard", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(stdout)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("read the output of go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}
