package dns

import (
	"net/netip"
	"slices"

	miekg "github.com/miekg/dns"
)

// inner is the address space that a public name must not point to: one that does makes a browser inside talk
// to our machines for somebody outside (DNS rebinding).
var inner = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
	"::/127", "fc00::/7", "fe80::/10",
)

// Rebinding says what becomes of foreign names that point into private address space. The zero value lets them
// pass, as resolvers of a homelab's own domains need.
type Rebinding struct {
	// Block answers them with no data.
	Block bool
	// Allow are domains that may, with all below them: "lan", "home.example.org".
	Allow []string
}

// blocks tells whether an answer to a name must not be passed on.
func (r Rebinding) blocks(name string, answer []byte) bool {
	if !r.Block || !pointsInside(answer) {
		return false
	}
	return !slices.ContainsFunc(r.Allow, func(d string) bool { return miekg.IsSubDomain(miekg.CanonicalName(d), name) })
}

// pointsInside tells whether an answer has an address of private space.
func pointsInside(msg []byte) bool {
	found := false
	eachRR(msg, func(_ int, r rr) bool {
		if r.typ != miekg.TypeA && r.typ != miekg.TypeAAAA {
			return true
		}
		a, ok := netip.AddrFromSlice(msg[r.data:r.end])
		a = a.Unmap()
		found = found || ok && slices.ContainsFunc(inner, func(p netip.Prefix) bool { return p.Contains(a) })
		return !found
	})
	return found
}

var rebound = Answer{
	Code: miekg.ExtendedErrorCodeFiltered, Text: "a foreign name points into private address space; allow its domain if that is meant",
}
