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
		s.warn("network_mode", `there is no network shared by all stacks: write networks: instead; the service has no network`)
	case mode == "host":
		s.refuse("network_mode", "a service cannot use the host's network", "remove network_mode and publish ports with ports:")
	case strings.HasPrefix(mode, "service:"), strings.HasPrefix(mode, "container:"):
		s.refuse("network_mode", "a service cannot use another one's network", "remove network_mode, put both on one network and use the other's name")
	default:
		s.refuse("network_mode", fmt.Sprintf("unknown mode %q", mode), "remove it, or write none")
	}

	if mode != "" && len(s.in.Networks) > 0 {
		s.refuse("network_mode", "cannot be combined with networks", "remove one of the two")
	}
}

// networks attaches the service: highest gw_priority first, then highest priority, then by name.
func (s *service) networks() {
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

func attachment(c *types.ServiceNetworkConfig) types.ServiceNetworkConfig {
	if c == nil {
		return types.ServiceNetworkConfig{}
	}

	return *c
}

func (s *service) attach(name string, c types.ServiceNetworkConfig) plan.Attachment {
	key := s.key + ".networks." + name
	a := plan.Attachment{Network: name, Aliases: slices.Clone(c.Aliases), MAC: c.MacAddress, Interface: c.InterfaceName, Config: s.t.scalars(key+".x-incus", c.Extensions[extIncus])}
	slices.Sort(a.Aliases)
	a.Aliases = slices.Compact(a.Aliases)
	for _, alias := range a.Aliases {
		if alias == "" || len(alias) > 253 || strings.ContainsAny(alias, " \t\n,=/:") {
			s.t.refuse(key+".aliases", fmt.Sprintf("%q is not a host name", clip(alias)), "use letters, digits, hyphens and dots")
		}
	}

	if len(c.InterfaceName) > 15 || strings.ContainsAny(c.InterfaceName, " \t\n/:") {
		s.t.refuse(key+".interface_name", fmt.Sprintf("%q is not a name for an interface", clip(c.InterfaceName)), "use 15 letters and digits at most")
	}

	s.checkMAC(key+".mac_address", c.MacAddress)
	internal := s.t.known(key+".x-incus-compose", c.Extensions[extCompose], "internal")["internal"]
	if fmt.Sprint(internal) == "true" {
		a.Config = noGateway(a.Config)
	}

	if c.Ipv4Address != "" {
		// lxc/incus-compose wants a prefix length here; compose has none.
		text, _, _ := strings.Cut(c.Ipv4Address, "/")
		a.IPv4 = s.t.address(key+".ipv4_address", text, netip.Prefix{})
		if s.in.GetScale() > 1 {
			s.t.refuse(key+".ipv4_address", fmt.Sprintf("%d replicas cannot share one address", s.in.GetScale()), "remove it, or run one replica")
		}
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
