package dns

import (
	"net/netip"
	"strings"

	miekg "github.com/miekg/dns"
)

// The lifetimes we put on our own data, in seconds. An answer is stale the moment a container moves, so both
// are short; a name that is missing now may be started a second later, so that is even shorter (RFC 2308).
const (
	ttl         = 5
	negativeTTL = 2
)

// Question is what a client asks.
type Question struct {
	// Name is absolute, in presentation form, in the case the client wrote it.
	Name string
	// Type and Class are the numbers of RFC 1035.
	Type, Class uint16
}

// Answer is what a client gets.
type Answer struct {
	// Forward says that the answer is not ours: ask an upstream. All else is then zero.
	Forward bool
	// Rcode is the response code (RFC 1035 4.1.1).
	Rcode int
	// Authoritative is the AA flag: the answer is about our own names.
	Authoritative bool
	// RRs is the answer section, in a fixed order; their owner is the question's name as it was asked.
	RRs []miekg.RR
	// SOA is the authority section of a negative answer (RFC 2308); nil when there is none.
	SOA *miekg.SOA
	// Code and Text explain a refusal (RFC 8914); an empty Text means that there is nothing to explain.
	Code uint16
	Text string
}

// Answer decides what the view is told. It never touches the network: a name that is not ours comes back
// with Forward set.
func (z *Zone) Answer(v View, q Question) Answer {
	if z == nil {
		return Answer{Rcode: miekg.RcodeServerFailure, Code: miekg.ExtendedErrorCodeNotReady, Text: v.refused}
	}
	if !v.known {
		return refuse(v.refused)
	}
	if q.Class != miekg.ClassINET {
		return refuse("only class IN is served")
	}
	if meta(q.Type) {
		return refuse(miekg.Type(q.Type).String() + " is not offered")
	}
	name := miekg.CanonicalName(q.Name)
	if miekg.IsSubDomain(z.origin, name) {
		return z.own(v, q, name)
	}
	a, ok := z.reverse(v, q, name)
	if ok {
		return a
	}
	nodes := z.bareNodes(v, name)
	if len(nodes) > 0 {
		return z.data(v, q, nodes, ".")
	}
	a, ok = z.special(q, name)
	if ok {
		return a
	}
	if v.inside != "" {
		return refuse(v.inside)
	}
	return Answer{Forward: true}
}

// meta tells whether a type is no data but a request for something we do not do: transfers, OPT, TSIG and
// their like (RFC 6895 3.1). ANY is not among them.
func meta(t uint16) bool {
	return t == miekg.TypeOPT || t >= 128 && t < miekg.TypeANY
}

func refuse(why string) Answer {
	return Answer{Rcode: miekg.RcodeRefused, Code: miekg.ExtendedErrorCodeProhibited, Text: why}
}

// own answers a name below the origin.
func (z *Zone) own(v View, q Question, name string) Answer {
	n := z.nodes[name]
	if n == nil || !v.sees(n) {
		return z.negative(miekg.RcodeNameError, z.zoneOf(v, name))
	}
	return z.data(v, q, []*node{n}, z.zoneOf(v, name))
}

// zoneOf returns the apex above a name below the origin: the project's when the view may know of it.
func (z *Zone) zoneOf(v View, name string) string {
	labels := miekg.SplitDomainName(strings.TrimSuffix(name, z.origin))
	if len(labels) == 0 {
		return z.origin
	}
	apex := labels[len(labels)-1] + "." + z.origin
	n := z.nodes[apex]
	if n == nil || !n.apex || !v.sees(n) {
		return z.origin
	}
	return apex
}

// bareNodes returns what a name outside our zones means to the view: the name of its own project, else that
// of any project it shares a network with, as compose files that meet on an external network expect.
func (z *Zone) bareNodes(v View, name string) []*node {
	if v.host {
		return nil
	}
	var others []*node
	for _, n := range z.bare[relative(name)] {
		if !v.sees(n) {
			continue
		}
		if n.project == v.project {
			return []*node{n}
		}
		others = append(others, n)
	}
	return others
}

// data answers a name that exists; zone is the owner of the SOA that says what it has not.
func (z *Zone) data(v View, q Question, nodes []*node, zone string) Answer {
	var rrs []miekg.RR
	hdr := miekg.RR_Header{Name: q.Name, Rrtype: q.Type, Class: miekg.ClassINET, Ttl: ttl}
	apex := nodes[0].apex
	switch {
	case q.Type == miekg.TypeA || q.Type == miekg.TypeAAAA:
		rrs = addressRRs(q, v.addrs(nodes, q.Type == miekg.TypeA))
	case q.Type == miekg.TypeSOA && apex:
		rrs = []miekg.RR{z.soa(q.Name)}
	case q.Type == miekg.TypeNS && apex:
		rrs = []miekg.RR{&miekg.NS{Hdr: hdr, Ns: "ns." + z.origin}}
	case q.Type == miekg.TypeANY:
		rrs = []miekg.RR{minimal(q)}
	}
	return z.positive(rrs, zone)
}

// positive answers with the records, or says that the name has none of this type.
func (z *Zone) positive(rrs []miekg.RR, zone string) Answer {
	if len(rrs) == 0 {
		return z.negative(miekg.RcodeSuccess, zone)
	}
	return Answer{Authoritative: true, RRs: rrs}
}

// negative is an answer without data; the SOA's owner is the zone that says so.
func (z *Zone) negative(rcode int, zone string) Answer {
	soa := z.soa(zone)
	soa.Hdr.Ttl = negativeTTL
	return Answer{Rcode: rcode, Authoritative: true, SOA: soa}
}

// minimal is the answer to ANY, which nobody needs and amplifiers love (RFC 8482 4.2).
func minimal(q Question) miekg.RR {
	hdr := miekg.RR_Header{Name: q.Name, Rrtype: miekg.TypeHINFO, Class: miekg.ClassINET, Ttl: ttl}
	return &miekg.HINFO{Hdr: hdr, Cpu: "RFC8482"}
}

func (z *Zone) soa(owner string) *miekg.SOA {
	return &miekg.SOA{
		Hdr: miekg.RR_Header{Name: owner, Rrtype: miekg.TypeSOA, Class: miekg.ClassINET, Ttl: ttl},
		Ns:  "ns." + z.origin, Mbox: "hostmaster." + z.origin, Serial: z.serial,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: negativeTTL,
	}
}

func addressRRs(q Question, addrs []netip.Addr) []miekg.RR {
	rrs := make([]miekg.RR, 0, len(addrs))
	for _, a := range addrs {
		hdr := miekg.RR_Header{Name: q.Name, Rrtype: q.Type, Class: miekg.ClassINET, Ttl: ttl}
		if a.Is4() {
			rrs = append(rrs, &miekg.A{Hdr: hdr, A: a.AsSlice()})
		} else {
			rrs = append(rrs, &miekg.AAAA{Hdr: hdr, AAAA: a.AsSlice()})
		}
	}
	return rrs
}
