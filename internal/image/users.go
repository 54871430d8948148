package image

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// number parses an id.
func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// parsePasswd reads passwd(5). Lines that are none are passed over, and the first line of a name counts, as
// in getpwnam(3).
func parsePasswd(data []byte) map[string]plan.UserEntry {
	users := map[string]plan.UserEntry{}
	eachLine(data, func(f []string) {
		if len(f) < 4 {
			return
		}
		uid, ok := number(f[2])
		gid, ok2 := number(f[3])
		_, again := users[f[0]]
		if ok && ok2 && !again {
			users[f[0]] = plan.UserEntry{UID: uid, GID: gid}
		}
	})
	return users
}

// parseGroup reads group(5), like parsePasswd.
func parseGroup(data []byte) map[string]uint32 {
	groups := map[string]uint32{}
	eachLine(data, func(f []string) {
		if len(f) < 3 {
			return
		}
		gid, ok := number(f[2])
		_, again := groups[f[0]]
		if ok && !again {
			groups[f[0]] = gid
		}
	})
	return groups
}

// eachLine calls f with the fields of every line that has a name.
func eachLine(data []byte, f func(fields []string)) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxTable+1)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ":") {
			continue
		}
		f(strings.Split(line, ":"))
	}
}
