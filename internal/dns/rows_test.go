package dns

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rows are what the server must do: D is due to clients and users, B is what other servers do not have. Tests name
// their row: TestD22Malformed, or a case "D22 two questions".
var rows = []struct{ id, is string }{
	{"D01", "a service's name: all running replicas on the network"},
	{"D02", "instance, alias and container name; any case"},
	{"D03", "bare names; unknown ones are never forwarded"},
	{"D04", "no wildcards"},
	{"D05", "names by network"},
	{"D06", "the client subnet option (RFC 7871) is believed of named relays alone"},
	{"D07", "unknown and doubtful sources are refused"},
	{"D08", "another type of a known name: no data, SOA, nothing upstream"},
	{"D09", "unknown names: NXDOMAIN; names above known ones: no data"},
	{"D10", "SOA and NS at the apex, a serial that only grows"},
	{"D11", "PTR of both families; private reverse names stay here"},
	{"D12", "lifetimes"},
	{"D13", "rotation"},
	{"D14", "SRV with addresses"},
	{"D15", "a change is answered at once"},
	{"D16", "what stopped is gone; a known service without instances: no data"},
	{"D17", "one OPT for an OPT"},
	{"D18", "EDNS version 1: BADVERS"},
	{"D19", "sizes and truncation over UDP"},
	{"D20", "TCP: long answers, many connections, garbage"},
	{"D21", "the battery of RFC 8906"},
	{"D22", "malformed messages"},
	{"D23", "classes, ANY, transfers, other opcodes"},
	{"D24", "the question's bytes come back as they were"},
	{"D25", "flags"},
	{"D26", "forwarding, and answers that are hard to forge"},
	{"D27", "failover between name servers"},
	{"D28", "local names without the outside"},
	{"D29", "truncated answers from upstream"},
	{"D30", "the cache: lifetimes, bounds, apart for each network"},
	{"D31", "stale answers when nobody gives new ones"},
	{"D32", "the same question goes out once"},
	{"D33", "an internal network cannot leak"},
	{"D34", "loops are found and left"},
	{"D35", "private addresses from outside are kept out when asked for"},
	{"D36", "special names"},
	{"D37", "strangers: no open resolver"},
	{"D38", "limits for one client"},
	{"D39", "reload and restart lose nothing"},
	{"D40", "Incus away changes no answer"},
	{"D41", "the host finds the names"},
	{"D42", "networks of others are left as they are"},
	{"D43", "the stub resolvers of this world"},
	{"D44", "throughput"},
	{"D45", "latency, also in hard times"},
	{"D46", "allocations, memory, the cost of a change"},
	{"D47", "counters, histogram, query log"},
	{"B1", "answers by health"},
	{"B2", "who is about to stop leaves first"},
	{"B3", "views that cannot be spoofed"},
	{"B4", "leases and neighbours without polling"},
	{"B5", "cookies and reasons"},
	{"B6", "the fast path says the same"},
	{"B7", "nothing is lost over an upgrade"},
	{"B8", "the client's own network first"},
	{"B9", "_why"},
	{"B10", "an empty list from Incus is not believed"},
	{"B11", "declared names without instances: no data"},
}

var rowID = regexp.MustCompile(`^[DB][0-9]+$`)

// TestEveryRowHasItsTest goes through the tests of the whole tree; -v shows the table.
func TestEveryRowHasItsTest(t *testing.T) {
	tests := map[string][]string{}
	for _, tree := range []string{"..", "../../bench", "../../test/e2e"} {
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || path == "../dns/rows_test.go" {
				return err
			}

			return namedRows(path, tests)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range rows {
		if len(tests[r.id]) == 0 {
			t.Errorf("no test names %s: %s", r.id, r.is)
		}
		t.Logf("%-3s %s: %s", r.id, r.is, strings.Join(tests[r.id], ", "))
	}
}

// namedRows notes what of a file names rows: functions, and cases, which are strings that begin with one.
func namedRows(path string, tests map[string][]string) error {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	note := func(row, test string) {
		if !slices.Contains(tests[row], test) {
			tests[row] = append(tests[row], test)
		}
	}
	for _, decl := range f.Decls {
		in, isFunc := decl.(*ast.FuncDecl)
		where := filepath.Base(path)
		if isFunc {
			where = in.Name.Name
			for _, kind := range []string{"Test", "Benchmark", "Fuzz"} {
				rest, ok := strings.CutPrefix(where, kind)
				id := regexp.MustCompile(`^[DB][0-9]+`).FindString(rest)
				if ok && id != "" {
					note(id, where)
				}
			}
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			for word := range strings.FieldsSeq(strings.Trim(lit.Value, "\"`")) {
				if !rowID.MatchString(strings.TrimSuffix(word, ",")) {
					break
				}
				note(strings.TrimSuffix(word, ","), where)
			}
			return true
		})
	}
	return nil
}
