package agent

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/publish"
)

// ports knows which stack publishes which host ports.
type ports struct {
	// probe tries a listener that nobody claims; it returns who holds it, or "".
	probe func(ctx context.Context, l plan.Listen) string

	mu      sync.Mutex // guards what follows
	claims  map[portNumber][]claim
	waiting map[string][]plan.Listen // what a stack could not have
	kick    chan struct{}            // holds one token when a claim was given up
}

type portNumber struct {
	protocol string
	port     uint16
}

type claim struct {
	stack string
	ip    netip.Addr
}

func newPorts(probe func(context.Context, plan.Listen) string) *ports {
	return &ports{probe: probe, claims: map[portNumber][]claim{}, waiting: map[string][]plan.Listen{}, kick: make(chan struct{}, 1)}
}

// claim notes all ports a stack publishes and returns, of the fresh ones, those that somebody else has.
func (p *ports) claim(ctx context.Context, stack string, all, fresh []plan.Listen) map[plan.Listen]string {
	p.mu.Lock()
	defer p.mu.Unlock()

	held := map[plan.Listen]string{}
	p.drop(stack)
	for _, l := range all {
		other := p.holder(stack, l)
		if other != "" {
			held[l] = "the stack " + other
			continue
		}

		p.add(stack, l)
	}

	tried := map[plan.Listen]bool{}
	for _, l := range fresh {
		if held[l] != "" || tried[l] {
			continue
		}

		tried[l] = true
		who := p.probe(ctx, l)
		if who != "" {
			held[l] = who
		}
	}

	delete(p.waiting, stack)
	for l := range held {
		p.waiting[stack] = append(p.waiting[stack], l)
	}

	return held
}

func (p *ports) add(stack string, l plan.Listen) {
	n := portNumber{l.Protocol, l.Port}
	c := claim{stack, l.IP}
	if !slices.Contains(p.claims[n], c) { // replicas share
		p.claims[n] = append(p.claims[n], c)
	}
}

// drop forgets a stack's claims; those that wait may have them.
func (p *ports) drop(stack string) {
	for n, claims := range p.claims {
		p.claims[n] = slices.DeleteFunc(claims, func(c claim) bool { return c.stack == stack })
		if len(p.claims[n]) == 0 {
			delete(p.claims, n)
		}
	}

	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *ports) holder(stack string, l plan.Listen) string {
	for _, c := range p.claims[portNumber{l.Protocol, l.Port}] {
		same := c.ip == l.IP || c.ip.Is4() == l.IP.Is4() && (c.ip.IsUnspecified() || l.IP.IsUnspecified())
		if c.stack != stack && same {
			return c.stack
		}
	}

	return ""
}

// release forgets a stack's ports.
func (p *ports) release(stack string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.drop(stack)
	delete(p.waiting, stack)
}

// The ports the agent chooses from lie above those the kernel gives to outgoing connections
// (net.ipv4.ip_local_port_range), which would otherwise be in the way some day.
const firstFree, lastFree = 61000, 65535

// free chooses a port for a stack: the first that nobody has, counted from a place that depends on what it is for.
func (p *ports) free(ctx context.Context, stack, key string, at []plan.Listen) uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()

	h := fnv.New32a()
	_, _ = h.Write([]byte(stack + "\x00" + key))
	const count = lastFree - firstFree + 1
	start := int(h.Sum32() % count)
	for i := range count {
		number := uint16(firstFree + (start+i)%count)
		taken := slices.ContainsFunc(at, func(l plan.Listen) bool {
			l.Port = number
			return len(p.claims[portNumber{l.Protocol, number}]) > 0 || p.probe(ctx, l) != ""
		})
		if !taken {
			for _, l := range at {
				l.Port = number
				p.add(stack, l)
			}

			return number
		}
	}

	return 0
}

// keep holds the ports that the ledger says were chosen for a stack.
func (p *ports) keep(l plan.Ledger) {
	if l.Project == nil {
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	for _, s := range l.Project.Services {
		for _, port := range s.Ports {
			number := l.Ports[plan.PortKey(s.Name, port)]
			for _, ip := range port.IPs() {
				if number != 0 {
					p.add(l.Stack, plan.Listen{Protocol: port.Protocol, IP: ip, Port: number})
				}
			}
		}
	}
}

// askFree is how often a port that somebody else has is asked for.
const askFree = time.Second

// watch wakes the stacks that wait for a port once it is free.
func (p *ports) watch(ctx context.Context, wake func(stack string)) error {
	for {
		var again <-chan time.Time
		if p.anyWaits() {
			again = time.After(askFree)
		}

		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		case <-again:
		}

		for _, stack := range p.freed(ctx) {
			wake(stack)
		}
	}
}

func (p *ports) anyWaits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	return len(p.waiting) > 0
}

// freed returns the stacks that may have a port they wait for; their next claim says whether they got it.
func (p *ports) freed(ctx context.Context) []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	var out []string
	for stack, listens := range p.waiting {
		if slices.ContainsFunc(listens, func(l plan.Listen) bool { return p.holder(stack, l) == "" && p.probe(ctx, l) == "" }) {
			delete(p.waiting, stack)
			out = append(out, stack)
		}
	}

	return out
}

// probePort asks whether a stranger has a port; one that we carry ourselves is none.
func (a *Agent) probePort(ctx context.Context, l plan.Listen) string {
	if a.local.Holds(publish.Port{Protocol: l.Protocol, Addr: l.IP, Number: l.Port}) {
		return ""
	}

	return bindProbe(ctx, l)
}

// bindProbe finds a listener of another program by trying to be one.
func bindProbe(ctx context.Context, l plan.Listen) string {
	addr := netip.AddrPortFrom(l.IP, l.Port).String()
	family := "4"
	if l.IP.Is6() {
		family = "6"
	}

	var lc net.ListenConfig
	var c interface{ Close() error }
	var err error
	if l.Protocol == "udp" {
		c, err = lc.ListenPacket(ctx, "udp"+family, addr)
	} else {
		c, err = lc.Listen(ctx, "tcp"+family, addr)
	}

	switch {
	case err == nil:
		_ = c.Close()
		return ""
	case errors.Is(err, syscall.EADDRINUSE):
		return listenerOf(l)
	case errors.Is(err, syscall.EADDRNOTAVAIL) && !l.IP.IsUnspecified():
		return "nobody, but the host has no address " + l.IP.String()
	}

	return "" // not allowed to try, or no such family: whoever needs it finds out
}

// services lists the ports to carry and what is behind each: of the instances that run the healthy ones, and all when
// none is.
func services(views []*apply.View) map[publish.Port]publish.Service {
	ready, all := map[publish.Port]publish.Service{}, map[publish.Port]publish.Service{}
	for _, v := range views {
		for _, w := range v.Desired.Instances {
			have := v.Observed.Instances[w.Name]
			if have.Status != plan.Running || have.Config[plan.KeyAdopted] != "" || have.Config[plan.KeyOwner] != v.Owner {
				continue // what others made has its own proxies
			}

			for _, f := range w.Forwards {
				port := publish.Port{Protocol: f.Protocol, Addr: f.IP, Number: f.Port}
				s := all[port]
				s.Targets, s.Header = append(s.Targets, f.To), f.Header
				all[port] = s
				if !unready(v, w.Name) {
					s = ready[port]
					s.Targets, s.Header = append(s.Targets, f.To), f.Header
					ready[port] = s
				}
			}
		}
	}

	maps.Copy(all, ready)

	return all
}
