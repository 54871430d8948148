package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// trust says whose files are believed: whoever can write one can run anything as root on this host.
type trust struct {
	// any believes everybody, for files a user names on the command line.
	any bool
	// owners are the uids believed.
	owners []uint32
}

// trustIn returns the trust within a directory of that owner: root, the owner, and this process. Root is
// whoever owns "/", which in a user namespace may be nobody.
func trustIn(owner uint32) trust {
	t := trust{owners: []uint32{0, owner, uint32(os.Getuid())}}
	var st syscall.Stat_t
	err := syscall.Stat("/", &st)
	if err == nil {
		t.owners = append(t.owners, st.Uid)
	}
	return t
}

// judge returns why a file or directory with these owner and mode is not believed; nil when it is.
func (t trust) judge(path string, st *syscall.Stat_t) *Problem {
	who := fmt.Sprintf("(owner uid %d, mode %04o)", st.Uid, st.Mode&0o7777)
	switch {
	case t.any:
		return nil
	case st.Mode&0o022 != 0:
		return &Problem{Path: path, Condition: Untrusted, Text: "can be written by others than its owner " + who +
			", who could so run anything on this host: chmod go-w " + show(path)}
	case !slices.Contains(t.owners, st.Uid):
		return &Problem{Path: path, Condition: Untrusted, Text: "belongs to somebody else than root or the owner of the stack directory " + who +
			", who could so run anything on this host: chown root " + show(path)}
	}
	return nil
}

// chain judges the directories above dir, by name and, where dir is reached over a link, by where it really
// is. A sticky directory that others can write is believed where what it holds belongs to somebody believed:
// nobody else can move that away.
func (t trust) chain(dir string) *Problem {
	paths := []string{dir}
	resolved, err := filepath.EvalSymlinks(dir)
	if err == nil && resolved != dir {
		paths = append(paths, resolved)
	}
	for _, child := range paths {
		for child != "/" && child != "." {
			bad := t.link(filepath.Dir(child), child)
			if bad != nil {
				return bad
			}
			child = filepath.Dir(child)
		}
	}
	return nil
}

// link judges a directory as the parent of a child.
func (t trust) link(parent, child string) *Problem {
	var up, down syscall.Stat_t
	err := syscall.Stat(parent, &up)
	if err != nil {
		return &Problem{Path: parent, Condition: SourceUnavailable, Text: "cannot be examined (" + err.Error() + ")"}
	}
	err = syscall.Lstat(child, &down)
	if err != nil {
		return &Problem{Path: child, Condition: SourceUnavailable, Text: "cannot be examined (" + err.Error() + ")"}
	}
	if up.Mode&syscall.S_ISVTX != 0 && slices.Contains(t.owners, down.Uid) {
		up.Mode &^= 0o022
	}
	return t.judge(parent, &up)
}
