package health

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The behaviours the health daemon must have are numbered: H01 to H42, and X1 to X10 for what others do not have. X7 (the
// verdict feeds DNS within one process) is none of ours: the two daemons meet in Incus. Each is named by a test, those
// that only a real Incus can show by one in test/e2e or bench.
func TestEveryRowHasItsTest(t *testing.T) {
	named := map[string][]string{}
	for _, dir := range []string{"internal/health", "internal/healthd", "test/e2e", "bench"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, "_test.go") {
				err = collectRows(path, dir, named)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	rows := []string{"X1", "X2", "X3", "X4", "X5", "X6", "X8", "X9", "X10"}
	for n := range 42 {
		rows = append(rows, fmt.Sprintf("H%02d", n+1))
	}
	for _, row := range rows {
		if len(named[row]) == 0 {
			t.Errorf("no test is named by %s", row)
		}
	}
	for _, row := range []string{"H03", "H09", "H10", "H11", "H18", "H20", "H26", "H35", "H38", "X1", "X2", "X3", "X4"} {
		if !slices.Contains(named[row], "test/e2e") && !slices.Contains(named[row], "bench") {
			t.Errorf("%s is not shown on a real Incus", row)
		}
	}
	for row := range named {
		if !slices.Contains(rows, row) {
			t.Errorf("a test is named by %s, which is no row", row)
		}
	}
}

var (
	aTest = regexp.MustCompile(`(?m)^func Test((?:[HX]\d+)+)[A-Z]`)
	aRow  = regexp.MustCompile(`[HX]\d+`)
)

// collectRows notes the rows that the tests of a file are named by.
func collectRows(path, dir string, into map[string][]string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, found := range aTest.FindAllStringSubmatch(string(b), -1) {
		for _, row := range aRow.FindAllString(found[1], -1) {
			into[row] = append(into[row], dir)
		}
	}
	return nil
}
