package dns

import (
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// neverAsked are the names that end here because no server in the world may know them: special use by RFC
// 6761 (invalid), 6762 (local), 7686 (onion). resolver.arpa would tell clients to go round us (RFC 9462 6.4).
var neverAsked = []string{"invalid.", "local.", "onion.", "resolver.arpa."}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// special answers the names that are not ours and still are nobody else's; ok is false for all others.
func (z *Zone) special(q Question, name string) (Answer, bool) {
	if miekg.IsSubDomain("localhost.", name) {
		return z.localhost(q), true
	}
	for _, zone := range neverAsked {
		if miekg.IsSubDomain(zone, name) {
			return z.negative(miekg.RcodeNameError, "."), true
		}
	}
	// A name of one label is a container's that is not there; passing it on would tell strangers our names.
	// What a validating resolver asks about a top-level domain must get through.
	if miekg.CountLabel(name) == 1 && q.Type != miekg.TypeDS && q.Type != miekg.TypeDNSKEY {
		return z.negative(miekg.RcodeNameError, "."), true
	}
	return Answer{}, false
}

// private answers the names that the client's instance alone is told; ok is false for all others.
func (z *Zone) private(v View, q Question, name string) (Answer, bool) {
	if v.shape == nil || len(v.shape.hosts) == 0 {
		return Answer{}, false
	}
	addrs := v.shape.hosts[name]
	if addrs == nil {
		return Answer{}, false
	}
	wanted := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return !a.IsValid() || q.Type == miekg.TypeA && !a.Is4() || q.Type == miekg.TypeAAAA && a.Is4()
	})
	if len(wanted) == 0 || q.Type != miekg.TypeA && q.Type != miekg.TypeAAAA {
		return z.negative(miekg.RcodeSuccess, "."), true
	}
	return z.positive(z.addressRRs(q.Name, wanted), "."), true
}

// localhost answers as RFC 6761 6.3 says.
func (z *Zone) localhost(q Question) Answer {
	switch q.Type {
	case miekg.TypeA:
		return z.positive(z.addressRRs(q.Name, []netip.Addr{loopback4}), ".")
	case miekg.TypeAAAA:
		return z.positive(z.addressRRs(q.Name, []netip.Addr{netip.IPv6Loopback()}), ".")
	}
	return z.negative(miekg.RcodeSuccess, ".")
}

// relative cuts the last dot off an absolute name.
func relative(name string) string { return strings.TrimSuffix(name, ".") }
