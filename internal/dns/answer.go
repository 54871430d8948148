package dns

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// The lifetimes we put on our own data, in seconds. An answer is stale the moment a container moves, so both
// are short; a name that is missing now may be started a second later, so that is even shorter (RFC 2308).
const (
	usualTTL     = 5
	usualMissing = 2
	longestTTL   = 60
)

// Question is what a client asks.
type Question struct {
	// Name is absolute, in presentation form, in the case the client wrote it.
	Name string
	// Type and Class are the numbers of RFC 1035.
	Type, Class uint16
	// At is when it was asked, for the ages in "_why"; the zero Time leaves them out.
	At time.Time
}

// Answer is what a client gets.
type Answer struct {
	// Forward says that the answer is not ours: ask an upstream. All else is then zero.
	Forward bool
	// Rcode is the response code (RFC 1035 4.1.1).
	Rcode int
	// Authoritative is the AA flag: the answer is about our own names.
	Authoritative bool
	// RRs is the answer section, in a fixed order; their owner is the question's name as it was asked. Near
	// of them are closer to the client than the rest and stay before it, however each part is turned.
	RRs  []miekg.RR
	Near int
	// Extra is the additional section: the addresses of what RRs points to.
	Extra []miekg.RR
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
	a, ok := z.private(v, q, name)
	if ok {
		return a
	}
	if miekg.IsSubDomain(z.origin, name) {
		m, ok := z.match(v, name, z.ownNodes)
		if !ok {
			return z.negative(miekg.RcodeNameError, z.zoneOf(v, name))
		}
		return z.data(v, q, m, z.zoneOf(v, name))
	}
	a, ok = z.reverse(v, q, name)
	if ok {
		return a
	}
	m, ok := z.match(v, name, z.bareNodes)
	if ok {
		return z.data(v, q, m, ".")
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

// zoneOf returns the apex above a name below the origin: the project's when the view may know of it.
func (z *Zone) zoneOf(v View, name string) string {
	labels := miekg.SplitDomainName(strings.TrimSuffix(name, z.origin))
	if len(labels) == 0 {
		return z.origin
	}
	apex := labels[len(labels)-1] + "." + z.origin
	n := z.nodes.get(apex)
	if n == nil || !n.apex || !v.sees(n) {
		return z.origin
	}
	return apex
}

// data answers a name that exists; zone is the owner of the SOA that says what it has not.
func (z *Zone) data(v View, q Question, m matched, zone string) Answer {
	if q.Type == miekg.TypeANY {
		return z.positive([]miekg.RR{z.minimal(q)}, zone)
	}
	switch m.part {
	case itself:
		return z.records(v, q, m.nodes, zone)
	case everyone:
		return z.addresses(v, q, alive(v.all(m.nodes), family(q.Type)), zone)
	case service:
		return z.services(v, q, m, zone)
	case reasons:
		return z.texts(q, z.why(v, q.At, m.nodes), zone)
	case plans:
		return z.texts(q, z.planned(v, m.nodes), zone)
	}
	return z.negative(miekg.RcodeSuccess, zone) // the way to services
}

// records answers a plain name.
func (z *Zone) records(v View, q Question, nodes []*node, zone string) Answer {
	apex := nodes[0].apex
	switch {
	case q.Type == miekg.TypeA || q.Type == miekg.TypeAAAA:
		return z.addresses(v, q, pick(v.all(nodes), family(q.Type)), zone)
	case q.Type == miekg.TypeSOA && apex:
		return z.positive([]miekg.RR{z.soa(q.Name)}, zone)
	case q.Type == miekg.TypeNS && apex:
		return z.positive([]miekg.RR{&miekg.NS{Hdr: z.header(q.Name, miekg.TypeNS), Ns: "ns." + z.origin}}, zone)
	}
	return z.negative(miekg.RcodeSuccess, zone)
}

// addresses answers with the addresses of one family.
func (z *Zone) addresses(v View, q Question, who []found, zone string) Answer {
	if q.Type != miekg.TypeA && q.Type != miekg.TypeAAAA {
		return z.negative(miekg.RcodeSuccess, zone)
	}
	addrs := v.nearestFirst(who)
	a := z.positive(z.addressRRs(q.Name, addrs), zone)
	a.Near = v.near(addrs)
	return a
}

// family tells addresses of the type asked for from others; all are of any other type's.
func family(qtype uint16) func(netip.Addr) bool {
	switch qtype {
	case miekg.TypeA:
		return netip.Addr.Is4
	case miekg.TypeAAAA:
		return netip.Addr.Is6
	}
	return netip.Addr.IsValid
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
	soa.Hdr.Ttl = z.missing
	return Answer{Rcode: rcode, Authoritative: true, SOA: soa}
}

func (z *Zone) header(owner string, rrtype uint16) miekg.RR_Header {
	return miekg.RR_Header{Name: owner, Rrtype: rrtype, Class: miekg.ClassINET, Ttl: z.ttl}
}

// minimal is the answer to ANY, which nobody needs and amplifiers love (RFC 8482 4.2).
func (z *Zone) minimal(q Question) miekg.RR {
	return &miekg.HINFO{Hdr: z.header(q.Name, miekg.TypeHINFO), Cpu: "RFC8482"}
}

func (z *Zone) soa(owner string) *miekg.SOA {
	return &miekg.SOA{
		Hdr: z.header(owner, miekg.TypeSOA),
		Ns:  "ns." + z.origin, Mbox: "hostmaster." + z.origin, Serial: z.serial,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: z.missing,
	}
}

func (z *Zone) addressRRs(owner string, addrs []netip.Addr) []miekg.RR {
	rrs := make([]miekg.RR, 0, len(addrs))
	for _, a := range addrs {
		if a.Is4() {
			rrs = append(rrs, &miekg.A{Hdr: z.header(owner, miekg.TypeA), A: a.AsSlice()})
		} else {
			rrs = append(rrs, &miekg.AAAA{Hdr: z.header(owner, miekg.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return rrs
}

// texts answers with one TXT record per line.
func (z *Zone) texts(q Question, lines []string, zone string) Answer {
	if q.Type != miekg.TypeTXT {
		return z.negative(miekg.RcodeSuccess, zone)
	}
	slices.Sort(lines)
	var rrs []miekg.RR
	for _, l := range lines {
		rrs = append(rrs, &miekg.TXT{Hdr: z.header(q.Name, miekg.TypeTXT), Txt: []string{textString(l)}})
	}
	return z.positive(rrs, zone)
}

// textString makes a line fit a character string (RFC 1035 3.3) in presentation form.
func textString(s string) string {
	const longest = 255
	if len(s) > longest {
		s = s[:longest-3] + "..."
	}
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}
