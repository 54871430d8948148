package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	miekg "github.com/miekg/dns"
)

// private lists the address space whose reverse names mean something on this host only, so that asking the
// world about them tells it something and returns nothing (RFC 6303 4, RFC 7793).
var private = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.2.0/24", "192.168.0.0/16", "198.51.100.0/24", "203.0.113.0/24", "255.255.255.0/24",
	"::/124", "fc00::/7", "fe80::/10", "2001:db8::/32",
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// reverse answers names of in-addr.arpa and ip6.arpa that lie in a served network or in private space; ok
// is false for all others.
func (z *Zone) reverse(v View, q Question, name string) (Answer, bool) {
	at, exact, ok := parseReverse(name)
	if !ok {
		return Answer{}, false
	}
	served := slices.ContainsFunc(z.nets, func(n *network) bool {
		return within(at, n.Prefix) || within(at, n.Prefix6)
	})
	if !served && !slices.ContainsFunc(private, func(p netip.Prefix) bool { return within(at, p) }) {
		return Answer{}, false
	}
	apex := reverseApex(name, at)
	if exact && at.IsSingleIP() {
		targets := z.targets(v, at.Addr())
		if len(targets) == 0 {
			return z.negative(miekg.RcodeNameError, apex), true
		}
		return z.positive(z.pointerRRs(q, targets), apex), true
	}
	known := exact && (name == apex || slices.ContainsFunc(z.nets, func(n *network) bool {
		return at.Overlaps(n.Prefix) || at.Overlaps(n.Prefix6)
	}))
	if !known {
		return z.negative(miekg.RcodeNameError, apex), true
	}
	return z.data(v, q, matched{nodes: []*node{{apex: name == apex}}}, apex), true
}

// targets returns the names of the instances that run at an address, as far as the view sees them there.
func (z *Zone) targets(v View, a netip.Addr) []string {
	var out []string
	for _, c := range z.addrs.get(a) {
		if c.entry.Up && c.entry.Instance != "" && v.seesNet(c.net) && !slices.Contains(out, c.entry.target) {
			out = append(out, c.entry.target)
		}
	}
	slices.Sort(out)
	if len(out) == 0 && (a == loopback4 || a == netip.IPv6Loopback()) {
		return []string{"localhost."}
	}
	return out
}

func (z *Zone) pointerRRs(q Question, targets []string) []miekg.RR {
	if q.Type == miekg.TypeANY {
		return []miekg.RR{z.minimal(q)}
	}
	if q.Type != miekg.TypePTR {
		return nil
	}
	var rrs []miekg.RR
	for _, t := range targets {
		rrs = append(rrs, &miekg.PTR{Hdr: z.header(q.Name, miekg.TypePTR), Ptr: t})
	}
	return rrs
}

// reverseApex returns the zone that a reverse name belongs to: the one of RFC 6303 in private space, else that
// of its /24 or /64. A range that ends inside a label (172.16/12) is as many zones as the label has values.
func reverseApex(name string, at netip.Prefix) string {
	bits, step := 24, 8
	if at.Addr().Is6() {
		bits, step = 64, 4
	}
	for _, p := range private {
		if within(at, p) {
			bits = p.Bits()
		}
	}
	labels := miekg.SplitDomainName(name)
	keep := (bits+step-1)/step + 2 // and the two of in-addr.arpa
	return strings.Join(labels[max(0, len(labels)-keep):], ".") + "."
}

// within tells whether the whole of a lies in b.
func within(a, b netip.Prefix) bool {
	return b.IsValid() && a.Bits() >= b.Bits() && b.Contains(a.Addr())
}

// parseReverse reads a name of in-addr.arpa or ip6.arpa as the prefix its labels spell, a single address when
// all are there. Exact is false when labels follow that are no part of an address.
func parseReverse(name string) (p netip.Prefix, exact, ok bool) {
	labels := miekg.SplitDomainName(name)
	slices.Reverse(labels)
	if len(labels) < 3 || labels[0] != "arpa" {
		return p, false, false
	}
	switch labels[1] {
	case "in-addr":
		return reverseBits(labels[2:], 8, make([]byte, 4))
	case "ip6":
		return reverseBits(labels[2:], 4, make([]byte, 16))
	}
	return p, false, false
}

// reverseBits reads labels of step bits each, most significant first, into an address.
func reverseBits(labels []string, step int, addr []byte) (p netip.Prefix, exact, ok bool) {
	base := 10
	if step == 4 {
		base = 16
	}
	bits := 0
	for _, l := range labels {
		v, err := strconv.ParseUint(l, base, step)
		if err != nil || bits == len(addr)*8 || len(l) > 1 && (step == 4 || l[0] == '0') {
			break
		}
		addr[bits/8] |= byte(v) << (8 - step - bits%8)
		bits += step
	}
	a, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(a, bits), bits/step == len(labels), bits > 0
}
