package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ports publishes a replica's ports. Each has a listener in the agent (Forwards), which shares it between the
// replicas and reaches the app from the host itself. A port of one replica is also forwarded by the firewall (nat),
// which comes before the listener: it is fast, needs no process, keeps the client's address, and needs our static
// address. Where we know no address, a proxy device carries; it delays a start by a second, so it is added once the
// instance runs.
func (r *renderer) ports(d *DesiredInstance, s Service, index int) error {
	to := r.reach(d, s)
	groups := map[string]*portGroup{}
	for _, p := range s.Ports {
		published, shared, err := r.published(s, p, index)
		if err != nil {
			return err
		}

		for _, ip := range p.IPs() {
			l := Listen{Protocol: p.Protocol, IP: ip, Port: published, At: p.At}
			target, routed := to.from(ip)
			switch {
			case target.IsValid():
				d.Listens = append(d.Listens, l)
				d.Forwards = append(d.Forwards, Forward{Listen: l, To: netip.AddrPortFrom(target, p.Target), Header: p.Header})
			case shared:
				return fmt.Errorf("port %d cannot be shared by %d replicas: the agent does not know their addresses; put the service on a network of this file", published, s.Replicas)
			case ip == netip.IPv6Unspecified() && !p.HostIP.IsValid():
				continue // a second process for what hardly anybody asks of such a network
			default:
				d.Listens = append(d.Listens, l)
				join(groups, l, p.Target, netip.AddrFrom4([4]byte{127, 0, 0, 1}), false)
			}

			if routed && !shared && !p.Header && !ip.IsLoopback() {
				join(groups, l, p.Target, target, true)
			}
		}
	}

	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if g.nat {
			d.Devices[name] = g.device()
		} else {
			d.Late[name] = g.device()
		}

		d.Origins[DeviceOrigin(name)] = s.Ports[0].At
	}

	return nil
}

// published is the host port of a replica, and whether the others have the same.
func (r *renderer) published(s Service, p Port, index int) (port uint16, shared bool, err error) {
	switch {
	case p.Published == 0:
		port = r.in.Ports[PortKey(s.Name, p)]
		if port == 0 {
			return 0, false, fmt.Errorf("no port of the host is free for port %d: publish one by number", p.Target)
		}

		return port, s.Replicas > 1, nil
	case p.PublishedEnd == p.Published:
		return p.Published, s.Replicas > 1, nil
	}

	if index > int(p.PublishedEnd)-int(p.Published)+1 {
		return 0, false, fmt.Errorf("the ports %d-%d are too few for %d replicas: publish more of them, or one that they share", p.Published, p.PublishedEnd, s.Replicas)
	}

	return p.Published + uint16(index-1), false, nil
}

// reach is how an instance is reached from the host.
type reach struct {
	v4, v6 netip.Addr
	// routed says that the firewall may forward to them; to an internal network it does not.
	routed bool
}

// reach finds the addresses on the first network with a way out, else on an internal one.
func (r *renderer) reach(d *DesiredInstance, s Service) reach {
	var inside reach
	for _, a := range s.Networks {
		n := r.networks[a.Network]
		found := reach{v4: r.in.Addresses[n.Incus][d.Name], v6: r.in.Addresses[V6(n.Incus)][d.Name], routed: !n.Internal}
		switch {
		case !found.v4.IsValid() && !found.v6.IsValid():
		case found.routed:
			return found
		case !inside.v4.IsValid() && !inside.v6.IsValid():
			inside = found
		}
	}

	return inside
}

// from is where a listener at ip sends to: the address of its own family when there is one. Routed says that the
// firewall can do the same.
func (t reach) from(ip netip.Addr) (target netip.Addr, routed bool) {
	own, other := t.v4, t.v6
	if ip.Is6() {
		own, other = other, own
	}

	if own.IsValid() {
		return own, t.routed
	}

	return other, false
}

// portGroup are ports that one proxy device can hold.
type portGroup struct {
	protocol   string
	ip, target netip.Addr
	nat        bool
	from, to   []string
}

func join(groups map[string]*portGroup, l Listen, to uint16, target netip.Addr, nat bool) {
	name := "port-" + l.Protocol
	switch {
	case l.IP == netip.IPv4Unspecified():
	case l.IP == netip.IPv6Unspecified():
		name += "6"
	default:
		name += "-" + strings.Map(func(c rune) rune {
			if c == ':' || c == '.' {
				return '-'
			}

			return c
		}, l.IP.String())
	}

	g := groups[name]
	if g == nil {
		g = &portGroup{protocol: l.Protocol, ip: l.IP, target: target, nat: nat}
		groups[name] = g
	}

	g.from = append(g.from, strconv.Itoa(int(l.Port)))
	g.to = append(g.to, strconv.Itoa(int(to)))
}

func (g *portGroup) device() Device {
	host := func(a netip.Addr) string {
		if a.Is6() {
			return "[" + a.String() + "]"
		}

		return a.String()
	}

	dev := Device{
		"type":    "proxy",
		"listen":  g.protocol + ":" + host(g.ip) + ":" + strings.Join(g.from, ","),
		"connect": g.protocol + ":" + host(g.target) + ":" + strings.Join(g.to, ","),
	}
	if g.nat {
		dev["nat"] = "true"
	}

	return dev
}
