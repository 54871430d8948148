package compose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// check looks for what does not fit together in the compose model.
func (t *translation) check() {
	if len(t.project.Services)+len(t.project.DisabledServices) == 0 {
		t.refuseAt(plan.Place{File: t.index.file, Line: 1}, "services", "the stack has no services", `add "services:" with at least one service`)
	}

	for _, name := range slices.Sorted(maps.Keys(t.project.Services)) {
		s := t.project.Services[name]
		t.checkDependencies("services."+name, s)
		t.checkReferences("services."+name, s)
		t.checkTargets("services."+name, s)
	}

	t.checkCycles()
}

func (t *translation) checkDependencies(key string, s types.ServiceConfig) {
	for _, name := range slices.Sorted(maps.Keys(s.DependsOn)) {
		at := t.listed(key+".depends_on", name)
		_, enabled := t.project.Services[name]
		_, disabled := t.project.DisabledServices[name]
		switch {
		case enabled, !s.DependsOn[name].Required:
		case disabled:
			t.refuseAt(at, key+".depends_on", fmt.Sprintf("the service %q is in a profile that is not enabled", name),
				"enable it with x-ic-agent.profiles or COMPOSE_PROFILES in .env, or write required: false")
		default:
			t.refuseAt(at, key+".depends_on", fmt.Sprintf("there is no service %q", name), didYouMean(name, slices.Sorted(maps.Keys(t.project.Services))))
		}
	}
}

func (t *translation) checkReferences(key string, s types.ServiceConfig) {
	for _, name := range slices.Sorted(maps.Keys(s.Networks)) {
		_, ok := t.project.Networks[name]
		if !ok {
			t.refuseAt(t.listed(key+".networks", name), key+".networks", fmt.Sprintf("the network %q is not defined", name),
				fmt.Sprintf("add %q under the top-level networks", name))
		}
	}

	for _, v := range s.Volumes {
		_, ok := t.project.Volumes[v.Source]
		if !ok && v.Type == types.VolumeTypeVolume && v.Source != "" {
			at := t.index.item(key+".volumes", func(item any) bool { return volumeTarget(item) == v.Target })
			t.refuseAt(at, key+".volumes", fmt.Sprintf("the volume %q is not defined", v.Source),
				fmt.Sprintf(`add %q under the top-level volumes, or write "./%s" for a directory`, v.Source, v.Source))
		}
	}
}

// checkTargets refuses two mounts or files at one path.
func (t *translation) checkTargets(key string, s types.ServiceConfig) {
	taken := map[string]string{}
	claim := func(list, target string) {
		by, twice := taken[target]
		if twice {
			t.refuse(key+"."+list, fmt.Sprintf("%s is mounted twice, by %s, too", target, by), "remove one of the two")
		}

		taken[target] = list
	}
	for _, v := range s.Volumes {
		claim("volumes", v.Target)
	}

	for _, entry := range s.Tmpfs {
		target, _, _ := strings.Cut(entry, ":")
		claim("tmpfs", target)
	}

	tree := ""
	for _, c := range s.Configs {
		claim("configs", configKind.target(types.FileReferenceConfig(c)))
	}

	for _, c := range s.Secrets {
		claim("secrets", secretKind.target(types.FileReferenceConfig(c)))
	}

	for target, list := range taken {
		if strings.HasPrefix(target, plan.SecretsDir+"/") && (list == "secrets" || list == "configs" && tree == "") {
			tree = list
		}
	}

	if tree != "" {
		claim(tree, plan.SecretsDir)
	}
}

// checkCycles names one cycle of depends_on for each service it begins with.
func (t *translation) checkCycles() {
	done := map[string]bool{}
	var visit func(path []string, name string) bool
	visit = func(path []string, name string) bool {
		i := slices.Index(path, name)
		if i >= 0 {
			loop := append(slices.Clone(path[i:]), name)
			key := "services." + loop[0] + ".depends_on"
			t.refuseAt(t.listed(key, loop[1]), key, "the services wait for each other: "+strings.Join(loop, " → "), "remove one of these dependencies")
			return true
		}

		if done[name] {
			return false
		}

		path = append(path, name)
		for _, next := range slices.Sorted(maps.Keys(t.project.Services[name].DependsOn)) {
			if visit(path, next) {
				return true
			}
		}

		done[name] = true

		return false
	}
	for _, name := range slices.Sorted(maps.Keys(t.project.Services)) {
		if visit(nil, name) {
			return
		}
	}
}

// checkTogether looks for names, ports and addresses that two objects of the plan claim.
func (t *translation) checkTogether() {
	t.checkInstances()
	t.checkPorts()
	t.checkAddresses()
	t.checkObjects()
}

func (t *translation) checkInstances() {
	owner := map[string]string{}
	for _, s := range t.out.Services {
		for i := range min(s.Replicas, maxReplicas) {
			name := plan.InstanceName(s, i+1)
			by, taken := owner[name]
			if taken && by != s.Name {
				t.refuse("services."+s.Name, fmt.Sprintf("its instance %s is also one of %s", name, by), "rename one of the services, or its container_name")
				break
			}

			owner[name] = s.Name
		}
	}
}

func (t *translation) checkPorts() {
	type listener struct {
		service string
		port    plan.Port
	}
	byPort := map[string][]listener{}
	for _, s := range t.out.Services {
		for _, p := range s.Ports {
			for n := int(p.Published); s.Replicas > 0 && p.Published > 0 && n <= int(p.PublishedEnd); n++ {
				sign := fmt.Sprintf("%d/%s", n, p.Protocol)
				for _, other := range byPort[sign] {
					if overlap(p.HostIP, other.port.HostIP) {
						t.refuseAt(p.At, "services."+s.Name+".ports", fmt.Sprintf("port %s of the host is already published by %s", sign, other.service),
							"choose another port of the host")
					}
				}

				byPort[sign] = append(byPort[sign], listener{s.Name, p})
			}
		}
	}
}

// overlap tells whether listeners on both addresses collide; the zero Addr is every address of both families.
func overlap(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() {
		return true
	}

	return a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// checkAddresses compares the fixed addresses of services with their networks and each other.
func (t *translation) checkAddresses() {
	networks := map[string]plan.Network{}
	for _, n := range t.out.Networks {
		networks[n.Name] = n
	}

	owner := map[string]string{}
	for _, s := range t.out.Services {
		for _, a := range s.Networks {
			n := networks[a.Network]
			for option, addr := range map[string]netip.Addr{"ipv4_address": a.IPv4, "ipv6_address": a.IPv6} {
				if !addr.IsValid() {
					continue
				}

				key := "services." + s.Name + ".networks." + a.Network + "." + option
				t.checkAddress(key, addr, n)
				sign := a.Network + "|" + addr.String()
				by, taken := owner[sign]
				if taken {
					t.refuse(key, fmt.Sprintf("%s is also the address of %s", addr, by), "choose another one")
				}

				owner[sign] = s.Name
			}
		}
	}
}

func (t *translation) checkAddress(key string, a netip.Addr, n plan.Network) {
	subnet, gateway := n.Subnet, n.Gateway
	if a.Is6() {
		subnet, gateway = n.Subnet6, n.Gateway6
	}

	switch {
	case n.External:
	case a.Is6() && !n.IPv6:
		t.refuse(key, fmt.Sprintf("the network %s has no IPv6", n.Name), fmt.Sprintf("write networks.%s.enable_ipv6: true", n.Name))
	case !subnet.IsValid():
		t.refuse(key, fmt.Sprintf("the network %s has no subnet of its own", n.Name), fmt.Sprintf("give networks.%s.ipam.config a subnet that holds %s", n.Name, a))
	case !subnet.Contains(a) || a == subnet.Addr() || a == lastOf(subnet):
		t.refuse(key, fmt.Sprintf("%s is not an address for a host in %s", a, subnet), "choose another one inside the subnet")
	case a == gateway, !gateway.IsValid() && a == subnet.Addr().Next():
		t.refuse(key, fmt.Sprintf("%s is the gateway of %s", a, n.Name), "choose another one")
	}
}

// checkObjects refuses two networks or volumes that would be one object in Incus.
func (t *translation) checkObjects() {
	owner := map[string]string{}
	for _, n := range t.out.Networks {
		by, taken := owner[n.Incus]
		if taken {
			t.refuse("networks."+n.Name, fmt.Sprintf("is called %s in Incus, as %s is", n.Incus, by), "rename one of the two")
		}

		owner[n.Incus] = n.Name
	}

	clear(owner)
	for _, v := range t.out.Volumes {
		sign := v.Pool + "/" + v.Incus
		by, taken := owner[sign]
		if taken {
			t.refuse("volumes."+v.Name, fmt.Sprintf("is called %s in Incus, as %s is", v.Incus, by), "rename one of the two")
		}

		owner[sign] = v.Name
	}
}
