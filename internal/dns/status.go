package dns

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
)

// Status is the server's state at one moment.
type Status struct {
	// Serial is the published zone's, Names how many names it has; both 0 before the first one.
	Serial uint32
	Names  int
	// Listeners are the wanted addresses in their order.
	Listeners []ListenerStatus
	// Upstreams are the resolvers foreign names are asked from, in the host's order.
	Upstreams []UpstreamStatus
	// Counts are the totals since the server was made.
	Counts Counts
	// Replies are those sent by view (see View.String) and code.
	Replies map[string]map[string]uint64
	// Kept is how many answers of upstreams are kept, KeptBytes what they take, Hits how often one was given.
	Kept, KeptBytes int
	Hits            uint64
}

// ListenerStatus is an address we are to answer at.
type ListenerStatus struct {
	// Want is the address asked for, Addr the one bound, which differs in the port when Want has none. Addr
	// is the zero AddrPort while it is not bound.
	Want, Addr netip.AddrPort
	// LAN is whether it is for machines beyond our networks.
	LAN bool
	// Err says why it is not bound and what to do; nil when it is.
	Err error
	// Retry is when it is tried again; the zero Time when it is bound.
	Retry time.Time
}

// UpstreamStatus is a resolver of the host.
type UpstreamStatus struct {
	Addr netip.AddrPort
	// Down is whether it left the last question unanswered.
	Down bool
	// Loops is whether it asks us back what we ask it. It is left out until that ends.
	Loops bool
	// Asked is how many questions it got, Failed how many of them it did not answer.
	Asked, Failed uint64
}

// Counts are totals of messages.
type Counts struct {
	// Queries came in; Dropped of them were no questions and got no reply; Strangers were refused because
	// they are on no network of ours.
	Queries, Dropped, Strangers uint64
	// Forwarded went to an upstream, Unanswered of them in vain; Overload were refused because too many
	// were under way or their client asked too fast; Blocked pointed into private address space.
	Forwarded, Unanswered, Overload, Blocked uint64
}

// Problems returns one sentence for each thing that is wrong, in a fixed order; none when all is well.
func (s Status) Problems() []string {
	var out []string
	for _, l := range s.Listeners {
		if l.Err != nil {
			out = append(out, "dns: "+l.Err.Error())
		}
	}
	down := 0
	for _, u := range s.Upstreams {
		if u.Down {
			down++
		}
		if u.Loops {
			out = append(out, fmt.Sprintf("dns: name server %s asks this server back what it is asked: "+
				"take our addresses out of its forwarders", u.Addr))
		}
	}
	if down > 0 && down == len(s.Upstreams) {
		out = append(out, fmt.Sprintf("dns: none of the host's %d name servers answers", down))
	}
	return out
}

// String says it in a few words: "3 listeners, 12 names".
func (s Status) String() string {
	open := 0
	for _, l := range s.Listeners {
		if l.Err == nil {
			open++
		}
	}
	if open < len(s.Listeners) {
		return fmt.Sprintf("%d of %d listeners, %d names", open, len(s.Listeners), s.Names)
	}
	return fmt.Sprintf("%d listeners, %d names", open, s.Names)
}

// counters are Counts while they grow; the queries are the replies of all views and the dropped.
type counters struct {
	dropped, strangers, forwarded, unanswered, overload, blocked atomic.Uint64
}

func (c *counters) read() Counts {
	return Counts{
		Dropped: c.dropped.Load(), Strangers: c.strangers.Load(), Forwarded: c.forwarded.Load(),
		Unanswered: c.unanswered.Load(), Overload: c.overload.Load(), Blocked: c.blocked.Load(),
	}
}
