package dns

import (
	"encoding/binary"
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
		switch r.typ {
		case miekg.TypeA, miekg.TypeAAAA:
			found = isInner(msg[r.data:r.end])
		case miekg.TypeHTTPS, miekg.TypeSVCB:
			found = hintsInside(msg, r)
		}
		return !found
	})
	return found
}

// isInner tells whether the bytes are an address of private space.
func isInner(b []byte) bool {
	a, ok := netip.AddrFromSlice(b)
	a = a.Unmap()
	return ok && slices.ContainsFunc(inner, func(p netip.Prefix) bool { return p.Contains(a) })
}

// The keys of addresses in HTTPS and SVCB records, and the length of an address of each (RFC 9460 14.3.2).
var hints = map[uint16]int{4: 4, 6: 16}

// hintsInside tells whether a service binding has an address of private space among its hints, which browsers use
// before they have asked for any.
func hintsInside(msg []byte, r rr) bool {
	off, _ := nameEnd(msg, r.data+2) // behind the priority
	for off >= 0 && off+4 <= r.end {
		size := hints[binary.BigEndian.Uint16(msg[off:])]
		next := off + 4 + int(binary.BigEndian.Uint16(msg[off+2:]))
		if next > r.end {
			return false
		}
		for at := off + 4; size > 0 && at+size <= next; at += size {
			if isInner(msg[at : at+size]) {
				return true
			}
		}
		off = next
	}
	return false
}

var rebound = Answer{
	Code: miekg.ExtendedErrorCodeFiltered, Text: "a foreign name points into private address space; allow its domain if that is meant",
}
