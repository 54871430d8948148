package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

const rootDevice = "root"

// devices renders the root disk, NICs, mounts and ports of one replica.
func (r *renderer) devices(d *DesiredInstance, s Service, index int, owner [2]uint32) error {
	d.Devices = map[string]Device{rootDevice: {"type": "disk", "path": "/", "pool": r.in.Pool}}
	d.Late = map[string]Device{}

	err := r.nics(d, s)
	if err != nil {
		return err
	}

	for _, m := range s.Mounts {
		before := maps.Clone(d.Devices)
		err = r.mount(d, s, m, index, owner)
		if err != nil {
			return err
		}

		d.originate(before, d.Devices, m.At)
	}

	before := maps.Clone(d.Devices)
	err = r.ports(d, s, index)
	if err != nil {
		return err
	}

	if len(s.Ports) > 0 {
		d.originate(before, d.Devices, s.Ports[0].At)
		d.originate(nil, d.Late, s.Ports[0].At)
	}

	maps.Copy(d.Devices, s.Devices)
	for name := range s.Devices {
		delete(d.Late, name)
	}

	return nil
}

// originate notes that the devices new in after were written at a place.
func (d *DesiredInstance) originate(before, after map[string]Device, at Place) {
	if d.Origins == nil {
		d.Origins = map[string]Place{}
	}

	for name := range after {
		_, old := before[name]
		if !old {
			d.Origins[DeviceOrigin(name)] = at
		}
	}
}

// nics renders eth0, eth1 …; the first one with a way out has the default route, and its network's gateway
// address is where our DNS server listens.
func (r *renderer) nics(d *DesiredInstance, s Service) error {
	var aliases []string
	routed, resolver := false, ""
	for i, a := range s.Networks {
		n, ok := r.networks[a.Network]
		if !ok {
			return fmt.Errorf("the network %q is not defined: add it under networks", a.Network)
		}

		name := "eth" + strconv.Itoa(i)
		nic := Device{"type": "nic", "name": name, "network": n.Incus}
		d.Networks = append(d.Networks, n.Incus)

		seg, managed := r.in.Segments[n.Incus]
		addr := r.in.Addresses[n.Incus][d.Name]
		if managed && addr.IsValid() {
			nic["ipv4.address"] = netip.PrefixFrom(addr, seg.Subnet.Bits()).String()
			nic["ipv4.gateway"] = "none"
			nic["ipv6.address"] = "none"
			nic["hwaddr"] = hardwareAddr(n.Incus, d.Name)
			// A question that arrives on an internal network never leaves the host, so a network with a way
			// out is the better resolver.
			if resolver == "" || !n.Internal && !routed {
				resolver = seg.Gateway.String()
			}

			if !n.Internal && !routed {
				nic["ipv4.gateway"] = seg.Gateway.String()
				routed = true
			}
		} else if a.IPv4.IsValid() {
			nic["ipv4.address"] = a.IPv4.String()
		}

		if a.MAC != "" {
			nic["hwaddr"] = a.MAC
		}

		maps.Copy(nic, a.Config)
		d.Devices[name] = nic
		if len(a.Aliases) > 0 {
			aliases = append(aliases, n.Incus+"="+strings.Join(a.Aliases, ","))
		}
	}

	if resolver != "" {
		d.Config["oci.dns.nameservers"] = resolver
		d.Config["oci.dns.search"] = r.p.Incus + "." + r.in.Domain
	}

	if len(aliases) > 0 {
		d.Config[KeyAliases] = strings.Join(aliases, " ")
	}

	return nil
}

func (r *renderer) mount(d *DesiredInstance, s Service, m Mount, index int, owner [2]uint32) error {
	slug := SlugName(m.Target)
	if slug == "" {
		return fmt.Errorf("a mount at %q would replace the root filesystem: give it a directory", m.Target)
	}

	dev := Device{"type": "disk", "path": m.Target}
	switch m.Type {
	case MountTmpfs:
		dev["source"] = "tmpfs:"
		if m.Size > 0 {
			dev["size"] = strconv.FormatInt(m.Size, 10)
		}

		if m.Mode != "" {
			dev["initial.mode"] = m.Mode
		}

		d.Devices["tmpfs-"+slug] = dev
		return nil
	case MountBind:
		dev["source"] = m.Source
		if !m.NoShift {
			dev["shift"] = "true"
		}

		if m.ReadOnly {
			dev["readonly"] = "true"
		}

		d.Devices["bind-"+slug] = dev
		return nil
	case MountVolume:
	default:
		return fmt.Errorf("mounts of type %q are not supported: use volume, bind or tmpfs", m.Type)
	}

	pool, volume, device, err := r.volumeOf(s, m, index, owner)
	if err != nil {
		return err
	}

	dev["pool"], dev["source"] = pool, path.Join(volume, m.Subpath)
	if m.ReadOnly {
		dev["readonly"] = "true"
	}

	d.Volumes = append(d.Volumes, pool+"/"+volume)
	_, taken := d.Devices[device]
	if taken {
		device += "-" + slug
	}

	d.Devices[device] = dev

	return nil
}

// volumeOf finds the volume of a mount, or makes up the anonymous one of this replica.
func (r *renderer) volumeOf(s Service, m Mount, index int, owner [2]uint32) (pool, volume, device string, err error) {
	if r.owners == nil {
		r.owners = map[string][2]uint32{}
	}

	if m.Source != "" {
		v, ok := r.volumes[m.Source]
		if !ok {
			return "", "", "", fmt.Errorf("the volume %q is not defined: add it under volumes", m.Source)
		}

		_, known := r.owners[v.Name]
		if !known {
			r.owners[v.Name] = owner
		}

		return r.pool(v.Pool), v.Incus, "vol-" + SlugName(v.Name), nil
	}

	name := fmt.Sprintf("vol-anon-%s-%d-%s", SlugName(s.Name), index, shortHash(m.Target))
	if len(name) > 63 {
		name = "vol-anon-" + shortHash(s.Name) + "-" + strconv.Itoa(index) + "-" + shortHash(m.Target)
	}

	c := map[string]string{KeyOwner: r.in.Owner, KeyStack: r.p.Stack, KeyName: "", KeyService: s.Name}
	r.owners[name] = owner
	r.initial(c, name)
	maps.Copy(c, m.Config)
	r.anonymous = append(r.anonymous, DesiredVolume{Pool: r.in.Pool, Name: name, Config: c, At: m.At})

	return r.in.Pool, name, "vol-" + shortHash(m.Target), nil
}

// ports renders one device for each protocol and address, many ports in it. A port for every address is
// forwarded by the firewall (nat), which is fast and keeps the client's address, and needs our static address;
// the firewall leaves loopback alone, so the agent carries those connections itself (Forwards). A proxy device,
// for the rest, delays a start by a second, so it is added once the instance runs.
func (r *renderer) ports(d *DesiredInstance, s Service, index int) error {
	var target netip.Addr
	for _, a := range s.Networks {
		n := r.networks[a.Network]
		addr := r.in.Addresses[n.Incus][d.Name]
		if addr.IsValid() && !n.Internal {
			target = addr
			break
		}
	}

	groups := map[string]*portGroup{}
	for _, p := range s.Ports {
		published := p.Published
		if p.PublishedEnd > p.Published {
			published += uint16(index - 1)
		}

		if s.Replicas > 1 && (p.PublishedEnd <= p.Published || published > p.PublishedEnd) {
			return fmt.Errorf("port %d cannot be published by %d replicas: publish a range of at least as many ports (%d-%d:%d)",
				p.Published, s.Replicas, p.Published, int(p.Published)+s.Replicas-1, p.Target)
		}

		ip := p.HostIP
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified()
		}

		d.Listens = append(d.Listens, Listen{Protocol: p.Protocol, IP: ip, Port: published, At: p.At})
		nat := target.IsValid() && ip.Is4() && !ip.IsLoopback()
		join(groups, p.Protocol, ip, nat, published, p.Target)
		if nat && ip.IsUnspecified() {
			d.Forwards = append(d.Forwards, Forward{Protocol: p.Protocol, Port: published, To: netip.AddrPortFrom(target, p.Target)})
		}
	}

	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if g.nat {
			d.Devices[name] = g.device(target)
			continue
		}

		inside := target
		if !inside.IsValid() {
			inside = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}

		d.Late[name] = g.device(inside)
	}

	return nil
}

type portGroup struct {
	protocol string
	ip       netip.Addr
	nat      bool
	from, to []string
}

func join(groups map[string]*portGroup, protocol string, ip netip.Addr, nat bool, from, to uint16) {
	name := "port-" + protocol
	switch {
	case ip.IsLoopback() && ip.Is4():
		name += "-lo"
	case !ip.IsUnspecified() || ip.Is6():
		name += "-" + strings.Map(func(c rune) rune {
			if c == ':' || c == '.' {
				return '-'
			}

			return c
		}, ip.String())
	}

	g := groups[name]
	if g == nil {
		g = &portGroup{protocol: protocol, ip: ip, nat: nat}
		groups[name] = g
	}

	g.from = append(g.from, strconv.Itoa(int(from)))
	g.to = append(g.to, strconv.Itoa(int(to)))
}

func (g *portGroup) device(target netip.Addr) Device {
	host := func(a netip.Addr) string {
		if a.Is6() {
			return "[" + a.String() + "]"
		}

		return a.String()
	}

	dev := Device{
		"type":    "proxy",
		"listen":  g.protocol + ":" + host(g.ip) + ":" + strings.Join(g.from, ","),
		"connect": g.protocol + ":" + host(target) + ":" + strings.Join(g.to, ","),
	}
	if g.nat {
		dev["nat"] = "true"
	}

	return dev
}
