package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// bus is what is used of D-Bus.
type bus interface {
	// Call calls a method of resolved, or of the bus itself, and stores what it returns.
	Call(ctx context.Context, path, method string, result []any, args ...any) error
	Close() error
}

// The names of org.freedesktop.resolve1(5).
const (
	resolvedName    = "org.freedesktop.resolve1"
	resolvedPath    = "/org/freedesktop/resolve1"
	resolvedManager = "org.freedesktop.resolve1.Manager"
	resolvedCall    = resolvedManager + "."
	getProperty     = "org.freedesktop.DBus.Properties.Get"
	hasOwner        = "org.freedesktop.DBus.NameHasOwner"
)

// The wire forms of org.freedesktop.resolve1(5): what a link is told, and what is known of all links.
type (
	knownServer struct {
		Index, Family int32
		Address       []byte
		Port          uint16
		Name          string
	}
	knownDomain struct {
		Index   int32
		Domain  string
		Routing bool
	}
	linkServer struct {
		Family  int32
		Address []byte
		Port    uint16
		Name    string
	}
	linkDomain struct {
		Domain  string
		Routing bool
	}
)

// wire is what resolved is told.
func (l Link) wire() (servers []linkServer, domains []linkDomain) {
	for _, a := range l.Servers {
		family := int32(unix.AF_INET)
		if a.Is6() {
			family = unix.AF_INET6
		}
		servers = append(servers, linkServer{family, a.AsSlice(), l.Port, ""})
	}
	for _, d := range l.Domains {
		domains = append(domains, linkDomain{d, true})
	}
	return servers, domains
}

// linkState is what resolved knows of a link.
type linkState struct {
	servers []linkServer
	domains []linkDomain
}

// read returns what resolved knows of all links, by index. To ask about each by itself would take three calls for each.
func read(ctx context.Context, b bus) (map[int32]linkState, error) {
	var servers, domains dbus.Variant
	err := errors.Join(
		b.Call(ctx, resolvedPath, getProperty, []any{&servers}, resolvedManager, "DNSEx"),
		b.Call(ctx, resolvedPath, getProperty, []any{&domains}, resolvedManager, "Domains"),
	)
	if err != nil {
		return nil, err
	}
	var allServers []knownServer
	var allDomains []knownDomain
	err = errors.Join(servers.Store(&allServers), domains.Store(&allDomains))
	all := map[int32]linkState{}
	for _, s := range allServers {
		l := all[s.Index]
		l.servers = append(l.servers, linkServer{s.Family, s.Address, s.Port, s.Name})
		all[s.Index] = l
	}
	for _, d := range allDomains {
		l := all[d.Index]
		l.domains = append(l.domains, linkDomain{d.Domain, d.Routing})
		all[d.Index] = l
	}
	return all, err
}

// match compares what resolved knows of a link with what it should: the same, nothing or something of ours (bare), or
// what others told it (other).
func (l Link) match(got linkState) match {
	wantServers, wantDomains := l.wire()
	equal := func(a, b linkServer) bool {
		return a.Family == b.Family && slices.Equal(a.Address, b.Address) && a.Port == b.Port
	}
	ours := slices.EqualFunc(got.servers, wantServers, equal)
	switch {
	case ours && slices.Equal(got.domains, wantDomains):
		return same
	case ours, len(got.servers) == 0 && len(got.domains) == 0:
		return bare
	}
	return other
}

// tell sets everything about one link. We do not sign and do not speak TLS, and are no way to other names.
func tell(ctx context.Context, b bus, index int, l Link) error {
	servers, domains := l.wire()
	for _, c := range []struct {
		method string
		arg    any
	}{
		{"SetLinkDNSEx", servers},
		{"SetLinkDomains", domains},
		{"SetLinkDefaultRoute", false},
		{"SetLinkDNSSEC", "no"},
		{"SetLinkDNSOverTLS", "no"},
	} {
		err := b.Call(ctx, resolvedPath, resolvedCall+c.method, nil, int32(index), c.arg)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", c.method, l.Interface, err)
		}
	}
	return nil
}

// systemBus is the host's D-Bus.
type systemBus struct{ conn *dbus.Conn }

func dialBus(ctx context.Context) (bus, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return systemBus{conn}, nil
}

func (b systemBus) Call(ctx context.Context, path, method string, result []any, args ...any) error {
	name := resolvedName
	if method == hasOwner {
		name = "org.freedesktop.DBus"
	}
	call := b.conn.Object(name, dbus.ObjectPath(path)).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	return call.Store(result...)
}

func (b systemBus) Close() error { return b.conn.Close() }
