package agent

import (
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// mountTable is what is mounted here. The agent's sandbox has what the host has, and some mounts of its own.
const mountTable = "/proc/self/mountinfo"

// mountPoint is a line of the table: where something is mounted, what, and by which file system.
type mountPoint struct{ at, kind, device string }

// mountPoints reads a table (proc_pid_mountinfo(5)); what it does not understand is left out.
func mountPoints(table string) []mountPoint {
	var out []mountPoint
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		i := slices.Index(fields, "-")
		if i < 5 || len(fields) < i+3 || fields[3] != "/" {
			continue // fields[3] is not "/": a part of what is mounted elsewhere
		}

		out = append(out, mountPoint{at: unescaped(fields[4]), kind: fields[i+1], device: unescaped(fields[i+2])})
	}

	return out
}

// unescaped reads the octal escapes of a table: of blanks and backslashes.
func unescaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		n, err := strconv.ParseUint(s[min(i+1, len(s)):min(i+4, len(s))], 8, 8)
		if s[i] == '\\' && err == nil {
			b.WriteByte(byte(n))
			i += 3
			continue
		}

		b.WriteByte(s[i])
	}

	return b.String()
}

// ours are the trees where the agent's sandbox has mounts that the host has not, and those that are none of a stack's.
var ours = strings.Fields("/dev /proc /sys /run /tmp /var/tmp /var/lib/ic-agent /var/lib/incus")

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// branches tells whether the host has something mounted below a directory.
func branches(table []mountPoint, dir string) bool {
	return slices.ContainsFunc(table, func(m mountPoint) bool {
		return m.at != dir && within(m.at, dir) && !slices.ContainsFunc(ours, func(tree string) bool { return within(m.at, tree) })
	})
}

// shareAt is where the host has mounted a share; "" for nowhere. What the policy keeps from stacks is no such place:
// whoever mounts a home directory over the network did not mean to give it to services.
func shareAt(table []mountPoint, share plan.Share) string {
	for _, m := range table {
		kind := share.Type == m.kind || strings.HasPrefix(share.Type, "nfs") && (m.kind == "nfs" || m.kind == "nfs4")
		if kind && strings.TrimRight(m.device, "/") == share.Device && !compose.OfTheHost(path.Clean(m.at)) {
			return m.at
		}
	}

	return ""
}

// table reads mountTable. One that cannot be read has nothing in it.
func table() []mountPoint {
	text, err := os.ReadFile(mountTable)
	if err != nil {
		return nil
	}

	return mountPoints(string(text))
}

func shareOf(share plan.Share) string { return shareAt(table(), share) }
