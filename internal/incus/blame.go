package incus

import (
	"regexp"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// blames are the words with which Incus and liblxc name what they do not accept; prefix goes before what they quote.
var blames = []struct {
	words  *regexp.Regexp
	prefix string
	device bool
}{
	{regexp.MustCompile(`Unknown configuration key: ([^\s"]+)`), "", false},
	{regexp.MustCompile(`sysctl parameters ([^\s"]+) to`), "linux.sysctl.", false},
	{regexp.MustCompile(`Failed to set limit ([a-z]+)`), "limits.kernel.", false},
	{regexp.MustCompile(`(?i)device(?: validation failed for)? "([^"]+)"`), "", true},
}

// Blame finds out which config key or device of an instance a failed step failed for, as far as the error's words
// tell: config and devices are what was asked for. Both results are empty when the words name neither.
func Blame(err error, config map[string]string, devices map[string]plan.Device) (key, device string) {
	text := err.Error()
	for _, b := range blames {
		m := b.words.FindStringSubmatch(text)
		if m == nil {
			continue
		}

		_, isDevice := devices[m[1]]
		_, isKey := config[b.prefix+m[1]]
		switch {
		case b.device && isDevice:
			return "", m[1]
		case !b.device && isKey:
			return b.prefix + m[1], ""
		}
	}

	return namedOrQuoted(text, config), ""
}

// namedOrQuoted finds the key whose name occurs in a text, else the only one whose value ends it: Incus often says
// no more than "Invalid value: lots".
func namedOrQuoted(text string, config map[string]string) string {
	var named, quoted []string
	for k, v := range config {
		if strings.HasPrefix(k, "user.") || strings.HasPrefix(k, "environment.") {
			continue // Anything goes there, and the values are nobody's business.
		}

		if strings.Contains(text, k) {
			named = append(named, k)
		}

		if v != "" && (strings.HasSuffix(text, ": "+v) || strings.Contains(text, `"`+v+`"`)) {
			quoted = append(quoted, k)
		}
	}

	if len(named) > 0 {
		return slices.MaxFunc(named, func(a, b string) int { return len(a) - len(b) })
	}

	if len(quoted) == 1 {
		return quoted[0]
	}

	return ""
}
