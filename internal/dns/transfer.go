package dns

import (
	"net/netip"
	"slices"
	"strings"

	miekg "github.com/miekg/dns"
)

// transferRecords is how many records a message of a transfer has: far fewer than fill its 64 KiB.
const transferRecords = 400

// transfer returns the messages of a whole zone, when that is what was asked and who asks may have it (RFC 5936);
// nil leaves the question to answer, which refuses it. A difference (IXFR) is answered with the whole (RFC 1995 4).
func (s *Server) transfer(msg []byte, from arrival) [][]byte {
	if !slices.ContainsFunc(s.options.Transfer, func(p netip.Prefix) bool { return p.Contains(from.src) }) {
		return nil
	}
	q, z := readQuery(msg), s.published.Load().zone
	if q == nil || z == nil || q.rcode != miekg.RcodeSuccess || q.question.Class != miekg.ClassINET {
		return nil
	}
	if q.question.Type != miekg.TypeAXFR && q.question.Type != miekg.TypeIXFR {
		return nil
	}
	rrs := z.whole(miekg.CanonicalName(q.question.Name))
	var out [][]byte
	for part := range slices.Chunk(rrs, transferRecords) {
		m := miekg.Msg{Compress: true, Answer: part}
		m.Id, m.Response, m.Authoritative = q.id, true, true
		if len(out) == 0 {
			m.Question = []miekg.Question{{Name: q.question.Name, Qtype: q.question.Type, Qclass: miekg.ClassINET}}
		}
		b, err := m.Pack()
		if err != nil {
			return nil
		}
		out = append(out, b)
	}
	return out
}

// whole returns all records of a zone as the host sees them, its SOA first and last; nil when the name is no
// zone's. The zone of the origin has those of all projects in it.
func (z *Zone) whole(apex string) []miekg.RR {
	top := z.nodes.get(apex)
	if top == nil || !top.apex {
		return nil
	}
	host := View{known: true, host: true}
	out := []miekg.RR{z.soa(apex), &miekg.NS{Hdr: z.header(apex, miekg.TypeNS), Ns: "ns." + z.origin}}
	var names []string
	for _, m := range z.nodes.shard {
		for name := range m {
			if miekg.IsSubDomain(apex, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		nodes := []*node{z.nodes.get(name)}
		who := pick(host.all(nodes), netip.Addr.IsValid)
		out = append(out, z.addressRRs(name, host.nearestFirst(who))...)
		for _, port := range portNames(who) {
			m, ok := z.match(host, port+name, z.ownNodes)
			if ok {
				q := Question{Name: port + name, Type: miekg.TypeSRV, Class: miekg.ClassINET}
				out = append(out, z.services(host, q, m, apex).RRs...)
			}
		}
	}
	return append(out, z.soa(apex))
}

// portNames returns the labels under which the ports of instances are found: "_http._tcp.".
func portNames(who []found) []string {
	var out []string
	for _, f := range who {
		for _, proto := range []string{"tcp", "udp"} {
			for _, p := range f.offers("", proto) {
				for _, name := range []string{strings.ToLower(p.Name), usualNames[p.Number], itoa(p.Number)} {
					if name != "" {
						out = append(out, "_"+name+"._"+proto+".")
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
