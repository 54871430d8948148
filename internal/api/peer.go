package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// overflowUID is how the kernel shows users of another user namespace (user_namespaces(7)).
const overflowUID = 65534

// peer is who is at the other end of a connection, as the kernel saw it when it was made. Its pid is of no use:
// by now it may be another process's.
type peer struct {
	uid uint32
	// gids are the primary and the supplementary groups.
	gids []uint32
}

// peerOf asks the kernel (SO_PEERCRED, and SO_PEERGROUPS of Linux 4.13).
func peerOf(c net.Conn) (peer, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}, errors.New("ask who is calling: not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("ask who is calling: %w", err)
	}
	var p peer
	var optErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if optErr != nil {
			return
		}
		p.uid = cred.Uid
		p.gids, optErr = peerGroups(fd)
		p.gids = append(p.gids, cred.Gid)
	})
	err = errors.Join(err, optErr)
	if err != nil {
		return peer{}, fmt.Errorf("ask who is calling: %w", err)
	}
	return p, nil
}

func peerGroups(fd uintptr) ([]uint32, error) {
	gids := make([]uint32, 64)
	for {
		size := uint32(4 * len(gids))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return gids[:size/4], nil
		case unix.ERANGE: // size says now how much it takes
			gids = make([]uint32, size/4+1)
		default:
			return nil, errno
		}
	}
}

// rules say who may change something.
type rules struct {
	// self is the agent's own user.
	self uint32
	// gids are the groups whose members may.
	gids []uint32
}

// rulesFor are those of a socket: its group's members, and those of Incus's, who are as mighty as root.
func rulesFor(path string) rules {
	r := rules{self: uint32(os.Geteuid())}
	fi, err := os.Stat(path)
	if err == nil {
		st, ok := fi.Sys().(*syscall.Stat_t)
		if ok {
			r.gids = append(r.gids, st.Gid)
		}
	}
	gid, ok := incusAdmin()
	if ok {
		r.gids = append(r.gids, gid)
	}
	return r
}

// incusAdmin is the group of Incus's socket, when the host has it.
func incusAdmin() (uint32, bool) {
	g, err := user.LookupGroup("incus-admin")
	if err != nil {
		return 0, false
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	return uint32(gid), err == nil
}

// known says whether a caller has a name here at all.
func (r rules) known(p peer) bool { return p.uid != overflowUID || p.uid == r.self }

// change says whether a caller may change something.
func (r rules) change(p peer) bool {
	if !r.known(p) {
		return false
	}
	return p.uid == 0 || p.uid == r.self || slices.ContainsFunc(p.gids, func(gid uint32) bool { return slices.Contains(r.gids, gid) })
}
