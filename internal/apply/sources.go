package apply

import (
	"context"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// sources looks at what is mounted from the host: its directories, and the shares it has mounted itself.
func (l *Loop) sources(p plan.Project, in *plan.Input) {
	in.Paths, in.Shares = map[string]plan.HostPath{}, map[plan.Share]string{}
	for _, s := range p.Services {
		for _, m := range s.Mounts {
			switch {
			case m.Type != plan.MountBind:
			case m.Share.Device != "" && l.host.Mounted != nil:
				at := l.host.Mounted(m.Share)
				if at != "" {
					in.Shares[m.Share] = at
				}
			case m.Share.Device == "" && l.host.Look != nil:
				in.Paths[m.Source] = l.host.Look(m.Source)
			}
		}
	}
}

// subpaths finds the mounts of a directory that its volume does not have: Incus would make an empty one there. What an
// instance runs with is there, so a converged stack asks for nothing.
func (l *Loop) subpaths(ctx context.Context, p plan.Project, have plan.Observed) map[string]bool {
	lacks := map[string]bool{}
	asked := map[string]bool{}
	for _, s := range p.Services {
		for _, m := range s.Mounts {
			i := volumeIndex(p, m)
			if i < 0 || m.Subpath == "" || l.host.Within == nil || s.Replicas == 0 {
				continue
			}

			source := p.Volumes[i].Incus + "/" + m.Subpath
			if asked[source] || mounted(have, source) {
				continue
			}

			asked[source] = true
			if l.lacks(ctx, p, p.Volumes[i].Incus, m.Subpath, have) {
				lacks[source] = true
			}
		}
	}

	return lacks
}

// lacks asks the pools that hold a volume of the name. Where the answer does not come, Incus's own is waited for.
func (l *Loop) lacks(ctx context.Context, p plan.Project, volume, sub string, have plan.Observed) bool {
	for id, v := range have.Volumes {
		if id != v.Pool+"/"+volume {
			continue
		}

		there, err := l.host.Within(ctx, p.Incus, v.Pool, volume, sub)
		if there || err != nil {
			return false
		}
	}

	return true
}

func volumeIndex(p plan.Project, m plan.Mount) int {
	if m.Type == plan.MountVolume && m.Source != "" {
		for i, v := range p.Volumes {
			if v.Name == m.Source {
				return i
			}
		}
	}

	return -1
}

// mounted tells whether an instance runs with the path of a volume.
func mounted(have plan.Observed, source string) bool {
	for _, inst := range have.Instances {
		for _, dev := range inst.Devices {
			if inst.Status == plan.Running && dev["type"] == "disk" && dev["source"] == source {
				return true
			}
		}
	}

	return false
}
