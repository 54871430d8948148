package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// newsAgain is when to listen again after a source of news has ended.
const newsAgain = time.Minute

// hostNews calls told with a link's name when it came or changed, and with "" when systemd-resolved came, until ctx
// ends: after either, resolved may not know what it was told. What cannot be listened to is only noticed later.
func hostNews(ctx context.Context, told func(link string)) {
	var wg sync.WaitGroup
	for _, listen := range []func(context.Context, func(string)) error{linkNews, resolvedNews} {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = listen(ctx, told) // looking every now and then finds the same
				pause(ctx, newsAgain)
			}
		})
	}
	wg.Wait()
}

// linkNews hears of links by rtnetlink(7).
func linkNews(ctx context.Context, told func(link string)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	if err != nil {
		return fmt.Errorf("listen to netlink: %w", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS): // too many to hear all
			told("")
			continue
		case err != nil:
			return fmt.Errorf("hear netlink: %w", err)
		}
		for _, link := range linksIn(buf[:n]) {
			told(link)
		}
	}
}

// linksIn are the names of the links that messages of rtnetlink(7) are about, those that went left out.
func linksIn(b []byte) []string {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil
	}
	var names []string
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWLINK {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == unix.IFLA_IFNAME })
		if i >= 0 {
			names = append(names, unix.ByteSliceToString(attrs[i].Value))
		}
	}
	return names
}

// resolvedNews hears from the bus when systemd-resolved comes.
func resolvedNews(ctx context.Context, told func(link string)) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("connect to the bus: %w", err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 8)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, resolvedName))
	if err != nil {
		return fmt.Errorf("ask for news of systemd-resolved: %w", err)
	}
	told("") // it may have come while nobody listened
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-signals:
			if !open {
				return errBusGone
			}
			told("")
		}
	}
}

var errBusGone = errors.New("the bus has closed the connection")
