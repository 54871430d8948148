package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// ports blocks instances whose host ports somebody else holds.
func (l *Loop) ports(ctx context.Context, want *plan.Desired, have plan.Observed) {
	if l.host.Ports == nil {
		return
	}

	all, fresh := l.resting(), []plan.Listen(nil)
	for _, w := range want.Instances {
		all = append(all, w.Listens...)
		for _, listen := range w.Listens {
			if !publishes(have.Instances[w.Name], listen) {
				fresh = append(fresh, listen)
			}
		}
	}

	held := l.host.Ports(ctx, l.stack, all, fresh)
	want.Instances = slices.DeleteFunc(want.Instances, func(w plan.DesiredInstance) bool {
		for _, listen := range w.Listens {
			who, taken := held[listen]
			if !taken {
				continue
			}

			want.Blocked = append(want.Blocked, plan.Blocked{
				On: plan.ID{Kind: plan.KindInstance, Name: w.Name}, At: listen.At, Temporary: true, Service: w.Service,
				Reason: fmt.Sprintf("the host port %s is taken by %s: publish another one, or stop what holds it", listen, who),
			})

			return true
		}

		return false
	})
}

// resting are the ports chosen for services that are scaled to nothing: nobody else gets them.
func (l *Loop) resting() []plan.Listen {
	var out []plan.Listen
	for _, s := range l.led.Project.Services {
		for _, port := range s.Ports {
			number := l.led.Ports[plan.PortKey(s.Name, port)]
			if s.Replicas > 0 || port.Published != 0 || number == 0 {
				continue
			}

			for _, ip := range port.IPs() {
				out = append(out, plan.Listen{Protocol: port.Protocol, IP: ip, Port: number, At: port.At})
			}
		}
	}

	return out
}

// publishes reports whether an instance has a proxy device for a listener.
func publishes(inst plan.ObservedInstance, listen plan.Listen) bool {
	for _, dev := range inst.Devices {
		if dev["type"] != "proxy" {
			continue
		}

		proto, rest, _ := strings.Cut(dev["listen"], ":")
		i := strings.LastIndex(rest, ":")
		if i < 0 || proto != listen.Protocol {
			continue
		}

		// A process of Incus's that listens everywhere holds the port for every address.
		at := strings.Trim(rest[:i], "[]")
		everywhere := dev["nat"] != "true" && (at == "0.0.0.0" || at == "::")
		if at != listen.IP.String() && !everywhere {
			continue
		}

		if slices.Contains(strings.Split(rest[i+1:], ","), fmt.Sprint(listen.Port)) {
			return true
		}
	}

	return false
}
