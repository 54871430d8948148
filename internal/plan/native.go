package plan

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// NativeInit is the ENTRYPOINT that images of Incus's own kind get: their init, which is never named to liblxc.
const NativeInit = "/sbin/init"

// native makes a system container of an instance whose image is one of Incus's own: its init runs, it asks for its
// address by DHCP, and what names a program has no meaning.
func native(d *DesiredInstance, p Process) error {
	if !d.Image.Native {
		return nil
	}

	if p.Command != nil || p.Entrypoint != nil || p.User != "" {
		return errors.New("the image " + d.Image.Ref + " is a whole system, whose init runs: remove command, entrypoint and user, or take an image of a registry")
	}

	for k := range d.Config {
		if strings.HasPrefix(k, "oci.") {
			delete(d.Config, k)
		}
	}

	lines := slices.DeleteFunc(strings.SplitAfter(d.Config["raw.lxc"], "\n"), func(line string) bool {
		halt := strings.HasPrefix(line, "lxc.signal.halt") && p.StopSignal == ""
		return halt || strings.HasPrefix(line, "lxc.execute.cmd") || strings.HasPrefix(line, "lxc.init.cmd")
	})
	d.Config["raw.lxc"] = strings.Join(lines, "")
	for _, dev := range d.Devices {
		addr, _, static := strings.Cut(dev["ipv4.address"], "/")
		if dev["type"] == "nic" && static {
			dev["ipv4.address"] = addr
			delete(dev, "ipv4.gateway")
			delete(dev, "ipv6.address")
		}
	}

	return nil
}

// leases has Incus answer DHCP on a network with system containers on it: each gets its reserved address, and our DNS
// server, which keeps port 53. The one address that strangers get is the last.
func (r *renderer) leases(c map[string]string, n Network, seg Segment) {
	has := slices.ContainsFunc(r.p.Services, func(s Service) bool {
		on := slices.ContainsFunc(s.Networks, func(a Attachment) bool { return a.Network == n.Name })
		return on && r.in.Images[s.Image.Ref].Native
	})
	if !has || !seg.Subnet.IsValid() {
		return
	}

	last := lastHost(seg.Subnet).String()
	c["ipv4.dhcp"] = "true"
	c["ipv4.dhcp.ranges"] = last + "-" + last
	c["raw.dnsmasq"] = "port=0"
	c["dns.nameservers"] = seg.Gateway.String()
	c["dns.search"] = r.p.Incus + "." + r.in.Domain
}

// lastHost is the last address of an IPv4 subnet that a host may have.
func lastHost(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}

	return netip.AddrFrom4(b).Prev()
}
