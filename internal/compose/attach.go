package compose

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func (s *service) networkMode() {
	mode := s.in.NetworkMode
	switch {
	case mode == "", mode == "none":
	case mode == "bridge":
		s.warn("network_mode", "there is no network shared by all stacks: the service is on the stack's default network")
	case mode == "host":
		s.hostNetwork()
	case strings.HasPrefix(mode, "service:"), strings.HasPrefix(mode, "container:"):
		s.refuse("network_mode", "a service cannot use another one's network", "remove network_mode, put both on one network and use the other's name")
	default:
		s.refuse("network_mode", fmt.Sprintf("unknown mode %q", mode), "remove it, or write none")
	}

	if mode != "" && len(s.in.Networks) > 0 {
		s.refuse("network_mode", "cannot be combined with networks", "remove one of the two")
	}
}

// hostNetwork puts the service on the host's network, where the policy allows it; names are the host's affair there.
func (s *service) hostNetwork() {
	s.out.HostNetwork = true
	for key, set := range map[string]bool{"dns": len(s.in.DNS) > 0, "dns_search": len(s.in.DNSSearch) > 0, "dns_opt": len(s.in.DNSOpts) > 0} {
		if set {
			s.warn(key, "ignored with network_mode: host: the service has the host's resolv.conf")
		}
	}

	s.out.Resolver = plan.Resolver{}
	for key := range s.in.Sysctls {
		if strings.HasPrefix(key, "net.") {
			s.refuse("sysctls", fmt.Sprintf("%s belongs to the host's network", key), "set it on the host, or remove network_mode: host")
		}
	}
}

// networks attaches the service: highest gw_priority first, then highest priority, then by name.
func (s *service) networks() {
	if s.in.NetworkMode == "bridge" {
		s.t.defaultNetwork()
		s.out.Networks = []plan.Attachment{{Network: "default"}}
	}

	if s.in.NetworkMode != "" {
		return
	}

	names := slices.SortedFunc(maps.Keys(s.in.Networks), func(a, b string) int {
		x, y := attachment(s.in.Networks[a]), attachment(s.in.Networks[b])
		return cmp.Or(cmp.Compare(y.GatewayPriority, x.GatewayPriority), cmp.Compare(y.Priority, x.Priority), cmp.Compare(a, b))
	})
	for _, name := range names {
		_, ok := s.t.project.Networks[name]
		if !ok {
			continue // check has refused it
		}

		s.out.Networks = append(s.out.Networks, s.attach(name, attachment(s.in.Networks[name])))
	}
}

// defaultNetwork adds the stack's default network, which compose leaves out where no service names it.
func (t *translation) defaultNetwork() {
	if !slices.ContainsFunc(t.out.Networks, func(n plan.Network) bool { return n.Name == "default" }) {
		t.out.Networks = append(t.out.Networks, plan.Network{Name: "default", Incus: NetworkName(t.project.Name, "default")})
		slices.SortFunc(t.out.Networks, func(a, b plan.Network) int { return strings.Compare(a.Name, b.Name) })
	}
}

func attachment(c *types.ServiceNetworkConfig) types.ServiceNetworkConfig {
	if c == nil {
		return types.ServiceNetworkConfig{}
	}

	return *c
}

func (s *service) attach(name string, c types.ServiceNetworkConfig) plan.Attachment {
	key := s.key + ".networks." + name
	a := plan.Attachment{Network: name, Aliases: slices.Clone(c.Aliases), MAC: c.MacAddress, Config: s.t.scalars(key+".x-incus", c.Extensions[extIncus])}
	if s.in.ContainerName != s.out.ContainerName {
		a.Aliases = append(a.Aliases, s.in.ContainerName) // who knows it by this name finds it
	}

	slices.Sort(a.Aliases)
	a.Aliases = slices.Compact(a.Aliases)
	for _, alias := range a.Aliases {
		if alias == "" || len(alias) > 253 || strings.ContainsAny(alias, " \t\n,=/:") {
			s.t.refuse(key+".aliases", fmt.Sprintf("%q is not a host name", clip(alias)), "use letters, digits, hyphens and dots")
		}
	}

	s.checkMAC(key+".mac_address", c.MacAddress)
	internal := s.t.known(key+".x-incus-compose", c.Extensions[extCompose], "internal")["internal"]
	if fmt.Sprint(internal) == "true" {
		a.Config = noGateway(a.Config)
	}

	a.IPv4 = s.fixed(key+".ipv4_address", c.Ipv4Address, false)
	a.IPv6 = s.fixed(key+".ipv6_address", c.Ipv6Address, true)
	for _, opt := range slices.Sorted(maps.Keys(c.DriverOpts)) {
		if opt != optInterface {
			s.t.warn(key+".driver_opts."+opt, "ignored: set the NIC's keys with x-incus")
		}
	}

	a.Interface = cmp.Or(c.InterfaceName, c.DriverOpts[optInterface])
	if len(a.Interface) > 15 || strings.ContainsAny(a.Interface, "/: \t\n%") || a.Interface == "." || a.Interface == ".." {
		s.t.refuse(key+".interface_name", fmt.Sprintf("%q is not a name for an interface", clip(a.Interface)), "use 15 letters and digits at most")
	}

	return a
}

// fixed reads an address of the file's choice.
func (s *service) fixed(key, text string, six bool) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}

	// lxc/incus-compose wants a prefix length here; compose has none.
	bare, _, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddr(bare)
	switch {
	case err != nil || a.Is6() != six:
		s.t.refuse(key, fmt.Sprintf("%q is not an address of its family", text), `write it as "10.20.30.40", or "fd00:1:2:3::40" for IPv6`)
		return netip.Addr{}
	case s.in.GetScale() > 1:
		s.t.refuse(key, fmt.Sprintf("%d replicas cannot share one address", s.in.GetScale()), "remove it, or run one replica")
	}

	return a
}

func (s *service) checkMAC(key, mac string) {
	hw, err := net.ParseMAC(mac)
	if mac != "" && (err != nil || len(hw) != 6 || strings.ContainsAny(mac, "-.")) {
		s.t.refuse(key, fmt.Sprintf("%q is not a hardware address", mac), `write it as "02:42:ac:11:00:02"`)
	}

	if mac != "" && s.in.GetScale() > 1 {
		s.t.refuse(key, fmt.Sprintf("%d replicas cannot share one hardware address", s.in.GetScale()), "remove it, or run one replica")
	}
}

// noGateway takes the default route away, unless the user gives one.
func noGateway(config map[string]string) map[string]string {
	out := map[string]string{"ipv4.gateway": "none"}
	maps.Copy(out, config)

	return out
}

// macAddress is the old form, which means the first network.
func (s *service) macAddress() {
	if s.in.MacAddress == "" || len(s.out.Networks) == 0 {
		return
	}

	s.checkMAC(s.key+".mac_address", s.in.MacAddress)
	if s.out.Networks[0].MAC == "" {
		s.out.Networks[0].MAC = s.in.MacAddress
	}
}
