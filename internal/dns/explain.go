package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	miekg "github.com/miekg/dns"
)

// ErrNobody says that Explain was asked about an instance that the zone does not know.
var ErrNobody = errors.New("no such instance")

// Explanation says what somebody is told about a name, and why.
type Explanation struct {
	// Name is the name asked for, absolute; From who asks: "host", "web-1 of shop", or an address.
	Name, From string
	// Networks are those whose names From sees; nil for the host, which sees all.
	Networks []string
	// Answers are the records of types A, AAAA, SRV, TXT and PTR, one a line without the owner.
	Answers []string
	// Verdict is the answer in a word or two: "NOERROR", "NXDOMAIN", "no data", "forwarded", "REFUSED".
	Verdict string
	// Reason says why it is so; empty when the answers speak for themselves.
	Reason string
	// Instances has a line for each instance behind the name and what becomes of it.
	Instances []string
}

// String writes the explanation as a person reads it.
func (e Explanation) String() string {
	var b strings.Builder
	sees := "every network"
	switch {
	case e.Networks != nil:
		sees = strings.Join(e.Networks, ", ")
	case e.Verdict == "REFUSED":
		sees = "none"
	}
	fmt.Fprintf(&b, "%s, asked by %s (sees %s): %s\n", e.Name, e.From, sees, e.Verdict)
	if e.Reason != "" {
		fmt.Fprintf(&b, "  %s\n", e.Reason)
	}
	for _, l := range slices.Concat(e.Answers, e.Instances) {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}

// Explain says what is answered to a question for the name. From is an address, an instance ("web-1", or
// "shop/web-1" when several projects have one), or empty for the host. The error is ErrNobody, wrapped, for an
// instance that has no address here.
func (z *Zone) Explain(name, from string, now time.Time) (Explanation, error) {
	if z == nil {
		return Explanation{}, fmt.Errorf("%w: the agent does not know its networks yet", ErrNobody)
	}
	v, who, err := z.asker(from)
	if err != nil {
		return Explanation{}, err
	}
	e := Explanation{Name: miekg.Fqdn(name), From: who}
	if v.shape != nil {
		e.Networks = v.shape.nets
	}
	types := []uint16{miekg.TypeA, miekg.TypeAAAA, miekg.TypeSRV, miekg.TypeTXT, miekg.TypePTR}
	var first Answer
	for i, t := range types {
		a := z.Answer(v, Question{Name: e.Name, Type: t, Class: miekg.ClassINET, At: now})
		if i == 0 || len(first.RRs) == 0 && len(a.RRs) > 0 {
			first = a
		}
		for _, r := range a.RRs {
			e.Answers = append(e.Answers, strings.Join(strings.Fields(r.String())[3:], " "))
		}
	}
	e.judge(z, v, first)
	low := miekg.CanonicalName(name)
	base := z.bareNodes
	if miekg.IsSubDomain(z.origin, low) {
		base = z.ownNodes
	}
	m, ok := z.match(v, low, base)
	if ok && (m.part == itself || m.part == everyone || m.part == service) && !m.nodes[0].apex {
		e.Instances = sorting(z.why(v, now, m.nodes))
	}
	return e, nil
}

// judge puts an answer into words.
func (e *Explanation) judge(z *Zone, v View, a Answer) {
	low := strings.ToLower(e.Name)
	ours := miekg.IsSubDomain(z.origin, low)
	switch {
	case a.Forward:
		e.Verdict, e.Reason = "forwarded", "the name is not ours; the host's name servers are asked"
		if len(v.upstreams) > 0 {
			e.Reason = fmt.Sprintf("the name is not ours; %v are asked", v.upstreams)
		}
	case a.Rcode == miekg.RcodeSuccess && len(a.RRs) == 0:
		e.Verdict, e.Reason = "no data", "the name exists, and nothing under it can be answered"
	case a.Rcode == miekg.RcodeNameError && ours && z.nodes.get(low) != nil:
		e.Verdict, e.Reason = "NXDOMAIN", "the name exists on other networks only"
	case a.Rcode == miekg.RcodeNameError && len(z.bare.get(relative(low))) > 0:
		e.Verdict, e.Reason = "NXDOMAIN", "a name without its project is that of the asker's own; "+z.elsewhere(v, low)
	default:
		e.Verdict, e.Reason = miekg.RcodeToString[a.Rcode], a.Text
	}
}

// elsewhere says what a bare name that the view does not know is in full.
func (z *Zone) elsewhere(v View, low string) string {
	var all []string
	for _, abs := range z.bare.get(relative(low)) {
		all = append(all, relative(abs))
	}
	if v.host {
		return "ask for " + strings.Join(all, " or ")
	}
	return strings.Join(all, " and ") + " is on networks that this one is not on"
}

// asker finds the view of who is meant.
func (z *Zone) asker(from string) (View, string, error) {
	if from == "" || from == "host" {
		return View{known: true, host: true}, "host", nil
	}
	a, err := netip.ParseAddr(from)
	if err == nil {
		of := z.networkOf(a)
		switch {
		case z.gateways[a] != nil, of == nil && a.IsLoopback():
			return View{known: true, host: true}, from, nil
		case of == nil:
			return View{refused: from + " is on no managed network"}, from, nil
		}
		return z.clientView(of, a), from, nil
	}
	project, name, scoped := strings.Cut(from, "/")
	if !scoped {
		project, name = "", from
	}
	var found []*entry
	for e := range z.everybody() {
		if e.Instance == name && e.Instance != "" && (project == "" || e.Project == project) {
			found = append(found, e)
		}
	}
	if len(found) > 1 {
		return View{}, "", fmt.Errorf("%w alone called %q: say PROJECT/%s", ErrNobody, from, name)
	}
	for _, e := range found {
		for _, on := range e.On {
			of := z.networkOf(on.Addr)
			if of != nil && on.Addr.IsValid() {
				return z.clientView(of, on.Addr), e.Instance + " of " + e.Project, nil
			}
		}
	}
	return View{}, "", fmt.Errorf("%w: %q has no address on a managed network", ErrNobody, from)
}

func sorting(lines []string) []string {
	slices.Sort(lines)
	return lines
}
