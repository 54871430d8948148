package plan

import "strings"

// liveKeys are the instance keys whose change reaches a running instance, by name or by prefix; Incus's
// metadata (Server.Restart) has the last word where it is known.
var liveKeys = []string{
	"user.", "boot.", "limits.cpu", "limits.memory", "limits.processes", "limits.hugepages", "limits.disk.priority",
	"security.protection.", "cluster.", "snapshots.", "migration.", "systemd.credential",
}

// bootKey reports whether a change of key reaches the app only at its next start. environment.* keys are live
// for Incus, but a process keeps the environment it was born with.
func bootKey(key string, restart map[string]bool) bool {
	if strings.HasPrefix(key, "environment.") || key == KeyPostStart {
		return true
	}

	for _, live := range liveKeys {
		if strings.HasPrefix(key, live) {
			return false
		}
	}

	needs, known := lookup(key, restart)

	return !known || needs
}

// lookup finds key in Incus's metadata: the exact name, else the longest prefix.
func lookup(key string, restart map[string]bool) (needs, known bool) {
	needs, known = restart[key]
	if known {
		return needs, true
	}

	best := -1
	for pattern, n := range restart {
		prefix := strings.TrimSuffix(pattern, "*")
		if prefix == pattern && !strings.HasSuffix(pattern, ".") {
			continue
		}

		if strings.HasPrefix(key, prefix) && len(prefix) > best {
			best, needs, known = len(prefix), n, true
		}
	}

	return needs, known
}

// bootDevice reports whether the change from have to want (nil: absent) needs a restart, by the hot-plug
// matrix measured on Incus 7.0.2: a NIC that is added or changed stays without its address until the next
// start, a tmpfs cannot be added to a running instance, the root filesystem is mounted once; the rest is live.
func bootDevice(have, want Device) bool {
	if want == nil {
		return isTmpfs(have)
	}

	if want["path"] == "/" && have["readonly"] != want["readonly"] {
		return true
	}

	return want["type"] == "nic" || isTmpfs(want) || have != nil && isTmpfs(have)
}

func isTmpfs(d Device) bool {
	return d["type"] == "disk" && strings.HasPrefix(d["source"], "tmpfs")
}
