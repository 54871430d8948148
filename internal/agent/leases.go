package agent

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// leases reads what the dnsmasq of Incus has leased on networks that are not ours, and hears when that changes:
// the file is everybody's to read, and Incus sends no event.
type leases struct {
	dir     string // of the networks
	changed func()
	log     *slog.Logger

	mu      sync.Mutex     // guards what follows
	inotify int            // the descriptor; 0 before Run
	watched map[string]int // the watch of a network's file
}

// newLeases follows files below dir, "/var/lib/incus/networks".
func newLeases(dir string, changed func(), log *slog.Logger) *leases {
	return &leases{dir: dir, changed: changed, log: log, watched: map[string]int{}}
}

// Run hears of changes until ctx ends.
func (l *leases) Run(ctx context.Context) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		l.log.WarnContext(ctx, "leases are read every minute only", "err", err)
		return nil
	}

	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	l.mu.Lock()
	l.inotify = fd
	l.mu.Unlock()
	l.changed() // what is to be watched is known to who reads

	buf := make([]byte, 4096)
	for {
		_, err := f.Read(buf)
		if err != nil {
			return nil // closed
		}

		// Dnsmasq writes the file anew line by line.
		wait(ctx, guestsSettle)
		l.changed()
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// of reads the leases of networks, by hardware address. A network without a file has none.
func (l *leases) of(networks []string) map[string]map[string]netip.Addr {
	out := map[string]map[string]netip.Addr{}
	for _, n := range networks {
		path := filepath.Join(l.dir, n, "dnsmasq.leases")
		l.watch(n, path)
		b, err := os.ReadFile(path)
		if err == nil {
			out[n] = parseLeases(b)
		}
	}

	return out
}

// watch notes a file's changes; one that was made anew is another one.
func (l *leases) watch(network, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.inotify == 0 {
		return
	}

	// Adding a watch that is there changes nothing (inotify_add_watch(2)).
	wd, err := unix.InotifyAddWatch(l.inotify, path, unix.IN_MODIFY|unix.IN_DELETE_SELF)
	if err == nil {
		l.watched[network] = wd
		return
	}

	if !errors.Is(err, fs.ErrNotExist) && l.watched[network] != -1 {
		l.watched[network] = -1
		l.log.Warn("leases cannot be read: names of instances on the network may be missing", "network", network, "err", err)
	}
}

// parseLeases reads dnsmasq's file: lines of expiry, hardware address, address, name and client id. Those of DHCPv6
// name no hardware address.
func parseLeases(b []byte) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 3 {
			continue
		}

		mac, err := net.ParseMAC(f[1])
		addr, aerr := netip.ParseAddr(f[2])
		if err == nil && aerr == nil && addr.Is4() {
			out[mac.String()] = addr
		}
	}

	return out
}
