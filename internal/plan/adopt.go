package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Adopted begins the cause of each step of Adopt; what it ends besides follows behind "; ".
const Adopted = "adopted"

// Adopt says which live patches make a project's objects ours: those that have the names the file gives them and no
// owner. It returns the patches as a plan, what there is once they are made, and as Blocked what belongs to another
// agent. Networks keep their way, dnsmasq included, unless the user says so: then they become ours altogether, which
// reaches the instances on them at their next restart.
func Adopt(p Project, owner string, have Observed, networks bool) (Plan, Observed) {
	a := adopter{p: p, owner: owner, have: have, out: Plan{Stack: p.Stack}}
	a.have.Networks, a.have.Volumes = maps.Clone(have.Networks), maps.Clone(have.Volumes)
	a.have.Instances = maps.Clone(have.Instances)
	if have.Project == nil {
		return a.out, have
	}

	id := ID{KindProject, p.Incus}
	if a.free(id, have.Project.Config) {
		project := *have.Project
		set := map[string]string{KeyOwner: owner, KeyStack: p.Stack, KeyAdopted: "true", KeyManaged: "true"}
		if a.ours(project.Config) {
			set = map[string]string{KeyOwner: owner, KeyStack: p.Stack}
		}

		project.Config = a.mark(id, project.Config, set, UpdateProject{Name: p.Incus, Set: set})
		a.have.Project = &project
	}

	for _, n := range p.Networks {
		a.network(n, networks)
	}

	for _, v := range p.Volumes {
		a.volume(v)
	}

	for _, s := range p.Services {
		for i := 1; i <= s.Replicas; i++ {
			a.instance(s, i)
		}
	}

	return a.out, a.have
}

type adopter struct {
	p     Project
	owner string
	have  Observed
	out   Plan
}

// free reports whether an object has no owner; one of another agent is blocked.
func (a *adopter) free(id ID, config map[string]string) bool {
	owner := config[KeyOwner]
	if owner != "" && owner != a.owner {
		a.out.Blocked = append(a.out.Blocked, Blocked{
			On: id, Conflict: true, Reason: "it belongs to another ic-agent, " + owner + ": release it there first",
		})
	}

	return owner == ""
}

// ours reports whether an object was made by an ic-agent and released: it is as such an object is, and needs only its
// owner again.
func (a *adopter) ours(config map[string]string) bool {
	return config[KeyStack] != "" && config[KeyOwner] == "" && config[KeyAdopted] == ""
}

// mark adds a patch and returns the keys as they are after it.
func (a *adopter) mark(id ID, config, set map[string]string, op Op) map[string]string {
	a.out.Steps = append(a.out.Steps, Step{N: len(a.out.Steps) + 1, On: id, Op: op, Cause: Adopted})
	after := maps.Clone(config)
	if after == nil {
		after = map[string]string{}
	}

	for k, v := range set {
		after[k] = v
		if v == "" {
			delete(after, k)
		}
	}

	return after
}

func (a *adopter) network(n Network, convert bool) {
	id := ID{KindNetwork, n.Incus}
	have, ok := a.have.Networks[n.Incus]
	mine := ok && have.Config[KeyOwner] == a.owner && have.Config[KeyAdopted] != ""
	if n.External || !ok || !mine && !a.free(id, have.Config) {
		return
	}

	set := map[string]string{KeyOwner: a.owner, KeyStack: a.p.Stack, KeyName: n.Name, KeyAdopted: "true"}
	cause := Adopted
	switch {
	case !mine && a.ours(have.Config):
		set = map[string]string{KeyOwner: a.owner, KeyStack: a.p.Stack}
	case mine && !convert:
		return
	case convert:
		delete(set, KeyAdopted)
		cause += a.convert(n, have.Config, set)
	}

	have.Config = a.mark(id, have.Config, set, UpdateNetwork{Name: n.Incus, Set: set})
	a.out.Steps[len(a.out.Steps)-1].Cause = cause
	a.have.Networks[n.Incus] = have
}

// convert takes a network out of the hands of dnsmasq, and returns what that ends. What dnsmasq was told goes with it;
// lines of the user's own stay. IPv6 goes unless the file has it.
func (a *adopter) convert(n Network, have, set map[string]string) string {
	for _, k := range []string{KeyAdopted, "ipv4.dhcp.ranges", "ipv6.dhcp.ranges", "ipv6.dhcp.stateful", "ipv6.nat"} {
		_, there := have[k]
		if there {
			set[k] = ""
		}
	}

	ends := "; the agent hands out addresses and answers names in place of dnsmasq"
	raw, there := have["raw.dnsmasq"]
	if there {
		theirs, own := splitLines(raw)
		set["raw.dnsmasq"] = strings.Join(own, "\n")
		if n.IPv6 { // Its router advertisements are dnsmasq's, which is told nothing else then.
			theirs = append(theirs, own...)
		}

		if len(theirs) > 0 {
			ends += fmt.Sprintf("; of raw.dnsmasq go %q", theirs)
		}
	}

	six := have["ipv6.address"]
	if n.IPv6 {
		return ends
	}

	set["ipv6.address"] = "none"
	if six != "" && six != "none" {
		ends += "; IPv6 goes (" + six + "): the file has no enable_ipv6 for it"
	}

	return ends
}

// splitLines parts the lines of raw.dnsmasq that lxc/incus-compose wrote from all others.
func splitLines(raw string) (theirs, others []string) {
	for line := range strings.Lines(raw) {
		line = strings.TrimRight(line, "\n")
		word, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch word {
		case "":
		case "address", "cname":
			theirs = append(theirs, line)
		default:
			others = append(others, line)
		}
	}

	return theirs, others
}

func (a *adopter) volume(v Volume) {
	pool := v.Pool
	if pool == "" {
		pool = a.have.Server.Pool
	}

	id := ID{KindVolume, pool + "/" + v.Incus}
	have, ok := a.have.Volumes[id.Name]
	if v.External || !ok || !a.free(id, have.Config) {
		return
	}

	set := map[string]string{KeyOwner: a.owner, KeyStack: a.p.Stack, KeyName: v.Name}
	have.Config = a.mark(id, have.Config, set, UpdateVolume{Pool: pool, Name: v.Incus, Set: set})
	a.have.Volumes[id.Name] = have
}

func (a *adopter) instance(s Service, index int) {
	name := InstanceName(s, index)
	id := ID{KindInstance, name}
	have, ok := a.have.Instances[name]
	if !ok || !a.free(id, have.Config) {
		return
	}

	set := map[string]string{
		KeyOwner: a.owner, KeyStack: a.p.Stack, KeyService: s.Name, KeyIndex: strconv.Itoa(index), KeyAdopted: "true",
		KeyManaged: "true", KeyComposeProject: a.p.Name, KeyComposeService: s.Name,
		KeyKeys: strings.Join(madeKeys(have.Config), " "), KeyDevices: strings.Join(madeDevices(have.Devices), " "),
	}
	if a.ours(have.Config) {
		set = map[string]string{KeyOwner: a.owner, KeyStack: a.p.Stack}
	}

	have.Config = a.mark(id, have.Config, set, UpdateInstance{Name: name, Config: set})
	a.have.Instances[name] = have
}

// madeKeys are the keys that the making of an instance set, and that its first change by us may take away.
func madeKeys(config map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(config)) {
		for _, made := range []string{"oci.", "environment.", "boot.auto", "raw.lxc"} {
			if strings.HasPrefix(k, made) {
				out = append(out, k)
			}
		}
	}

	return out
}

func madeDevices(devices map[string]Device) []string {
	out := slices.Sorted(maps.Keys(devices))

	return slices.DeleteFunc(out, func(n string) bool { return devices[n]["path"] == "/" })
}
