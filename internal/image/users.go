package image

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// ResolveUser turns a user ("uid", "uid:gid", "name", "name:group"; empty means the image's USER) into
// numbers, by the image's tables. The group of a lone name is that of its passwd line; so is that of a lone
// uid where the tables were read, else it is 0. The error is ErrUser: an unknown name, or a name while the
// tables were not read.
//
// This is Docker's rule, but for supplementary groups.
func ResolveUser(user string, img plan.Image) (uid, gid uint32, err error) {
	if user == "" || (user == img.User && img.Users == nil) {
		return img.UID, img.GID, nil
	}
	return resolveUser(user, img)
}

func resolveUser(user string, img plan.Image) (uid, gid uint32, err error) {
	name, group, _ := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	uid, gid, err = resolveName(name, img)
	if err != nil || group == "" {
		return uid, gid, err
	}
	gid, err = resolveGroup(group, img)
	return uid, gid, err
}

func resolveName(name string, img plan.Image) (uid, gid uint32, err error) {
	entry, ok := img.Users[name]
	if ok {
		return entry.UID, entry.GID, nil
	}
	uid, ok = number(name)
	if ok {
		return uid, groupOf(uid, img.Users), nil
	}
	if img.Users == nil {
		return 0, 0, fmt.Errorf("%w: user %q: the passwd file of %s was not read", ErrUser, name, img.Ref)
	}
	return 0, 0, fmt.Errorf("%w: the passwd file of %s has no user %q: write a user it has, or a number", ErrUser, img.Ref, name)
}

func resolveGroup(group string, img plan.Image) (uint32, error) {
	gid, ok := img.Groups[group]
	if ok {
		return gid, nil
	}
	gid, ok = number(group)
	if ok {
		return gid, nil
	}
	if img.Groups == nil {
		return 0, fmt.Errorf("%w: group %q: the group file of %s was not read", ErrUser, group, img.Ref)
	}
	return 0, fmt.Errorf("%w: the group file of %s has no group %q: write a group it has, or a number", ErrUser, img.Ref, group)
}

// groupOf is the group of the user with the uid: of several, that whose name sorts first, so that the answer
// is the same every time.
func groupOf(uid uint32, users map[string]plan.UserEntry) uint32 {
	first, gid := "", uint32(0)
	for name, e := range users {
		if e.UID == uid && (first == "" || name < first) {
			first, gid = name, e.GID
		}
	}
	return gid
}

// number parses an id; Linux ids that Docker accepts end at 2³¹-1.
func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil && n <= math.MaxInt32
}

// named tells whether a user or group is written by name, so that the tables are needed.
func named(user string) bool {
	name, group, _ := strings.Cut(user, ":")
	_, uid := number(name)
	_, gid := number(group)
	return (name != "" && !uid) || (group != "" && !gid)
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
