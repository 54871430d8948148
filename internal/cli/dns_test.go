package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/api"
)

// someNames has a stack of two networks, a listener that somebody is in the way of, and a name server that is away.
var someNames = api.NamesReply{
	Domain: "incus", Serial: 7, TTL: 5, Since: now.Add(-3 * time.Hour), Host: "by systemd-resolved",
	Listeners: []api.NamesListener{
		{Addr: "10.201.1.1:53", For: "shop/front"},
		{Addr: "10.201.2.1:53", For: "shop/back", Error: "10.201.2.1:53 is taken by another program"},
	},
	Views: []api.NamesView{
		{
			Name: "shop/front", Bridge: "shop-front", Subnets: []string{"10.201.1.0/24", "fd00:1::/64"}, Clients: 3, Foreign: "asked for",
			Replies: map[string]uint64{"NXDOMAIN": 7, "NOERROR": 1234567},
		},
		{Name: "shop/back", Bridge: "shop-back", Subnets: []string{"10.201.2.0/24"}, Clients: 1, Foreign: "refused: internal"},
		{Name: "host", Foreign: "asked for"},
	},
	Zones:     []api.NamesZone{{Name: "shop.incus", Names: 6, Instances: 4, Answered: 3}},
	Upstreams: []api.NamesUpstream{{Addr: "192.0.2.53:53", State: "does not answer", Asked: 12, Failed: 12}},
	Counts:    api.NamesCounts{Questions: 1234574, Forwarded: 12, Unanswered: 12, Kept: 2, KeptBytes: 1500},
}

func TestDNSServerIsShown(t *testing.T) {
	for name, tc := range map[string]struct {
		reply api.NamesReply
		want  string
	}{
		"a stack": {someNames, `6 names below incus; an answer lives 5 s; this host finds them by systemd-resolved

LISTENER       FOR         STATE
10.201.1.1:53  shop/front  answers
10.201.2.1:53  shop/back   10.201.2.1:53 is taken by another program

WHO ASKS    BRIDGE      SUBNETS                    INSTANCES  FOREIGN NAMES      REPLIES
shop/front  shop-front  10.201.1.0/24 fd00:1::/64  3          asked for          1,234,567 NOERROR, 7 NXDOMAIN
shop/back   shop-back   10.201.2.0/24              1          refused: internal  -
host                                               -          asked for          -

ZONE        NAMES  INSTANCES  ANSWERED
shop.incus  6      4          3

NAME SERVER    STATE            ASKED  FAILED
192.0.2.53:53  does not answer  12     12

1,234,574 questions in 3 h, 12 passed on, 12 nobody could answer; 2 answers of others kept (2 KiB)
`},
		"nothing": {api.NamesReply{Domain: "incus", TTL: 5}, `0 names below incus; an answer lives 5 s

no listeners: there is no stack with a network

no zones: there is no stack

no name servers: this host has none in /etc/resolv.conf, so that foreign names are not found

0 questions; 0 answers of others kept
`},
	} {
		var out bytes.Buffer
		view{w: &out, now: now}.names(tc.reply)
		if diff := cmp.Diff(tc.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
