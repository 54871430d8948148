package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/incus-compose/ic-agent/internal/publish"
)

// Inherited returns the sockets that systemd kept for this process (sd_listen_fds(3)).
func Inherited() []*os.File { return activation.Files(true) }

// store keeps the sockets of the DNS server and of published ports open in systemd's file descriptor store
// (sd_pid_notify_with_fds(3)), so that what clients ask while the agent restarts waits for the next one. Only the goroutine that
// tells systemd how we are uses it, and before that Run's.
type store struct {
	// send tells systemd something, with a descriptor unless fd is negative.
	send func(state string, fd int) error
	// kept are the names in the store, with what each was: a name may come to mean another socket.
	kept map[string]identity
	// seen are the counts of changes that sync was last done for, failed why it was in vain.
	seen   [2]uint64
	failed string
	// widened is the count of changes that the buffers were last looked at for.
	widened uint64
}

// identity tells open sockets apart.
type identity struct{ dev, ino uint64 }

// newStore returns a store that holds what was inherited; nil when there is none, because the agent was not started
// by systemd.
func newStore(inherited []*os.File) *store {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}

	s := &store{kept: map[string]identity{}, send: notifier(path)}
	for _, f := range inherited {
		s.kept[f.Name()] = identify(f.Fd())
	}

	return s
}

func identify(fd uintptr) identity {
	var st syscall.Stat_t
	err := syscall.Fstat(int(fd), &st)
	if err != nil {
		return identity{}
	}

	return identity{st.Dev, st.Ino}
}

// notifier sends to systemd's socket. A socket of package net sends descriptors or is connected, not both.
func notifier(path string) func(string, int) error {
	return func(state string, fd int) error {
		sock, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("tell systemd: %w", err)
		}
		defer syscall.Close(sock)

		var rights []byte
		if fd >= 0 {
			rights = syscall.UnixRights(fd)
		}

		err = syscall.Sendmsg(sock, []byte(state), rights, &syscall.SockaddrUnix{Name: path}, 0)
		if err != nil {
			return fmt.Errorf("tell systemd: %w", err)
		}

		return nil
	}
}

// sync makes the store hold these sockets and no others. Each calls its function with all of them. A socket
// that was closed must go: as long as systemd holds it, the kernel gives it its share of the questions.
func (s *store) sync(each func(func(name string, fd uintptr) error) error) error {
	now := map[string]identity{}
	err := each(func(name string, fd uintptr) error {
		id := identify(fd)
		now[name] = id
		old, there := s.kept[name]
		if there && old == id {
			return nil
		}

		if there {
			err := s.remove(name)
			if err != nil {
				return err
			}
		}

		// Without FDPOLL=0 systemd drops a socket for an ICMP error that a client caused.
		err := s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, int(fd))
		if err != nil {
			return err
		}

		s.kept[name] = id

		return nil
	})
	if err != nil {
		return err
	}

	for name := range s.kept {
		_, open := now[name]
		if open || !strings.HasPrefix(name, "dns-") && !strings.HasPrefix(name, publish.Prefix) {
			continue
		}

		err := s.remove(name)
		if err != nil {
			return err
		}
	}

	return nil
}

func (s *store) remove(name string) error {
	err := s.send("FDSTOREREMOVE=1\nFDNAME="+name, -1)
	if err != nil {
		return err
	}

	delete(s.kept, name)

	return nil
}

// keepSockets brings systemd's store up to date when the set of sockets has changed.
func (a *Agent) keepSockets(ctx context.Context) {
	if a.store == nil {
		return
	}

	set := [2]uint64{a.dns.Sockets(), a.local.Sockets()}
	if set == a.store.seen {
		return
	}

	err := a.store.sync(func(f func(string, uintptr) error) error {
		err := a.dns.EachSocket(f)
		if err != nil {
			return err
		}

		return a.local.EachSocket(f)
	})
	switch {
	case err == nil:
		a.store.seen, a.store.failed = set, ""
	case err.Error() != a.store.failed:
		a.store.failed = err.Error()
		a.log.WarnContext(ctx, "systemd does not keep the sockets: questions and connections are lost when the agent restarts", "err", err)
	}
}

// parting takes back what the host was told when the agent ends for good. What is a restart stays told: the next
// agent answers at the same addresses, and the host would learn meanwhile that our names do not exist.
func (a *Agent) parting(ctx context.Context) {
	if a.resolved == nil || !stopped(ctx) {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, partingFor)
	defer cancel()

	a.resolved.Withdraw(ctx)
}

// unitName is the agent's.
const unitName = "ic-agent.service"

// partingFor is how long the bus may take to say what becomes of us.
const partingFor = time.Second

// stopped asks systemd whether it stops this unit, and does not restart it.
func stopped(ctx context.Context) bool {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return false
	}

	ctx, cancel := context.WithTimeout(ctx, partingFor)
	defer cancel()

	bus, err := dbus.NewSystemConnectionContext(ctx)
	if err != nil {
		return false
	}
	defer bus.Close()

	jobs, err := bus.ListJobsContext(ctx)
	if err != nil {
		return false
	}

	return slices.ContainsFunc(jobs, func(j dbus.JobStatus) bool { return j.Unit == unitName && j.JobType == "stop" })
}

// answer has names answered, from what the ledgers know at first. The returned function ends that: it is for the
// very end, because names are asked for until then, and the sockets are the next agent's afterwards.
func (a *Agent) answer(ctx context.Context) func() {
	err := a.rezone(ctx, time.Now())
	if err != nil {
		a.log.WarnContext(ctx, "no names yet", "err", err)
	}

	a.keepSockets(ctx)
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.dns.Run(own) })
	if a.resolved != nil {
		wg.Go(func() { _ = a.resolved.Run(own) })
	}

	return func() {
		end()
		wg.Wait()
		a.parting(context.WithoutCancel(ctx))
	}
}
