package compose

import (
	"os"
	"path/filepath"
	"testing"
)

// A stack that has a directory may mount what lies below it, but for its compose files; a flat file may not mount what
// lies beside it among the stacks.
func TestStackMountsItsOwnDirectory(t *testing.T) {
	for _, c := range []struct {
		stack, source string
		want          bool
	}{
		{"blog", "./data", true},
		{"blog", "./prometheus.yml", true},
		{"blog", "./included", false},
		{"blog", ".", false},
		{"blog", "./blog.d", false},
		{"blog", "./compose.yaml", false},
		{"blog", "../other", false},
		{"other", "./data", false},
	} {
		dir := filepath.Join(t.TempDir(), "etc", "incus-compose.d", "blog")
		err := os.MkdirAll(dir, 0o755)
		if err != nil {
			t.Fatal(err)
		}

		read := &index{sources: []*source{{path: filepath.Join(dir, "compose.yaml")}, {path: filepath.Join(dir, "included", "db.yaml")}}}
		p := police{service: &service{t: &translation{in: Input{Stack: c.stack, Dir: dir}, index: read}}}
		got := p.own(filepath.Join(dir, c.source))
		if got != c.want {
			t.Errorf("%s of the stack %s: %t", c.source, c.stack, got)
		}
	}
}
