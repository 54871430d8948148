package dns

import (
	"fmt"
	"net/netip"
	"slices"
)

// LAN lets machines beyond our networks ask for our names, and nothing else. The zero value is off.
type LAN struct {
	// Addrs are the host's addresses they ask at. An address of a managed network is not for them.
	Addrs []netip.AddrPort
	// Allow are who may ask; all others are refused.
	Allow []netip.Prefix
}

// view is what a machine on the LAN is told: every name, and no foreign one, so that nobody can use us as an
// open resolver. The host itself needs no permission.
func (l LAN) view(local, src netip.Addr) View {
	if src != local && !slices.ContainsFunc(l.Allow, func(p netip.Prefix) bool { return p.Contains(src) }) {
		return View{refused: fmt.Sprintf("%s is not on the access list", src)}
	}
	return View{known: true, host: true, lan: true, inside: "the LAN is told our names only"}
}
