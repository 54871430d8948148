package healthd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/health"
)

// The process connector (linux/cn_proc.h, linux/connector.h): the kernel tells whoever listens how each process ends. Since
// Linux 6.6 anybody may, in the initial namespaces of users and processes; before, it takes a capability that we do not
// have. A message is a netlink header, a connector header, and an event.
const (
	connectorID   = 1 // CN_IDX_PROC and CN_VAL_PROC
	connectorOn   = 1 // PROC_CN_MCAST_LISTEN
	connectorExit = 0x80000000
	netlinkHeader = 16
	cnHeader      = 20
	procHeader    = 16 // what, processor, time
	// connectorPatience is how long the kernel may take to tell something; where it does not tell it says nothing.
	connectorPatience = time.Second
)

// descriptorsTell tells whether this kernel tells exit codes by descriptors of processes.
func descriptorsTell() bool {
	var u unix.Utsname
	err := unix.Uname(&u)
	if err != nil {
		return false
	}

	var major, minor int
	_, err = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)

	return err == nil && (major > 6 || major == 6 && minor >= 15)
}

// connect begins to listen to the process connector. The error says that the kernel does not tell.
func (x *exits) connect() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return fmt.Errorf("open the process connector: %w", err)
	}

	err = subscribe(fd)
	if err == nil {
		err = unix.EpollCtl(x.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}

	if err != nil {
		return errors.Join(fmt.Errorf("listen to the process connector: %w", err), unix.Close(fd))
	}

	x.connector = fd

	return nil
}

func subscribe(fd int) error {
	err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: connectorID})
	if err != nil {
		return err
	}

	const size = netlinkHeader + cnHeader + 8
	msg := make([]byte, size)
	put := binary.NativeEndian.PutUint32
	put(msg, size)
	binary.NativeEndian.PutUint16(msg[4:], unix.NLMSG_DONE)
	put(msg[netlinkHeader:], connectorID)
	put(msg[netlinkHeader+4:], connectorID)
	binary.NativeEndian.PutUint16(msg[netlinkHeader+16:], 8)
	put(msg[netlinkHeader+cnHeader:], connectorOn)
	put(msg[netlinkHeader+cnHeader+4:], connectorExit)
	err = unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err != nil {
		return err
	}

	// The kernel's own answer may not pass the filter that was just set: a thread that ends does. The first one may not
	// end, when it is this process's own.
	for until := time.Now().Add(connectorPatience); time.Now().Before(until); {
		go runtime.LockOSThread()

		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}

	return errors.New("it tells nothing: it is only for the initial namespaces")
}

// await waits a moment for the connector to tell of a process that has ended: the kernel tells its parent first. x.mu is
// held.
func (x *exits) await(f *following) {
	if x.connector == 0 {
		return
	}

	for range 10 {
		x.heard()
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, 0)
		if f.kept || f.fd < 0 || err != nil || n == 0 {
			return
		}

		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(x.connector), Events: unix.POLLIN}}, 10)
	}
}

// heard takes in what the connector tells; x.mu is held.
func (x *exits) heard() {
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(x.connector, buf, 0)
		if err != nil {
			return // no more; what was lost is in the container's log
		}

		pid, status, ok := ended(buf[:n])
		f := x.byPID[pid]
		if !ok || f == nil || f.kept {
			continue
		}

		f.kept = true
		x.count(f)
		f.exit = exitOf(status, f.kills)
	}
}

// ended reads the end of a process; ok is false for anything else, threads included.
func ended(msg []byte) (pid int, status unix.WaitStatus, ok bool) {
	const at = netlinkHeader + cnHeader
	if len(msg) < at+procHeader+12 || binary.NativeEndian.Uint32(msg[at:]) != connectorExit {
		return 0, 0, false
	}

	e := msg[at+procHeader:]
	pid = int(binary.NativeEndian.Uint32(e))

	return pid, unix.WaitStatus(binary.NativeEndian.Uint32(e[8:])), pid == int(binary.NativeEndian.Uint32(e[4:]))
}

// exitOf is what a wait status says.
func exitOf(status unix.WaitStatus, kills int) health.Exit {
	if status.Signaled() {
		return signalled(health.Exit{Known: true, Code: 128 + int(status.Signal()), Kills: kills})
	}

	return signalled(health.Exit{Known: true, Code: status.ExitStatus(), Kills: kills})
}
