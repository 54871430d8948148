package healthd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// bodyLimit is how much of an answer is searched.
const bodyLimit = 64 << 10

// errNoAddress says that a probe has no way to its instance.
var errNoAddress = errors.New("the instance has no static address on its NIC that the host could connect to")

// way opens a connection to an instance.
type way func(ctx context.Context, network, address string) (net.Conn, error)

// dialer has no keep-alive: no connection lives long enough.
var dialer = net.Dialer{KeepAlive: -1}

// direct is the way of the host: a client like any other of the instance's network. A TCP address is dialled as it is,
// without what package net does to find addresses of a name.
var direct = way(func(ctx context.Context, network, address string) (net.Conn, error) {
	at, err := netip.ParseAddrPort(address)
	if network != "tcp" || err != nil {
		return dialer.DialContext(ctx, network, address)
	}

	conn, err := dialer.DialTCP(ctx, network, netip.AddrPort{}, at)
	if err != nil {
		return nil, err
	}

	return conn, nil
})

// dial makes a probe of what listens at an address.
func (w way) dial(ctx context.Context, address string, p health.Probe, timeout time.Duration) health.Result {
	if p.Within > 0 {
		timeout = min(timeout, p.Within)
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	said, err := w.ask(ctx, net.JoinHostPort(address, strconv.Itoa(p.At())), p)
	r := health.Result{Verdict: health.Passed, Output: text([]byte(said), false)}
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.Verdict, r.Code, r.Output = health.TimedOut, -1, fmt.Sprintf("exceeded timeout (%s)", timeout)
	case ctx.Err() != nil:
		r.Verdict, r.Output = health.NoAnswer, "called off"
	case hostFault(err):
		r.Verdict, r.Output = health.NoAnswer, err.Error()
	default:
		r.Verdict, r.Code, r.Output = health.Failed, 1, err.Error()
	}

	return r
}

// hostFault tells of errors that are the host's and not the instance's.
func hostFault(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}

	return false
}

// addressOf finds the address of a NIC: the named one's, or that of the first that has one.
func addressOf(devices map[string]map[string]string, device string) (netip.Addr, error) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		d := devices[name]
		if d["type"] != "nic" || device != "" && name != device {
			continue
		}

		for _, key := range []string{"ipv4.address", "ipv6.address"} {
			bare, _, _ := strings.Cut(d[key], "/")
			addr, err := netip.ParseAddr(bare)
			if err == nil {
				return addr, nil
			}
		}
	}

	return netip.Addr{}, errNoAddress
}

// ask makes the probe and returns what was said.
func (w way) ask(ctx context.Context, at string, p health.Probe) (string, error) {
	switch p.Type {
	case "http":
		return w.http(ctx, at, p)
	case "grpc":
		return w.grpc(ctx, at, p)
	case "dns":
		return w.dns(ctx, at, p)
	case "redis":
		return w.redis(ctx, at, p)
	case "postgres":
		return w.postgres(ctx, at)
	}

	return w.tcp(ctx, at, p)
}

func tlsFor(p health.Probe) *tls.Config {
	name, _, err := net.SplitHostPort(p.Host)
	if err != nil {
		name = p.Host // without a port
	}

	return &tls.Config{ServerName: name, InsecureSkipVerify: !p.Verify} //nolint:gosec // a check asks whether it answers; Verify is for more
}

func (w way) tcp(ctx context.Context, at string, p health.Probe) (string, error) {
	_, done, err := w.open(ctx, at, p)
	if err != nil {
		return "", err
	}

	done()
	if p.TLS {
		return "connected with TLS", nil
	}

	return "connected", nil
}

// open connects as a probe wants it: with TLS or without.
func (w way) open(ctx context.Context, at string, p health.Probe) (net.Conn, func(), error) {
	conn, done, err := w.connect(ctx, at)
	if err != nil || !p.TLS {
		return conn, done, err
	}

	conf := tlsFor(p)
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(at)
	}

	secure := tls.Client(conn, conf)
	err = secure.HandshakeContext(ctx)
	if err != nil {
		done()
		return nil, nil, err
	}

	return secure, done, nil
}

// dns asks the server in the instance for addresses of a name, over UDP where the way has it.
func (w way) dns(ctx context.Context, at string, p health.Probe) (string, error) {
	res := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w(ctx, network, at)
	}}
	addrs, err := res.LookupHost(ctx, strings.TrimSuffix(p.Name, ".")+".")
	if err != nil {
		return "", err
	}

	return strings.Join(addrs, " "), nil
}
