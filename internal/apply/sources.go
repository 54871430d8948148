package apply

import "github.com/incus-compose/ic-agent/internal/plan"

// sources looks at what is mounted from the host.
func (l *Loop) sources(p plan.Project) map[string]plan.HostPath {
	out := map[string]plan.HostPath{}
	for _, s := range p.Services {
		for _, m := range s.Mounts {
			if m.Type == plan.MountBind && l.host.Look != nil {
				out[m.Source] = l.host.Look(m.Source)
			}
		}
	}

	return out
}
