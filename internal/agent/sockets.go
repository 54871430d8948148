package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The kernel's answer about sockets (sock_diag(7)): its type, and where its fields are.
const (
	sockDiagByFamily = 20
	inetDiagCgroupID = 21
	diagRequestSize  = 56 // struct inet_diag_req_v2
	diagAnswerSize   = 72 // struct inet_diag_msg
	diagSourceAt     = 8  // inet_diag_msg.id.idiag_src
	diagUserAt       = 64 // inet_diag_msg.idiag_uid
	tcpListenState   = 1 << 10
)

// socketOwner is what the kernel tells anybody about a listener: who it belongs to, not which process has it.
type socketOwner struct {
	uid    uint32
	cgroup uint64
}

// listenerOf says in words who has a port.
func listenerOf(l plan.Listen) string {
	const unknown = "another program on this host (\"ss -lntup\" shows it)"
	owner, err := ownerOf(l)
	if err != nil {
		return unknown
	}

	name := "user " + strconv.FormatUint(uint64(owner.uid), 10)
	u, err := user.LookupId(strconv.FormatUint(uint64(owner.uid), 10))
	if err == nil {
		name = "user " + u.Username
	}

	unit := unitOf("/sys/fs/cgroup", owner.cgroup)
	if unit == "" {
		return "a program of " + name + " (\"ss -lntup\" shows it)"
	}

	return unit + " (" + name + ")"
}

var errNoListener = errors.New("no such listener")

// ownerOf asks the kernel for the listener that is in the way of l.
func ownerOf(l plan.Listen) (socketOwner, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return socketOwner{}, fmt.Errorf("ask the kernel: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()

	// A listener of the other family may be in the way, too: one for :: takes IPv4 as well, unless it says not.
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		owner, ferr := askOwner(fd, family, l)
		if ferr == nil {
			return owner, nil
		}
	}

	return socketOwner{}, errNoListener
}

func askOwner(fd int, family byte, l plan.Listen) (socketOwner, error) {
	req := make([]byte, unix.NLMSG_HDRLEN+diagRequestSize)
	binary.NativeEndian.PutUint32(req, uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], tcpListenState)
	if l.Protocol == "udp" {
		body[1] = unix.IPPROTO_UDP
		binary.NativeEndian.PutUint32(body[4:], ^uint32(0))
	}

	binary.BigEndian.PutUint16(body[8:], l.Port)
	err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil {
		return socketOwner{}, fmt.Errorf("ask the kernel: %w", err)
	}

	found, ferr := socketOwner{}, errNoListener
	buf := make([]byte, 32<<10)
	for {
		n, _, rerr := unix.Recvfrom(fd, buf, 0)
		if rerr != nil {
			return socketOwner{}, fmt.Errorf("hear the kernel: %w", rerr)
		}

		msgs, perr := syscall.ParseNetlinkMessage(buf[:n])
		if perr != nil {
			return socketOwner{}, fmt.Errorf("read the kernel's answer: %w", perr)
		}

		for _, m := range msgs {
			if m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR {
				return found, ferr
			}

			owner, inTheWay := readOwner(m.Data, family, l)
			if inTheWay {
				found, ferr = owner, nil
			}
		}
	}
}

// readOwner reads one socket of the answer.
func readOwner(data []byte, family byte, l plan.Listen) (owner socketOwner, inTheWay bool) {
	if len(data) < diagAnswerSize || binary.BigEndian.Uint16(data[4:]) != l.Port {
		return owner, false
	}

	addr := netip.AddrFrom4([4]byte(data[diagSourceAt : diagSourceAt+4]))
	if family == unix.AF_INET6 {
		addr = netip.AddrFrom16([16]byte(data[diagSourceAt : diagSourceAt+16])).Unmap()
	}

	if addr != l.IP && !addr.IsUnspecified() && !l.IP.IsUnspecified() {
		return owner, false
	}

	owner.uid = binary.NativeEndian.Uint32(data[diagUserAt:])
	for rest := data[diagAnswerSize:]; len(rest) >= 4; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if size < 4 || size > len(rest) {
			break
		}

		if kind == inetDiagCgroupID && size >= 12 {
			owner.cgroup = binary.NativeEndian.Uint64(rest[4:])
		}

		rest = rest[min((size+3)&^3, len(rest)):]
	}

	return owner, true
}

// unitOf names the control group with an id, which is its directory's inode: a unit's name, or an instance's.
func unitOf(root string, id uint64) string {
	if id == 0 {
		return ""
	}

	path := ""
	_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // one that cannot be read is passed over
		}

		info, ierr := d.Info()
		if ierr != nil {
			return nil //nolint:nilerr // gone meanwhile
		}

		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && st.Ino == id {
			path = p
			return fs.SkipAll
		}

		return nil
	})
	rel := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
	for part := range strings.SplitSeq(rel, "/") {
		instance, payload := strings.CutPrefix(part, "lxc.payload.")
		switch {
		case payload:
			return "the instance " + instance
		case strings.HasSuffix(part, ".service"), strings.HasSuffix(part, ".scope"), strings.HasSuffix(part, ".socket"):
			return part
		}
	}

	return ""
}
