package plan

import (
	"net/netip"
	"slices"
)

// ServiceAddress is where our DNS server answers clients of networks whose gateway address has another server: the
// dnsmasq that Incus runs on bridges with DHCP or router advertisements. It is link-local (RFC 3927), and one of the
// host's own.
var ServiceAddress = netip.AddrFrom4([4]byte{169, 254, 53, 53})

// ReachesServiceAddress tells whether clients of a network of others have this host for their gateway, and so reach
// ServiceAddress. On OVN, macvlan and physical networks somebody else is.
func ReachesServiceAddress(n ObservedNetwork) bool {
	_, err := netip.ParsePrefix(n.Config["ipv4.address"])

	return err == nil && n.Managed && n.Type == "bridge"
}

// beside tells whether a service without a network of ours asks at ServiceAddress.
func (r *renderer) beside(s Service) bool {
	return slices.ContainsFunc(s.Networks, func(a Attachment) bool {
		return r.in.Beside[r.networks[a.Network].Incus]
	})
}
