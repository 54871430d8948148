package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// ExtraHost is a name that only one service knows (compose "extra_hosts"): it stands in the hosts file of its
// instances, and the DNS server answers it to them and to nobody else.
type ExtraHost struct {
	Name string
	// Addr is its address; the zero Addr means the host itself, as seen from the service's first network
	// ("host-gateway").
	Addr netip.Addr
}

// Resolver is what a service wants of name resolution beside our own server, which it always asks.
type Resolver struct {
	// Upstreams (compose "dns") are asked by our server, in this order, what is not ours when the question comes
	// from an instance of this service; empty means those of everybody.
	Upstreams []netip.AddrPort
	// Search are domains tried after the stack's own (compose "dns_search").
	Search []string
	// Options are written into resolv.conf (compose "dns_opt"), "ndots:2".
	Options []string
}

// Where the files that stand in for Incus's own live in an instance.
const (
	hostsPath   = "/.ic-agent/hosts"
	resolvPath  = "/.ic-agent/resolv.conf"
	overMounted = "lxc.mount.entry = %s %s none bind,relative,create=file 0 0\n"
)

// overMounts are the files that replace what Incus writes into /etc at each start, and liblxc's lines that mount
// them there. Incus's files are kept where nothing is to be said that they cannot say.
func (r *renderer) overMounts(s Service, d *DesiredInstance) (lines string) {
	gateway, own := r.firstAddress(s, d.Name)
	if len(s.ExtraHosts) > 0 || s.Domainname != "" {
		lines += fmt.Sprintf(overMounted, strings.TrimPrefix(hostsPath, "/"), "etc/hosts")
		d.Files = append(d.Files, File{Target: hostsPath, Content: []byte(hostsFile(s, d.Name, own, gateway)), Mode: 0o644, At: s.At})
	}

	if len(s.Resolver.Options) > 0 && r.resolver(s).IsValid() {
		lines += fmt.Sprintf(overMounted, strings.TrimPrefix(resolvPath, "/"), "etc/resolv.conf")
		text := "nameserver " + r.resolver(s).String() + "\nsearch " + strings.Join(r.search(s), " ") + "\noptions " + strings.Join(s.Resolver.Options, " ") + "\n"
		d.Files = append(d.Files, File{Target: resolvPath, Content: []byte(text), Mode: 0o644, At: s.At})
	}

	return lines
}

// mountPoints makes the places of mounts in a root filesystem that will be read-only, where liblxc can make none: those
// that every instance has, and those of the file. A bind mount whose target looks like a file is left to the image.
func mountPoints(s Service, d *DesiredInstance) {
	if !s.Sandbox.ReadOnly {
		return
	}

	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		d.Files = append(d.Files, File{Target: "/etc/" + name, Mode: 0o644, At: s.At})
	}

	for _, dir := range []string{"/dev", "/proc", "/run", "/sys"} {
		d.Files = append(d.Files, File{Target: dir, Directory: true, Mode: 0o755, At: s.At})
	}

	for _, m := range s.Mounts {
		if m.Type != MountBind || !strings.Contains(path.Base(m.Target), ".") {
			d.Files = append(d.Files, File{Target: m.Target, Directory: true, Mode: 0o755, At: m.At})
		}
	}
}

// firstAddress is the host's address on the service's first managed network, and the instance's own.
func (r *renderer) firstAddress(s Service, instance string) (gateway, own netip.Addr) {
	if s.HostNetwork {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), own
	}

	for _, a := range s.Networks {
		incus := r.networks[a.Network].Incus
		seg, managed := r.in.Segments[incus]
		if managed {
			return seg.Gateway, r.in.Addresses[incus][instance]
		}
	}

	return gateway, own
}

// resolver is where our DNS server answers the service. A question that arrives on an internal network never leaves
// the host, so the first network with a way out is the better one; a service without a network of ours asks at
// ServiceAddress where it can reach it. The zero Addr when it cannot ask us.
func (r *renderer) resolver(s Service) netip.Addr {
	var first netip.Addr
	for _, a := range s.Networks {
		n := r.networks[a.Network]
		seg, managed := r.in.Segments[n.Incus]
		if !managed {
			seg, managed = r.in.Segments[V6(n.Incus)]
		}

		switch {
		case !managed:
		case !n.Internal:
			return seg.Gateway
		case !first.IsValid():
			first = seg.Gateway
		}
	}

	if !first.IsValid() && r.beside(s) {
		return ServiceAddress
	}

	return first
}

// search are the domains that short names are tried in: the stack's own, then those of the file.
func (r *renderer) search(s Service) []string {
	list := []string{r.p.Incus + "." + r.in.Domain}
	if s.Domainname != "" {
		list = append(list, s.Domainname)
	}

	for _, d := range s.Resolver.Search {
		if d != "." && !slices.Contains(list, d) {
			list = append(list, d)
		}
	}

	return list
}

// hostsFile is what Incus writes, with the instance's real address and the extra names.
func hostsFile(s Service, name string, own, gateway netip.Addr) string {
	host := cmp.Or(s.Hostname, name)
	if s.Domainname != "" {
		host = host + "." + s.Domainname + " " + host
	}

	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\nff00::0 ip6-mcastprefix\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n")
	at := "127.0.1.1"
	if own.IsValid() {
		at = own.String()
	}

	b.WriteString(at + " " + host + "\n")
	for _, h := range s.ExtraHosts {
		addr := h.Addr
		if !addr.IsValid() {
			addr = gateway
		}

		if addr.IsValid() {
			b.WriteString(addr.String() + " " + h.Name + "\n")
		}
	}

	return b.String()
}
