package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// followEvery is how often the host's resolver configuration is looked at while anything is asked there.
const followEvery = 2 * time.Second

// maxUpstreams is how many of the host's servers are used.
const maxUpstreams = 8

// parseResolvConf reads the name servers of a resolv.conf(5) in their order. It is as tolerant as the
// libraries that read the same file: what is no address is passed over, several on a line all count. A file
// without any means the local machine, as it does for glibc.
func parseResolvConf(text string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		for _, f := range fields[1:] {
			if f[0] == '#' || f[0] == ';' {
				break
			}
			a, err := netip.ParseAddr(f)
			if err != nil {
				continue
			}
			server := netip.AddrPortFrom(a.Unmap(), 53)
			if !slices.Contains(out, server) && len(out) < maxUpstreams {
				out = append(out, server)
			}
		}
	}
	if len(out) == 0 {
		return []netip.AddrPort{netip.AddrPortFrom(loopback4, 53)}
	}
	return out
}

// stubs are where systemd-resolved listens for local programs (systemd-resolved.service(8)).
var stubs = []netip.Addr{netip.MustParseAddr("127.0.0.53"), netip.MustParseAddr("127.0.0.54")}

// onlyStub tells whether the servers are systemd-resolved itself: its own servers are then a hop closer, and
// asking them cannot lead back to us through the host's routing of our zone.
func onlyStub(servers []netip.AddrPort) bool {
	return !slices.ContainsFunc(servers, func(s netip.AddrPort) bool { return !slices.Contains(stubs, s.Addr()) })
}

// without returns the servers that are not among ours: asking ourselves would never end.
func without(servers, ours []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(servers), func(s netip.AddrPort) bool { return slices.Contains(ours, s) })
}
