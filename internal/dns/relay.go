package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	miekg "github.com/miekg/dns"
)

// The address families of RFC 7871 6.
const (
	family4 = 1
	family6 = 2
)

// subnet is the client that a name server says it asks for (EDNS client subnet, RFC 7871). It is read from everybody
// and believed of Options.Relays alone.
type subnet struct {
	// there is whether the option was; malformed whether it cannot be read.
	there, malformed bool
	// of is the client's address, or as much of it as the relay tells; a length of 0 means that it does not tell.
	of netip.Prefix
	// believed is whether the answer is for that client.
	believed bool
}

// readSubnet reads the option's data: family, length, an empty scope, and as many bytes of address as the length has.
func readSubnet(data []byte) subnet {
	bad := subnet{there: true, malformed: true}
	if len(data) < 4 {
		return bad
	}
	size := 4
	switch binary.BigEndian.Uint16(data) {
	case family4:
	case family6:
		size = 16
	default:
		return bad
	}
	bits, given := int(data[2]), data[4:]
	if bits > 8*size || data[3] != 0 || len(given) != (bits+7)/8 {
		return bad
	}
	raw := make([]byte, size)
	copy(raw, given)
	addr, _ := netip.AddrFromSlice(raw) // 4 or 16 bytes always are one
	of := netip.PrefixFrom(addr, bits)
	if of.Masked().Addr() != addr {
		return bad
	}
	return subnet{there: true, of: of}
}

// option returns the option for the reply: the answer is for this client and nobody else (RFC 7871 7.2.1).
func (s subnet) option() []byte {
	if !s.believed {
		return nil
	}
	family, raw := uint16(family4), s.of.Addr().AsSlice()
	if len(raw) == 16 {
		family = family6
	}
	raw = raw[:(s.of.Bits()+7)/8]
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 8+len(raw)), miekg.EDNS0SUBNET)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(raw)))
	b = binary.BigEndian.AppendUint16(b, family)
	b = append(b, uint8(s.of.Bits()), uint8(s.of.Bits()))
	return append(b, raw...)
}

// onBehalf tells whether the question comes from a relay that says for whom it asks.
func (s *Server) onBehalf(r *request) bool {
	sub := &r.q.subnet
	trusted := func(p netip.Prefix) bool { return p.Contains(r.src) }
	if !sub.there || r.q.rcode != miekg.RcodeSuccess || !slices.ContainsFunc(s.options.Relays, trusted) {
		return false
	}
	if sub.malformed {
		r.q.rcode = miekg.RcodeFormatError
		return false
	}
	sub.believed = true
	return sub.of.Bits() > 0
}

// relayedView is the view of the client a relay asks for. One whose address is not told whole is somebody on that
// network, no instance in particular.
func (z *Zone) relayedView(of netip.Prefix, otherwise func(client netip.Addr) View) View {
	if z == nil {
		return View{refused: "the agent does not know its networks yet"}
	}
	n := z.networkOf(of.Addr())
	switch {
	case n != nil && of.IsSingleIP():
		return z.clientView(n, of.Addr())
	case n != nil && (holdsAll(n.Prefix, of) || holdsAll(n.Prefix6, of)):
		return View{known: true, shape: n.guest, net: n, inside: n.inside, upstreams: n.upstreams}
	case n == nil && of.IsSingleIP():
		return otherwise(of.Addr())
	}
	return View{refused: fmt.Sprintf("%s is no client of ours", of)}
}

// holdsAll tells whether the network's prefix has all addresses of another one.
func holdsAll(network, p netip.Prefix) bool {
	return network.IsValid() && network.Bits() <= p.Bits() && network.Contains(p.Addr())
}
