package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/dns"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// zoning makes zones of what the loops see. What is known no more is kept as it was last known: before Incus has
// answered, the ledgers speak; a stack that is skipped, or of which Incus suddenly lists nothing, keeps its names.
// Only the goroutine that follows the views uses it, but for problems.
type zoning struct {
	log      *slog.Logger
	networks map[string][]netip.AddrPort // upstreams of one network each
	ttl      uint32
	// good are the last views with instances, by stack; at first those of the ledgers.
	good map[string]*apply.View
	// gone says since when Incus lists nothing of a stack.
	gone map[string]time.Time
	zone *dns.Zone
	// made are the records of the views last seen.
	made map[*apply.View]*dns.Group
	// said are the sentences about stacks in gone.
	said atomic.Pointer[[]string]
}

// believed is how long an empty list is taken for a mistake. The loop makes what is missing anew well before that.
const believed = 10 * time.Minute

// awayTTL is how long an answer may be kept while Incus is away, at most, in seconds.
const awayTTL = 5

func newZoning(log *slog.Logger, domain string, c dnsConfig, ledgers map[string]plan.Ledger) *zoning {
	z := &zoning{
		log: log, networks: c.networks, ttl: c.ttl, good: map[string]*apply.View{}, gone: map[string]time.Time{},
		zone: dns.Build(domain, uint32(time.Now().Unix()), nil, nil).Lasting(c.ttl),
	}
	z.said.Store(&[]string{})
	for stack, l := range ledgers {
		if l.Project != nil && l.RemovedAt.IsZero() && !l.Released {
			z.good[stack] = &apply.View{Stack: stack, State: apply.Waiting, Project: l.Project, Ledger: l}
		}
	}

	return z
}

// sight is what there is to see.
type sight struct {
	views []*apply.View
	// skipped are the stacks that are to be left alone.
	skipped []string
	// begun is whether every other stack has its loop.
	begun bool
	// away is whether Incus does not answer.
	away    bool
	subnets map[string]netip.Prefix
	// guests were made by hand; found is who has which address.
	guests []guest
	found  addressBook
}

// next is the zone of what is seen now.
func (z *zoning) next(s sight, now time.Time) ([]dns.Network, *dns.Zone) {
	views := z.trusted(s, now)
	nets := servedNetworks(views, s.subnets, z.networks)
	groups := z.group(views, s.found)
	groups = append(groups, &dns.Group{Records: hosted(s, nets, groups)})
	z.zone = z.zone.Next(z.zone.Serial()+1, nets, groups...)
	if s.away && z.ttl > awayTTL {
		return nets, z.zone.Lasting(awayTTL)
	}

	return nets, z.zone
}

// group makes the records of each stack. A view never changes, so those of one seen before are the same, unless somebody
// else gives the addresses.
func (z *zoning) group(views []*apply.View, found addressBook) []*dns.Group {
	made := map[*apply.View]*dns.Group{}
	out := make([]*dns.Group, 0, len(views)+1)
	for _, v := range views {
		g := z.made[v]
		if g == nil || leasing(v) {
			g = &dns.Group{Name: v.Stack, Records: declared(v, found)}
		}

		made[v] = g
		out = append(out, g)
	}

	z.made = made

	return out
}

// trusted puts what was last known in the place of what is known no more.
func (z *zoning) trusted(s sight, now time.Time) []*apply.View {
	var out []*apply.View
	there := map[string]bool{}
	for _, v := range s.views {
		there[v.Stack] = true
		out = append(out, z.trust(v, now))
	}

	for stack, v := range z.good {
		switch {
		case there[stack]:
		case !s.begun || slices.Contains(s.skipped, stack):
			out = append(out, v)
		default:
			delete(z.good, stack) // It goes on under another name.
		}
	}

	slices.SortFunc(out, func(a, b *apply.View) int { return strings.Compare(a.Stack, b.Stack) })
	z.tell()

	return out
}

// trust returns the view, or the last good one when this one says that everything has vanished. Whoever removes
// instances one by one is believed; a list that is empty at once, where the ledger and the files know better, is a
// failure of the one who made the list (B10).
func (z *zoning) trust(v *apply.View, now time.Time) *apply.View {
	good := z.good[v.Stack]
	switch {
	case v.State == apply.Removed || silent(v.State):
		delete(z.good, v.Stack)
		delete(z.gone, v.Stack)
		return v
	case v.Project == nil && good != nil && v.Turned.IsZero():
		return good // Its loop has not begun.
	case len(v.Observed.Instances) > 0 || v.Observed.Instances == nil:
		delete(z.gone, v.Stack)
		if v.Project != nil {
			z.good[v.Stack] = v
		}

		return v
	case good == nil || !served(good) || wanted(v) == 0 || deleting(v):
		return v
	}

	since, known := z.gone[v.Stack]
	if !known {
		since = now
		z.gone[v.Stack] = now
		z.log.Warn("Incus lists no instance of a stack that had some: its names are kept", "stack", v.Stack)
	}

	if now.Sub(since) > believed {
		return v
	}

	return good
}

// served tells whether the view has an instance that is answered.
func served(v *apply.View) bool {
	return v.Project != nil && slices.ContainsFunc(v.Project.Services, func(s plan.Service) bool {
		for i := 1; i <= s.Replicas; i++ {
			if up(v, plan.InstanceName(s, i)) {
				return true
			}
		}

		return false
	})
}

// wanted counts the instances the files ask for.
func wanted(v *apply.View) int {
	n := 0
	for _, s := range v.Project.Services {
		n += s.Replicas
	}

	return n
}

// deleting tells whether the loop itself removes instances.
func deleting(v *apply.View) bool {
	return slices.ContainsFunc(v.Plan.Steps, func(s plan.Step) bool {
		_, is := s.Op.(plan.DeleteInstance)
		return is
	})
}

// tell has the problems said.
func (z *zoning) tell() {
	said := []string{}
	for _, stack := range slices.Sorted(maps.Keys(z.gone)) {
		said = append(said, fmt.Sprintf("Incus has listed no instance of the stack %s since %s, where there were some: their names are still answered. "+
			"\"incus list --project PROJECT\" shows what Incus has", stack, z.gone[stack].Format(time.TimeOnly)))
	}

	z.said.Store(&said)
}

// problems are what users should know.
func (z *zoning) problems() []string { return *z.said.Load() }

// follow rebuilds the zone when a view has changed.
func (a *Agent) follow(ctx context.Context) error {
	for {
		err := a.rezone(ctx, time.Now())
		if err != nil {
			return err
		}

		a.show()

		var again <-chan time.Time
		if len(a.local.Problems()) > 0 {
			again = time.After(portRetry)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-a.publish:
		case <-again:
		}
	}
}

// show has systemd told how we are.
func (a *Agent) show() {
	select {
	case a.shown <- struct{}{}:
	default:
	}
}

// rezone publishes what is known now, listens where that asks for it, and tells the host.
func (a *Agent) rezone(ctx context.Context, now time.Time) error {
	begun := a.begun.Load() // before the views, which are then complete
	views, skipped := a.stacks.views()
	a.stacks.wake(views)
	subnets, err := a.db.Subnets()
	if err != nil {
		return fmt.Errorf("read ledger: %w", err) // The next start finds the damage and rebuilds.
	}

	_, asked, away := a.server.get()
	byHand := a.guests.get()
	found := addressBook{leases: a.leases.of(foreignNetworks(views))}
	if len(byHand) > 0 {
		found.neighbours = a.neighbours.of(networksOf(byHand))
	}

	nets, zone := a.zoning.next(sight{views, skipped, begun, asked && away != nil, subnets, byHand, found}, now)
	a.zone.Store(zone)
	a.dns.Publish(zone)
	a.dns.Listen(ctx, a.addresses(nets))
	if a.resolved != nil {
		a.resolved.Use(dns.Links(a.conf.Settings.domain(), nets))
	}

	a.local.Set(ctx, services(views))

	return nil
}

// fromHost says how the host itself finds the names, and what is wrong with that; empty when nothing is, or when
// there is nothing to find.
func (a *Agent) fromHost(st dns.Status) (how, problem string) {
	if len(st.Listeners) == 0 {
		return "", ""
	}

	if a.resolved == nil {
		return "by asking our addresses (dns.host is off)", ""
	}

	resolvConf, _ := os.ReadFile("/etc/resolv.conf") // what cannot be read counts as empty, as for libc
	nsswitch, _ := os.ReadFile("/etc/nsswitch.conf")
	asks := dns.HostAsks(string(resolvConf), string(nsswitch))
	present, err := a.resolved.Status()
	switch {
	case asks != "systemd-resolved" || !present:
		return "by asking our addresses alone: its names come from " + asks + ", see docs/dns.md", ""
	case err != nil:
		return "by asking our addresses alone", "systemd-resolved does not let us say where this host finds our names: install polkitd, or set dns.host = false: " + err.Error()
	}

	return "by systemd-resolved", ""
}

// addresses are where the DNS server listens: on the gateway of every managed network, and, for clients of networks
// whose gateway has another server, at the service address.
func (a *Agent) addresses(nets []dns.Network) []netip.AddrPort {
	port := a.conf.DNSPort
	if port == 0 {
		port = 53
	}

	var out []netip.AddrPort
	if a.conf.DNSAddrs != nil {
		for _, addr := range a.conf.DNSAddrs {
			out = append(out, netip.AddrPortFrom(addr, port))
		}

		return out
	}

	beside := false
	for _, n := range nets {
		for _, gw := range []netip.Addr{n.Gateway, n.Gateway6} {
			if gw.IsValid() {
				out = append(out, netip.AddrPortFrom(gw, port))
			}
		}

		if a.resolved != nil && n.Beside.IsValid() {
			out = append(out, n.Beside)
		}

		beside = beside || !n.Gateway.IsValid() && !n.Gateway6.IsValid()
	}

	if beside {
		out = append(out, netip.AddrPortFrom(plan.ServiceAddress, port))
	}

	return out
}
