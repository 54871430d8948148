// Command serve is the agent's DNS server at 127.53.1.1, with a zone of every kind of answer a stub resolver meets.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/incus-compose/ic-agent/internal/dns"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	at := netip.MustParseAddr("127.53.1.1")
	net := dns.Network{
		Name: "front", Key: "front", Project: "shop", Gateway: at,
		Prefix: netip.MustParsePrefix("127.53.0.0/16"), Prefix6: netip.MustParsePrefix("fd00:53::/64"),
	}
	record := func(service string, n int, addrs ...string) dns.Record {
		r := dns.Record{Project: "shop", Service: service, Instance: fmt.Sprint(service, "-", n), Up: true}
		for _, a := range addrs {
			r.On = append(r.On, dns.Interface{Network: "front", Addr: netip.MustParseAddr(a)})
		}

		return r
	}
	recs := []dns.Record{
		record("v4only", 1, "127.53.2.1"), record("v6only", 1, "fd00:53::2"), record("dual", 1, "127.53.2.3", "fd00:53::3"),
	}
	for i := range 60 {
		recs = append(recs, record("many", i+1, fmt.Sprint("127.53.3.", i+1)))
	}

	s := dns.New(dns.Options{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("127.53.250.1:53")}})
	s.Publish(dns.Build("stub", 1, []dns.Network{net}, recs))
	s.Listen(ctx, []netip.AddrPort{netip.AddrPortFrom(at, 53)})
	if p := s.Status().Problems(); p != nil {
		fmt.Fprintln(os.Stderr, strings.Join(p, "; "))
		os.Exit(1)
	}

	_ = s.Run(ctx) // always nil
}
