package healthd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/incus-compose/ic-agent/internal/health"
)

// exits asks the kernel how the first process of each instance ended: a descriptor of the process tells it to anybody
// who holds one, also after the process is gone (pidfd_open(2), PIDFD_INFO_EXIT; Linux 6.15); before, the process
// connector does. Where the kernel does not tell, nothing is known here, and the container's log has to do. Any goroutine
// may use it; hear hears the ends.
type exits struct {
	// cgroups is where the kernel shows control groups, in which a kill for want of memory is counted.
	cgroups string
	// epoll waits for all; waker ends a wait. Both are -1 when nobody hears any more.
	epoll, waker int
	// connector is the process connector's socket; 0 where the descriptors tell, or nobody does.
	connector int

	mu    sync.Mutex
	byID  map[health.ID]*following
	byFD  map[int32]*following
	byPID map[int]*following
}

// following is one run of an instance. exits.mu guards it.
type following struct {
	id   health.ID
	run  time.Time
	fd   int // -1 when it is closed
	pid  int
	kept bool
	exit health.Exit
	// before is how many kills for want of memory had been counted when it began, kills how many there were since.
	before, kills int
}

func newExits(cgroups string) (*exits, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}

	waker, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, waker, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(waker)})
	}

	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}

	return &exits{cgroups: cgroups, epoll: fd, waker: waker, byID: map[health.ID]*following{}, byFD: map[int32]*following{}, byPID: map[int]*following{}}, nil
}

// knows tells whether this run is followed already, or was.
func (x *exits) knows(id health.ID, run time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.byID[id]

	return f != nil && f.run.Equal(run)
}

// follow begins to follow a run whose first process is pid. confirm is asked once the process cannot be mistaken for
// another of the same number any more: whether pid still is that of the run.
func (x *exits) follow(id health.ID, run time.Time, pid int, confirm func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}

	if !confirm() {
		return errors.Join(errors.New("the instance has another process by now"), unix.Close(fd))
	}

	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.byID[id]; f != nil {
		x.close(f)
		delete(x.byID, id)
	}

	f := &following{id: id, run: run, fd: fd, pid: pid, before: x.oomKills(id)}
	err = unix.EpollCtl(x.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)})
	if err != nil { // nobody hears any more
		return errors.Join(err, unix.Close(fd))
	}

	x.byID[id], x.byFD[int32(fd)], x.byPID[pid] = f, f, f

	return nil
}

// close ends the following; x.mu is held.
func (x *exits) close(f *following) {
	if f.fd >= 0 {
		delete(x.byFD, int32(f.fd))
		if x.byPID[f.pid] == f {
			delete(x.byPID, f.pid)
		}

		_ = unix.Close(f.fd)
		f.fd = -1
	}
}

// forget drops an instance.
func (x *exits) forget(id health.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.byID[id]; f != nil {
		x.close(f)
		delete(x.byID, id)
	}
}

// of is how a run ended; unknown while it runs, and when it was not followed.
func (x *exits) of(id health.ID, run time.Time) health.Exit {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.byID[id]
	if f == nil || !f.run.Equal(run) {
		return health.Exit{}
	}

	x.await(f)
	x.read(f)

	return f.exit
}

// starved is how many kills for want of memory there were in a run that has ended; 0 also when it was not followed.
func (x *exits) starved(id health.ID, run time.Time) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.byID[id]
	if f == nil || !f.run.Equal(run) {
		return 0
	}

	x.count(f)

	return f.kills
}

// hear hears the ends until ctx ends, or with what keeps it from hearing more. Then nothing is open any more.
func (x *exits) hear(ctx context.Context) error {
	defer x.shut()
	stop := context.AfterFunc(ctx, x.wake)
	defer stop()
	events := make([]unix.EpollEvent, 64)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(x.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("hear of ends: %w", err)
		}

		x.mu.Lock()
		for _, e := range events[:max(n, 0)] {
			if x.connector > 0 && int(e.Fd) == x.connector {
				x.heard()
				continue
			}

			f := x.byFD[e.Fd]
			if f == nil {
				continue
			}

			if e.Events&unix.EPOLLIN != 0 { // it has ended, and its control group is still there
				x.count(f)
			}

			if e.Events&unix.EPOLLHUP != 0 { // it is reaped
				x.await(f)
				x.read(f)
				x.close(f)
			}
		}
		x.mu.Unlock()
	}

	return nil
}

// wake makes hear look up.
func (x *exits) wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waker >= 0 {
		_, _ = unix.Write(x.waker, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// shut closes all there is.
func (x *exits) shut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.byID {
		x.close(f)
	}

	if x.connector > 0 {
		_ = unix.Close(x.connector)
	}

	_ = unix.Close(x.waker)
	_ = unix.Close(x.epoll)
	x.waker, x.epoll, x.connector = -1, -1, 0
}

// count finds out how many kills for want of memory there were; once the control group is gone it learns no more. x.mu is
// held.
func (x *exits) count(f *following) { f.kills = max(f.kills, x.oomKills(f.id)-f.before) }

// read asks the kernel how it ended, once; x.mu is held.
func (x *exits) read(f *following) {
	if f.fd < 0 || f.kept || x.connector > 0 {
		return
	}

	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err := unix.IoctlPidfdInfo(f.fd, &info)
	if err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return
	}

	f.kept = true
	x.count(f)
	f.exit = exitOf(unix.WaitStatus(info.Exit_code), f.kills)
}

// signalled tells a signal by the exit code of an init or a shell that passes it on.
func signalled(e health.Exit) health.Exit {
	if e.Code > 128 && e.Code < 128+65 {
		e.Signal = strconv.Itoa(e.Code - 128)
	}

	return e
}

// oomKills counts the kills for want of memory in an instance's control group (Documentation/admin-guide/cgroup-v2.rst,
// memory.events), 0 where nobody counts. Incus names the group after the instance.
func (x *exits) oomKills(id health.ID) int {
	name := id.Name
	if id.Project != "default" {
		name = id.Project + "_" + id.Name
	}

	b, err := os.ReadFile(x.cgroups + "/lxc.payload." + name + "/memory.events")
	if err != nil {
		return 0
	}

	for line := range strings.Lines(string(b)) {
		count, found := strings.CutPrefix(strings.TrimSpace(line), "oom_kill ")
		if found {
			n, _ := strconv.Atoi(count)
			return n
		}
	}

	return 0
}
