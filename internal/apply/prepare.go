package apply

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// prepare finds the images and addresses a project needs; what it cannot find is in the input as a reason.
func (l *Loop) prepare(ctx context.Context, p plan.Project, have plan.Observed) plan.Input {
	in := plan.Input{
		Owner: l.host.Owner, Pool: have.Server.Pool, Domain: l.host.Domain, FilesDir: l.host.FilesDir,
		Segments: map[string]plan.Segment{}, Foreign: map[string]plan.Foreign{}, Addresses: map[string]map[string]netip.Addr{},
		Beside: map[string]bool{}, Homes: plan.Homes(have, l.host.Owner),
	}
	in.Images, in.Missing, in.Blocked = l.images(ctx, p, have)
	l.sources(p, &in)
	in.Lacks = l.subpaths(ctx, p, have)
	for _, n := range p.Networks {
		old, there := have.Networks[n.Incus]
		if n.External && old.Config[plan.KeyOwner] != l.host.Owner || old.Config[plan.KeyAdopted] != "" {
			in.Beside[n.Incus] = plan.ReachesServiceAddress(old)
			if there && old.Config[plan.KeyAdopted] == "" { // Somebody else hands out the addresses there.
				in.Foreign[n.Incus] = plan.Foreign{Unmanaged: !old.Managed, IPv6: old.Config["ipv6.address"] != "none"}
			}

			continue
		}

		l.addresses(p, n, have, &in)
	}

	l.led.Addresses = in.Addresses
	l.led.Ports = l.chosenPorts(ctx, p)
	in.Ports = l.led.Ports

	return in
}

// addresses hands out those of one network, of each family it has.
func (l *Loop) addresses(p plan.Project, n plan.Network, have plan.Observed, in *plan.Input) {
	for _, f := range []family{v4, v6} {
		if !f.of(n, have.Networks[n.Incus]) {
			continue
		}

		seg, err := l.segment(n, f, have)
		if err != nil {
			in.Blocked = append(in.Blocked, l.blockNetwork(p, n, f, err)...)
			in.Addresses[f.key(n.Incus)] = l.led.Addresses[f.key(n.Incus)] // what runs has them still

			return
		}

		key := f.key(n.Incus)
		in.Segments[key] = seg
		if asked := f.asked(n); asked.Subnet.IsValid() && asked.Subnet.Masked() != seg.Subnet {
			b := plan.Blocked{
				On: plan.ID{Kind: plan.KindNetwork, Name: n.Incus}, At: n.At,
				Reason: fmt.Sprintf("its subnet stays %s: for %s it has to be made anew, which interrupts all services on it; allow that with \"x-ic-agent: {allow: [network-recreate]}\"",
					seg.Subnet, asked.Subnet),
			}
			if shut := l.shut(time.Now()); l.rebuilds() && shut != nil {
				b.Type, b.Waits = plan.TypeScheduled, true
				b.Reason = fmt.Sprintf("its subnet stays %s: that it becomes %s interrupts all services on it, and waits for %s; \"ic-agent apply %s --now\" does not wait",
					seg.Subnet, asked.Subnet, shut, l.stack)
				l.lookAt(shut.Look)
			}

			in.Blocked = append(in.Blocked, b)
		}

		addrs, blocked := l.host.book.allocate(l.stack, key, seg, leases(p, n, f), l.led.Addresses[key], existing(have))
		in.Addresses[key] = addrs
		in.Blocked = append(in.Blocked, blocked...)
	}
}

// chosenPorts finds a host port for those that name none: the one they have, or a free one. A service that is scaled to
// nothing keeps what it has.
func (l *Loop) chosenPorts(ctx context.Context, p plan.Project) map[string]uint16 {
	out := map[string]uint16{}
	for _, s := range p.Services {
		for _, port := range s.Ports {
			key := plan.PortKey(s.Name, port)
			had := l.led.Ports[key]
			if port.Published != 0 || s.Replicas == 0 && had == 0 {
				continue
			}

			out[key] = had
			if had != 0 || l.host.FreePort == nil {
				continue
			}

			var at []plan.Listen
			for _, ip := range port.IPs() {
				at = append(at, plan.Listen{Protocol: port.Protocol, IP: ip})
			}

			out[key] = l.host.FreePort(ctx, l.stack, key, at)
		}
	}

	return out
}

func existing(have plan.Observed) map[string]bool {
	out := map[string]bool{}
	for name := range have.Instances {
		out[name] = true
	}

	return out
}
