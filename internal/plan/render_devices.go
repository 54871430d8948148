package plan

import (
	"cmp"
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
	if s.Sandbox.ReadOnly {
		d.Devices[rootDevice]["readonly"] = "true"
	}

	if s.RootSize > 0 {
		d.Devices[rootDevice]["size"] = strconv.FormatInt(s.RootSize, 10)
	}

	r.hostDevices(d, s, owner)

	err := r.nics(d, s)
	if err != nil {
		return err
	}

	for _, m := range withImageVolumes(s, d.Image) {
		before := maps.Clone(d.Devices)
		err = r.mount(d, s, m, index, owner)
		if err != nil {
			return err
		}

		d.originate(before, d.Devices, m.At)
	}

	err = r.fileDevices(d)
	if err != nil {
		return err
	}

	err = r.ports(d, s, index)
	if err != nil {
		return err
	}

	maps.Copy(d.Devices, s.Devices)
	for name := range s.Devices {
		delete(d.Late, name)
	}

	return nil
}

// withImageVolumes adds an anonymous volume for each VOLUME of the image that nothing is mounted at.
func withImageVolumes(s Service, img Image) []Mount {
	mounts := slices.Clone(s.Mounts)
	for _, target := range img.Volumes {
		target = path.Clean("/" + target)
		if target != "/" && !slices.ContainsFunc(s.Mounts, func(m Mount) bool { return m.Target == target }) {
			mounts = append(mounts, Mount{Type: MountVolume, Target: target, At: s.Image.At})
		}
	}

	return mounts
}

// originate notes that the devices new in after were written at a place.
func (d *DesiredInstance) originate(before, after map[string]Device, at Place) {
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
	routed := false
	for i, a := range s.Networks {
		n, ok := r.networks[a.Network]
		if !ok {
			return fmt.Errorf("the network %q is not defined: add it under networks", a.Network)
		}

		name := "eth" + strconv.Itoa(i)
		d.Networks = append(d.Networks, n.Incus)
		nic, managed := r.nic(d, n, a, !n.Internal && !routed)
		routed = routed || managed && !n.Internal
		nic["name"] = cmp.Or(a.Interface, name)
		if a.MAC != "" {
			nic["hwaddr"] = a.MAC
		}

		maps.Copy(nic, a.Config)
		d.Devices[name] = nic
		if len(a.Aliases) > 0 {
			aliases = append(aliases, n.Incus+"="+strings.Join(a.Aliases, ","))
		}
	}

	resolver := r.resolver(s)
	if resolver.IsValid() {
		d.Config["oci.dns.nameservers"] = resolver.String()
		d.Config["oci.dns.search"] = strings.Join(r.search(s), ",")
	}

	if len(aliases) > 0 {
		d.Config[KeyAliases] = strings.Join(aliases, " ")
	}

	return nil
}

// nic is the device for one network, with the addresses we hand out there; managed is false where others do.
// A family without an address is switched off: Incus would wait for one at the start.
func (r *renderer) nic(d *DesiredInstance, n Network, a Attachment, route bool) (nic Device, managed bool) {
	nic = Device{"type": "nic", "network": n.Incus}
	for _, f := range []struct{ family, key string }{{"ipv4", n.Incus}, {"ipv6", V6(n.Incus)}} {
		addr := r.in.Addresses[f.key][d.Name]
		if !addr.IsValid() {
			continue
		}

		managed = true
		seg := r.in.Segments[f.key]
		nic[f.family+".address"] = netip.PrefixFrom(addr, seg.Subnet.Bits()).String()
		nic[f.family+".gateway"] = "none"
		if route {
			nic[f.family+".gateway"] = seg.Gateway.String()
		}
	}

	if managed {
		nic["hwaddr"] = hardwareAddr(n.Incus, d.Name)
		for _, option := range []string{"ipv4.address", "ipv6.address"} {
			nic[option] = cmp.Or(nic[option], "none")
		}

		return nic, true
	}

	foreign, known := r.in.Foreign[n.Incus]
	if known && foreign.Unmanaged {
		delete(nic, "network")
		nic["nictype"], nic["parent"] = "bridged", n.Incus
		return nic, false
	}

	if a.IPv4.IsValid() {
		nic["ipv4.address"] = a.IPv4.String()
	}

	switch {
	case a.IPv6.IsValid():
		nic["ipv6.address"] = a.IPv6.String()
	case known && !foreign.IPv6:
		nic["ipv6.address"] = "none"
	}

	return nic, false
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

		if m.UID != 0 || m.GID != 0 {
			dev["initial.uid"], dev["initial.gid"] = strconv.FormatUint(uint64(m.UID), 10), strconv.FormatUint(uint64(m.GID), 10)
		}

		d.Devices["tmpfs-"+slug] = dev
		return nil
	case MountBind:
		return r.bind(d, m, dev, "bind-"+slug)
	case MountImage:
		return r.imageMount(d, m, dev, "image-"+slug)
	case MountVolume:
	default:
		return fmt.Errorf("mounts of type %q are not supported: use volume, bind, tmpfs or image", m.Type)
	}

	pool, volume, device, err := r.volumeOf(s, m, index, owner)
	if err != nil {
		return err
	}

	dev["pool"], dev["source"] = pool, path.Join(volume, m.Subpath)
	if m.Subpath != "" && r.in.Lacks[dev["source"]] {
		return missingSubpath{m, pool, volume}
	}

	if m.ReadOnly {
		dev["readonly"] = "true"
	}

	d.Volumes = append(d.Volumes, pool+"/"+volume)
	if m.Subpath == "" && !m.NoCopy {
		r.seeds[pool+"/"+volume] = append(r.seeds[pool+"/"+volume], Seed{Instance: d.Name, Path: m.Target})
	}

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

		return r.home(v), v.Incus, "vol-" + SlugName(v.Name), nil
	}

	name := fmt.Sprintf("vol-anon-%s-%d-%s", SlugName(s.Name), index, shortHash(m.Target))
	if len(name) > 63 {
		name = "vol-anon-" + shortHash(s.Name) + "-" + strconv.Itoa(index) + "-" + shortHash(m.Target)
	}

	c := map[string]string{KeyOwner: r.in.Owner, KeyStack: r.p.Stack, KeyName: "", KeyService: s.Name}
	r.owners[name] = owner
	r.initial(c, name)
	addLabels(c, m.Labels)
	maps.Copy(c, m.Config)
	pool = r.home(Volume{Incus: name})
	r.anonymous = append(r.anonymous, DesiredVolume{Pool: pool, Name: name, Config: c, At: m.At})

	return pool, name, "vol-" + shortHash(m.Target), nil
}
