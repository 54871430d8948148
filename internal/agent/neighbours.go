package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// neighbours knows the host's neighbour tables (arp(7)): who has spoken on our networks from which address. Run
// keeps it; the others read.
type neighbours struct {
	changed func()
	log     *slog.Logger

	mu  sync.Mutex
	all map[int]map[string]netip.Addr // by the index of the link
}

// Run hears of changes until ctx ends (rtnetlink(7)).
func (n *neighbours) Run(ctx context.Context) error {
	err := n.follow(ctx)
	if err != nil && ctx.Err() == nil {
		n.log.WarnContext(ctx, "neighbours are not known: instances with addresses of their own choice have no names", "err", err)
	}

	return nil
}

func (n *neighbours) follow(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}

	f := os.NewFile(uintptr(fd), "netlink")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer func() {
		if stop() {
			f.Close()
		}
	}()
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_NEIGH})
	if err != nil {
		return fmt.Errorf("listen to netlink: %w", err)
	}

	for {
		err = n.dump(f)
		if err != nil {
			return err
		}

		err = n.read(f)
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
}

// dump asks for the whole table; the answer comes to read.
func (n *neighbours) dump(f *os.File) error {
	const length = unix.SizeofNlMsghdr + unix.SizeofNdMsg
	msg := make([]byte, length)
	binary.NativeEndian.PutUint32(msg, length)
	binary.NativeEndian.PutUint16(msg[4:], unix.RTM_GETNEIGH)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	msg[unix.SizeofNlMsghdr] = unix.AF_INET
	_, err := f.Write(msg)
	if err != nil {
		return fmt.Errorf("ask for the neighbours: %w", err)
	}

	return nil
}

func (n *neighbours) read(f *os.File) error {
	buf := make([]byte, 1<<16)
	for {
		size, err := f.Read(buf)
		if err != nil {
			return fmt.Errorf("read the neighbours: %w", err)
		}

		if n.take(buf[:size]) {
			n.changed()
		}
	}
}

// of returns the neighbours on networks, by hardware address.
func (n *neighbours) of(networks []string) map[string]map[string]netip.Addr {
	out := map[string]map[string]netip.Addr{}
	links, err := net.Interfaces() // one look for all: each is a list of every link
	if err != nil {
		return out
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	for _, l := range links {
		if slices.Contains(networks, l.Name) {
			out[l.Name] = maps.Clone(n.all[l.Index])
		}
	}

	return out
}

// take notes what messages say, and reports whether anything is new.
func (n *neighbours) take(b []byte) bool {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return false
	}

	n.mu.Lock()
	defer n.mu.Unlock()

	news := false
	for _, m := range msgs {
		link, mac, addr, ok := neighbour(m)
		if !ok || n.all[link][mac] == addr {
			continue
		}

		if n.all[link] == nil {
			n.all[link] = map[string]netip.Addr{}
		}

		n.all[link][mac] = addr
		news = true
	}

	return news
}

// usable are the states in which a neighbour has a hardware address that was confirmed at some time.
const usable = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// neighbour reads one message. One that is forgotten is no news: it may only have been silent, and whether its
// instance runs is known from Incus.
func neighbour(m syscall.NetlinkMessage) (link int, mac string, addr netip.Addr, ok bool) {
	if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg || m.Data[0] != unix.AF_INET {
		return 0, "", addr, false
	}

	link = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	state := binary.NativeEndian.Uint16(m.Data[8:])
	for rest := m.Data[unix.SizeofNdMsg:]; len(rest) >= unix.SizeofRtAttr; {
		size := int(binary.NativeEndian.Uint16(rest))
		if size < unix.SizeofRtAttr || size > len(rest) {
			break
		}

		value := rest[unix.SizeofRtAttr:size]
		switch binary.NativeEndian.Uint16(rest[2:]) {
		case unix.NDA_DST:
			addr, _ = netip.AddrFromSlice(value) // the zero Addr when it is none
		case unix.NDA_LLADDR:
			mac = net.HardwareAddr(value).String()
		}

		rest = rest[min(len(rest), (size+3)&^3):]
	}

	return link, mac, addr, state&usable != 0 && mac != "" && addr.Is4()
}
