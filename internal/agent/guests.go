package agent

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/dns"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// guest is an instance that no stack has, made by hand.
type guest struct {
	project, name string
	up            bool
	nics          []nic
}

// nic is an instance's place on a network.
type nic struct {
	network, mac string
	// addr is the address Incus was told to give it; the zero Addr when others gave it one.
	addr netip.Addr
}

// guests knows the instances made by hand, so that those on our networks have names. Run keeps it; the others read.
type guests struct {
	list    func(ctx context.Context) ([]incus.Owned, error)
	changed func()
	owner   string
	log     *slog.Logger
	woken   chan struct{}

	mu  sync.Mutex
	all []guest
}

const (
	// guestsSettle gathers events, guestsRetry is the time after a failure, guestsResync between looks without
	// any event.
	guestsSettle = 100 * time.Millisecond
	guestsRetry  = 5 * time.Second
	guestsResync = 5 * time.Minute
)

// hint has the list read again when an event may concern it; ours tells the projects of stacks, whose loops look
// after them.
func (g *guests) hint(h incus.Hint, ours func(project string) bool) {
	if !h.Resync && (h.Kind != "instance" || !relevant(h) || ours(h.Project)) {
		return
	}

	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// Run reads the list when an event asks for it, until ctx ends. What cannot be read stays as it was.
func (g *guests) Run(ctx context.Context) error {
	timer := time.NewTimer(guestsResync)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.woken:
			timer.Reset(guestsSettle)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		case <-timer.C:
		}

		all, err := g.list(ctx)
		if err != nil {
			g.log.DebugContext(ctx, "instances made by hand are not known", "err", err)
			timer.Reset(guestsRetry)
			continue
		}

		g.take(all)
		timer.Reset(guestsResync)
	}
}

func (g *guests) take(all []incus.Owned) {
	var found []guest
	for _, o := range all {
		if o.Instance.Config[plan.KeyOwner] != g.owner {
			found = append(found, guestOf(o))
		}
	}

	g.mu.Lock()
	news := !reflect.DeepEqual(found, g.all)
	g.all = found
	g.mu.Unlock()
	if news {
		g.changed()
	}
}

func (g *guests) get() []guest {
	g.mu.Lock()
	defer g.mu.Unlock()

	return g.all
}

func guestOf(o incus.Owned) guest {
	out := guest{project: o.Project, name: o.Name, up: o.Instance.Status == plan.Running}
	for name, d := range o.Instance.Devices {
		if d["type"] != "nic" {
			continue
		}

		out.nics = append(out.nics, nic{
			network: cmp.Or(d["network"], d["parent"]), mac: hardware(o.Instance, name), addr: o.Instance.Addresses[name],
		})
	}

	slices.SortFunc(out.nics, func(a, b nic) int {
		return cmp.Or(strings.Compare(a.network, b.network), strings.Compare(a.mac, b.mac))
	})

	return out
}

// hardware is a NIC's hardware address.
func hardware(i plan.ObservedInstance, device string) string {
	return strings.ToLower(cmp.Or(i.Devices[device]["hwaddr"], i.Config["volatile."+device+".hwaddr"]))
}

// record is the guest on networks we serve. An address that was neither given by Incus nor leased is believed
// when nobody else has it: everybody on a network may claim one.
func (g guest) record(nets []dns.Network, found addressBook, taken map[netip.Addr]bool) (dns.Record, bool) {
	r := dns.Record{Project: g.project, Service: g.name, Instance: g.name, Up: g.up}
	for _, n := range g.nics {
		served := slices.ContainsFunc(nets, func(s dns.Network) bool { return s.Name == n.network })
		if !served {
			continue
		}

		addr := cmp.Or(n.addr, found.leases[n.network][n.mac])
		seen := found.neighbours[n.network][n.mac]
		if !addr.IsValid() && !taken[seen] {
			addr = seen
		}

		r.On = append(r.On, dns.Interface{Network: n.network, Addr: addr})
	}

	return r, len(r.On) > 0
}

// networksOf are the networks the guests are on.
func networksOf(all []guest) []string {
	var out []string
	for _, g := range all {
		for _, n := range g.nics {
			out = append(out, n.network)
		}
	}

	slices.Sort(out)

	return slices.Compact(out)
}

// addressBook is who has which address by word of others, by network and hardware address.
type addressBook struct {
	leases, neighbours map[string]map[string]netip.Addr
}
