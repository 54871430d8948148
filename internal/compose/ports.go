package compose

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	maxRange = 1000 // ports of one entry: each becomes a listener
	maxPorts = 2000 // ports of a service
)

// ports translates the published ports.
func (s *service) ports() {
	if s.out.HostNetwork {
		if len(s.in.Ports) > 0 {
			s.warn("ports", "ignored with network_mode: host: what the service listens on is the host's port already")
		}

		return
	}

	if len(s.in.Ports) > maxPorts {
		s.refuse("ports", fmt.Sprintf("%d ports are published", len(s.in.Ports)), fmt.Sprintf("publish at most %d, each of which is a listener on the host", maxPorts))
		return
	}

	places := s.t.portPlaces(s.key + ".ports")
	for _, c := range s.in.Ports {
		at, ok := places[portSign(c)]
		if !ok {
			at = s.place("ports")
		}

		s.port(at, c)
	}
}

func (s *service) port(at plan.Place, c types.ServicePortConfig) {
	key := s.key + ".ports"
	for k := range s.t.known(key+".x-incus-compose", c.Extensions[extCompose], "nat") {
		s.t.warnAt(at, key, "x-incus-compose."+k+" is ignored: the agent uses NAT where it can")
	}

	if c.Target < 1 || c.Target > 65535 {
		s.t.refuseAt(at, key, fmt.Sprintf("%d is not a port", c.Target), "write a number from 1 to 65535")
		return
	}

	p := plan.Port{Target: uint16(c.Target), Protocol: c.Protocol, At: at}
	if c.Protocol != "tcp" && c.Protocol != "udp" {
		s.t.refuseAt(at, key, fmt.Sprintf("the protocol %q cannot be published", c.Protocol), "use tcp or udp")
		return
	}

	if c.Published != "" { // without, the agent chooses
		var ok bool
		p.Published, p.PublishedEnd, ok = portRange(c.Published)
		if !ok {
			s.t.refuseAt(at, key, fmt.Sprintf("%q is not a port of the host", c.Published), `write a number from 1 to 65535, or a range "8080-8089"`)
			return
		}
	}

	if c.HostIP != "" {
		ip, err := netip.ParseAddr(c.HostIP)
		if err != nil {
			s.t.refuseAt(at, key, fmt.Sprintf("%q is not an address", c.HostIP), "write an address of the host, or leave it out")
			return
		}

		p.HostIP = ip.Unmap().WithZone("")
	}

	count := int(p.PublishedEnd) - int(p.Published) + 1
	if count > 1 && s.in.GetScale() > count {
		s.t.refuseAt(at, key, fmt.Sprintf("%d replicas need %d ports of the host, and %s has %d", s.in.GetScale(), s.in.GetScale(), c.Published, count),
			fmt.Sprintf(`give one that they share, "%d:%d", or a larger range`, p.Published, p.Target))
	}

	header := s.t.known(key+"."+extAgent, c.Extensions[extAgent], "proxy-protocol")["proxy-protocol"]
	switch {
	case header == nil || header == false:
	case header != true || p.Protocol != "tcp":
		s.t.refuseAt(at, key, "x-ic-agent.proxy-protocol is for tcp, and true or false", "write proxy-protocol: true")
	default:
		p.Header = true
	}

	s.out.Ports = append(s.out.Ports, p)
}

// expose notes what other services are told of: they reach all ports of each other anyway.
func (s *service) expose() {
	for _, entry := range s.in.Expose {
		numbers, protocol, given := strings.Cut(entry, "/")
		if !given {
			protocol = "tcp"
		}

		first, last, ok := portRange(numbers)
		if !ok || last-first >= maxRange || protocol != "tcp" && protocol != "udp" {
			at := s.t.index.item(s.key+".expose", func(v any) bool { return asString(v) == entry })
			s.t.warnAt(at, s.key+".expose", fmt.Sprintf("%q is ignored: write a port, a range of at most %d, or either with /tcp or /udp", entry, maxRange))
			continue
		}

		for n := int(first); n <= int(last); n++ {
			s.out.Expose = append(s.out.Expose, plan.Exposed{Port: uint16(n), Protocol: protocol})
		}
	}
}

// portRange parses "8080" or "8080-8089".
func portRange(text string) (first, last uint16, ok bool) {
	a, b, ranged := strings.Cut(text, "-")
	if !ranged {
		b = a
	}

	x, errA := strconv.ParseUint(a, 10, 16)
	y, errB := strconv.ParseUint(b, 10, 16)

	return uint16(x), uint16(y), errA == nil && errB == nil && x > 0 && y >= x
}

// portSign tells ports of a service apart.
func portSign(c types.ServicePortConfig) string {
	return fmt.Sprintf("%s|%s|%d|%s", c.HostIP, c.Published, c.Target, c.Protocol)
}

// portPlaces finds the line of each port.
func (t *translation) portPlaces(list string) map[string]plan.Place {
	places := map[string]plan.Place{}
	for v, at := range t.index.items(list) {
		for _, c := range portsOf(v) {
			_, known := places[portSign(c)]
			if !known {
				places[portSign(c)] = at
			}
		}
	}

	return places
}

// portsOf are the ports of one entry in either form.
func portsOf(v any) []types.ServicePortConfig {
	m := asMap(v)
	if m == nil {
		ports, err := types.ParsePortConfig(asString(v))
		if err != nil {
			return nil
		}

		return ports
	}

	target, err := strconv.ParseUint(asString(m["target"]), 10, 16)
	if err != nil {
		return nil
	}

	c := types.ServicePortConfig{HostIP: asString(m["host_ip"]), Published: asString(m["published"]), Target: uint32(target), Protocol: asString(m["protocol"])}
	if c.Protocol == "" {
		c.Protocol = "tcp"
	}

	return []types.ServicePortConfig{c}
}
