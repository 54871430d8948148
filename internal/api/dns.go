package api

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// DNSReply is what is answered to whom.
type DNSReply struct {
	// Text is the whole explanation, as "ic-agent dns NAME" prints it.
	Text string `json:"text"`
	// Verdict is the answer in a word or two: "NOERROR", "NXDOMAIN", "no data", "forwarded", "REFUSED".
	Verdict string `json:"verdict"`
	// Answers are the records, one a line.
	Answers []string `json:"answers"`
}

// NamesReply is what the DNS server has and does.
type NamesReply struct {
	// Domain is what all names end in; Serial and TTL, in seconds, are its SOA's and its data's.
	Domain string `json:"domain"`
	Serial uint32 `json:"serial"`
	TTL    uint32 `json:"ttl"`
	// Since is when counting began.
	Since time.Time `json:"since,omitzero"`
	// Host says how this host itself finds the names; empty when there is nothing to find.
	Host string `json:"host,omitempty"`
	// Listeners are where it answers, Views whom, Zones what, and Upstreams are who is asked for all else.
	Listeners []NamesListener `json:"listeners"`
	Views     []NamesView     `json:"views"`
	Zones     []NamesZone     `json:"zones"`
	Upstreams []NamesUpstream `json:"upstreams"`
	Counts    NamesCounts     `json:"counts"`
}

// NamesListener is an address answered at.
type NamesListener struct {
	Addr string `json:"addr"`
	// For says who asks there: "shop/front", "the LAN", "networks beside dnsmasq".
	For string `json:"for"`
	// Error says why it does not answer, and what to do; empty when it does.
	Error string `json:"error,omitempty"`
}

// NamesView is who is told the same: the clients of a network, the host, the LAN, and strangers, who are refused.
type NamesView struct {
	// Name is "shop/front", "host", "the LAN" or "strangers"; Bridge the network's name in Incus, empty when it is none.
	Name    string   `json:"name"`
	Bridge  string   `json:"bridge,omitempty"`
	Subnets []string `json:"subnets,omitempty"`
	// Clients is how many instances are known there.
	Clients int `json:"clients"`
	// Foreign says what becomes of names that are not ours.
	Foreign string `json:"foreign"`
	// Replies are those sent, by code.
	Replies map[string]uint64 `json:"replies"`
}

// NamesZone is the zone of one project.
type NamesZone struct {
	Name string `json:"name"`
	// Names is how many it has, Instances how many are known, Answered how many of those run and are not about to stop.
	Names     int `json:"names"`
	Instances int `json:"instances"`
	Answered  int `json:"answered"`
}

// NamesUpstream is a name server of the host.
type NamesUpstream struct {
	Addr string `json:"addr"`
	// State is "answers", "does not answer", or "asks us back".
	State  string `json:"state"`
	Asked  uint64 `json:"asked"`
	Failed uint64 `json:"failed"`
}

// NamesCounts are totals.
type NamesCounts struct {
	// Questions came in, Forwarded of them went upstream, Unanswered of those in vain.
	Questions  uint64 `json:"questions"`
	Forwarded  uint64 `json:"forwarded"`
	Unanswered uint64 `json:"unanswered"`
	// Dropped were no questions; Strangers were refused, and so was Overload, which came too fast; Blocked pointed into
	// private address space.
	Dropped   uint64 `json:"dropped"`
	Strangers uint64 `json:"strangers"`
	Overload  uint64 `json:"overload"`
	Blocked   uint64 `json:"blocked"`
	// Kept is how many answers of others are kept, KeptBytes what they take, Hits how often one was given.
	Kept      int    `json:"kept"`
	KeptBytes int    `json:"kept_bytes"`
	Hits      uint64 `json:"hits"`
}

func (s *Server) dns(r *http.Request) (any, error) {
	q := r.URL.Query()
	if q.Get("name") == "" {
		return s.backend.Names(r.Context())
	}
	return s.backend.DNS(r.Context(), q.Get("name"), q.Get("from"))
}

// DNS asks what from, an instance or an address, is answered when it asks for name; an empty from is the host.
func (c *Client) DNS(ctx context.Context, name, from string) (DNSReply, error) {
	var reply DNSReply
	err := c.call(ctx, http.MethodGet, "/v1/dns?"+url.Values{"name": {name}, "from": {from}}.Encode(), nil, &reply)
	return reply, err
}

// Names asks what the DNS server has and does.
func (c *Client) Names(ctx context.Context) (NamesReply, error) {
	var reply NamesReply
	err := c.call(ctx, http.MethodGet, "/v1/dns", nil, &reply)
	return reply, err
}
