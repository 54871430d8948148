package build

import (
	"path"
	"regexp"
	"strings"
)

// ignore is a .dockerignore file: what of a context the builder does not see.
type ignore []rule

type rule struct {
	match   *regexp.Regexp
	include bool // "!pattern"
}

// parseIgnore reads a .dockerignore: a pattern a line, "#" comments, "!" exceptions, "**" any directories. The last
// rule that matches a path, or a directory above it, decides.
func parseIgnore(content string) ignore {
	var out ignore
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}

		pattern, include := strings.CutPrefix(line, "!")
		pattern = strings.TrimPrefix(path.Clean("/"+strings.TrimSpace(pattern)), "/")
		if pattern == "" {
			continue
		}

		re, err := regexp.Compile(expression(pattern))
		if err == nil { // else a bad pattern, which matches nothing
			out = append(out, rule{re, include})
		}
	}

	return out
}

// expression writes a pattern as a regular expression that also matches what is below.
func expression(pattern string) string {
	var b strings.Builder
	b.WriteString("^")
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case strings.HasPrefix(pattern[i:], "**/"):
			b.WriteString("(.*/)?")
			i += 2
		case strings.HasPrefix(pattern[i:], "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[' || c == ']':
			b.WriteByte(c)
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}

	return b.String() + "(/.*)?$"
}

// hides tells whether the builder does not see a path.
func (g ignore) hides(name string) bool {
	hidden := false
	for _, r := range g {
		if r.include == hidden && r.match.MatchString(name) {
			hidden = !r.include
		}
	}

	return hidden
}

// excepts tells whether something below a hidden directory might be seen all the same.
func (g ignore) excepts() bool {
	for _, r := range g {
		if r.include {
			return true
		}
	}

	return false
}
