package compose

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	maxName    = 63 // of an Incus instance or volume
	maxNetwork = 13 // of a bridge: two less than the kernel allows, as lxc/incus-compose does it
)

// Slug turns a name into what Incus accepts in the names of projects and instances, as lxc/incus-compose does:
// lower case, accents folded, a hyphen for each underscore and for each run of other characters, none at the
// ends. A slug of more than 63
// characters, or of none, becomes 32 hex digits of the name's sha256.
func Slug(name string) string { return slug(name, maxName) }

// ProjectName is the Incus project of a compose project.
func ProjectName(name string) string { return Slug(name) }

// InstanceName is the n-th instance of a service without container_name, from 1: "web-1".
func InstanceName(service string, n int) string {
	return plan.InstanceName(plan.Service{Name: service}, n)
}

// VolumeName is the custom volume of a compose volume: "vol-" and the slug of its key.
func VolumeName(key string) string { return "vol-" + slug(key, maxName-len("vol-")) }

// NetworkName is the bridge of a compose network: "<project>-<network>" up to 13 characters, else "ic-" and
// ten characters of base32(sha256) of that.
func NetworkName(project, network string) string { return bridgeName(project + "-" + network) }

// bridgeName shortens a name so that it fits a bridge; it is also the rule for the user's own names.
func bridgeName(name string) string {
	name = strings.ReplaceAll(name, "_", "-")
	if len(name) <= maxNetwork {
		return name
	}

	sum := sha256.Sum256([]byte(name))
	enc := base32.StdEncoding.WithPadding(base32.NoPadding)

	return "ic-" + strings.ToLower(enc.EncodeToString(sum[:]))[:10]
}

func slug(name string, most int) string {
	var b strings.Builder
	hyphen := false // one is due for what was left out
	for _, r := range norm.NFKD.String(strings.ToLower(name)) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			if hyphen {
				b.WriteByte('-')
			}

			b.WriteRune(r)
			hyphen = false
		case !unicode.Is(unicode.Mn, r):
			hyphen = true
		}
	}

	s := strings.ReplaceAll(strings.Trim(b.String(), "-_"), "_", "-")
	if s != "" && len(s) <= most {
		return s
	}

	sum := sha256.Sum256([]byte(name))

	return hex.EncodeToString(sum[:16])
}

// nearest returns the word of the list that somebody who typed name most likely meant, or nothing.
func nearest(name string, words []string) string {
	if len(name) > maxName {
		return ""
	}

	best, least := "", min(3, (len(name)+1)/2)+1
	for _, w := range words {
		d := distance(name, w)
		if d < least || d == least && best != "" && w < best {
			best, least = w, d
		}
	}

	return best
}

// distance is the optimal string alignment distance: insertions, deletions, substitutions and swaps of
// neighbours cost one each.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}

	for j := range rows[0] {
		rows[0][j] = j
	}

	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}

			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}

			rows[i][j] = d
		}
	}

	return rows[len(a)][len(b)]
}
