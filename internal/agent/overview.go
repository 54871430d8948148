package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/dns"
)

// DNS answers the API: what is answered to whom, and why.
func (a *Agent) DNS(_ context.Context, name, from string) (api.DNSReply, error) {
	e, err := a.zone.Load().Explain(name, from, time.Now())
	if err != nil {
		return api.DNSReply{}, &api.Error{Kind: api.NotFound, Text: err.Error(), Hint: "\"ic-agent status STACK\" lists the instances"}
	}

	return api.DNSReply{Text: e.String(), Verdict: e.Verdict, Answers: e.Answers}, nil
}

// Names answers the API: what the DNS server has and does.
func (a *Agent) Names(context.Context) (api.NamesReply, error) {
	st := a.dns.Status()
	how, problem := a.fromHost(st)
	if problem != "" {
		how += " (" + problem + ")"
	}

	r := namesOf(a.zone.Load().Overview(), st)
	r.Since, r.Host = a.since, how

	return r, nil
}

// namesOf puts what the zone has and what the server does together.
func namesOf(o dns.Overview, st dns.Status) api.NamesReply {
	r := api.NamesReply{Domain: o.Origin, Serial: o.Serial, TTL: o.TTL, Counts: countsOf(st)}
	for _, l := range st.Listeners {
		out := api.NamesListener{Addr: l.Want.String(), For: audience(o, l)}
		if l.Err != nil {
			out.Error = l.Err.Error()
		}

		r.Listeners = append(r.Listeners, out)
	}

	for _, v := range o.Views {
		out := api.NamesView{Name: v.Project + "/" + v.Key, Bridge: v.Name, Clients: v.Clients, Foreign: foreignNames(v), Replies: st.Replies[v.Name]}
		if v.Key == v.Name {
			out.Name = v.Name // of others
		}

		for _, p := range v.Subnets {
			out.Subnets = append(out.Subnets, p.String())
		}

		r.Views = append(r.Views, out)
	}

	r.Views = append(r.Views, api.NamesView{Name: "host", Foreign: "asked for", Replies: st.Replies["host"]})
	if slices.ContainsFunc(st.Listeners, func(l dns.ListenerStatus) bool { return l.LAN }) {
		r.Views = append(r.Views, api.NamesView{Name: "the LAN", Foreign: "refused", Replies: st.Replies["lan"]})
	}

	r.Views = append(r.Views,
		api.NamesView{Name: "strangers", Foreign: "refused, like all", Replies: st.Replies["stranger"]})
	for _, p := range o.Projects {
		r.Zones = append(r.Zones, api.NamesZone{Name: p.Zone, Names: p.Names, Instances: p.Instances, Answered: p.Answered})
	}

	for _, u := range st.Upstreams {
		out := api.NamesUpstream{Addr: u.Addr.String(), State: "answers", Asked: u.Asked, Failed: min(u.Asked, u.Failed)}
		switch {
		case u.Loops:
			out.State = "asks us back"
		case u.Down:
			out.State = "does not answer"
		}

		r.Upstreams = append(r.Upstreams, out)
	}

	return r
}

func countsOf(st dns.Status) api.NamesCounts {
	c := st.Counts

	return api.NamesCounts{
		Questions: c.Queries, Forwarded: c.Forwarded, Unanswered: c.Unanswered, Dropped: c.Dropped, Strangers: c.Strangers,
		Overload: c.Overload, Blocked: c.Blocked, Kept: st.Kept, KeptBytes: st.KeptBytes, Hits: st.Hits,
	}
}

// audience says who asks at an address.
func audience(o dns.Overview, l dns.ListenerStatus) string {
	if l.LAN {
		return "the LAN"
	}

	for _, v := range o.Views {
		if slices.Contains(v.Gateways, l.Want.Addr()) {
			return v.Project + "/" + v.Key
		}
	}

	if l.Want.Port() == besidePort {
		return "this host, beside dnsmasq"
	}

	return "networks beside dnsmasq"
}

// foreignNames says what becomes of names that are not ours when they are asked for on a network.
func foreignNames(v dns.ViewOverview) string {
	switch {
	case v.Inside != "":
		return "refused: internal"
	case len(v.Upstreams) == 0:
		return "asked for"
	}

	return "asked of " + strings.Join(textsOf(v.Upstreams), " ")
}

func textsOf(addrs []netip.AddrPort) []string {
	var out []string
	for _, a := range addrs {
		if a.Port() == 53 {
			out = append(out, a.Addr().String())
		} else {
			out = append(out, fmt.Sprint(a))
		}
	}

	return out
}
