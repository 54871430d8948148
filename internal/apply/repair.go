package apply

import (
	"context"
	"errors"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// begun notes the rebuilds of a plan before the first step: one that is broken off leaves half a root filesystem, which
// Incus does not show.
func (l *Loop) begun(p plan.Plan) {
	l.whole = map[string]bool{}
	for _, s := range p.Steps {
		rebuild, ok := s.Op.(plan.RebuildInstance)
		if ok && l.led.Rootless[rebuild.Name] == "" {
			l.whole[rebuild.Name] = true
			l.rootless(rebuild.Name, plan.RootBegun)
		}
	}
}

func (l *Loop) rootless(instance string, root plan.Root) {
	if l.led.Rootless == nil {
		l.led.Rootless = map[string]plan.Root{}
	}

	l.led.Rootless[instance] = root
}

// rooted keeps what is known of root filesystems in step with how a step ended.
func (l *Loop) rooted(ctx context.Context, o outcome) {
	name, known := o.step.On.Name, l.led.Rootless[o.step.On.Name]
	_, rebuild := o.step.Op.(plan.RebuildInstance)
	_, create := o.step.Op.(plan.CreateInstance)
	if o.step.On.Kind != plan.KindInstance {
		return
	}

	switch {
	case o.err == nil && (rebuild || create):
		delete(l.led.Rootless, name)
	case o.err == nil:
	case l.host.Rootless != nil && l.host.Rootless(o.err):
		next := plan.RootLost
		if rebuild {
			next = plan.RootGone
		}

		l.rootless(name, next)
		if known != next {
			l.repair = true
			l.log.WarnContext(ctx, "instance lost its root filesystem: it is made anew, volumes and addresses stay", "instance", name, "err", o.err)
		}
	case rebuild && l.whole[name] && (errors.Is(o.err, errSkipped) || l.host.Refused != nil && l.host.Refused(o.err)):
		delete(l.led.Rootless, name) // Nothing was touched.
	}
}
