package plan

import (
	"fmt"
	"maps"
	"slices"
)

// Release says which live patches take our mark off everything of a stack, so that it is nobody's. All other keys of ours
// stay: Adopt knows by them what it takes back.
func Release(stack, owner string, have Observed) Plan {
	p := Plan{Stack: stack}
	if have.Project == nil || have.Project.Config[KeyOwner] != owner || have.Project.Config[KeyStack] != stack {
		return p
	}

	off := map[string]string{KeyOwner: ""}
	step := func(id ID, op Op) {
		p.Steps = append(p.Steps, Step{N: len(p.Steps) + 1, On: id, Op: op, Cause: "released"})
	}
	for _, name := range slices.Sorted(maps.Keys(have.Instances)) {
		if have.Instances[name].Config[KeyOwner] == owner {
			step(ID{KindInstance, name}, UpdateInstance{Name: name, Config: off})
		}
	}

	for _, id := range slices.Sorted(maps.Keys(have.Volumes)) {
		v := have.Volumes[id]
		if v.of(stack, owner, have.Project) {
			step(ID{KindVolume, id}, UpdateVolume{Pool: v.Pool, Name: id[len(v.Pool)+1:], Set: off})
		}
	}

	for _, name := range slices.Sorted(maps.Keys(have.Networks)) {
		n := have.Networks[name]
		if n.Config[KeyOwner] == owner && n.Config[KeyStack] == stack {
			step(ID{KindNetwork, name}, UpdateNetwork{Name: name, Set: off})
		}
	}

	// The project comes last: as long as it is ours, what was broken off is ours to go on with.
	var all []int
	for _, s := range p.Steps {
		all = append(all, s.N)
	}

	step(ID{KindProject, have.Project.Name}, UpdateProject{Name: have.Project.Name, Set: off})
	p.Steps[len(p.Steps)-1].After = all

	return p
}

// Farewell says what of a stack ends with its release, because only we do it.
func Farewell(stack, owner string, have Observed, forwards []Forward) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(have.Networks)) {
		n := have.Networks[name]
		if n.Config[KeyOwner] == owner && n.Config[KeyStack] == stack && n.Config["dns.mode"] == "none" {
			out = append(out, fmt.Sprintf("Names are not answered on %s any more. Incus does it, and hands out addresses, after: incus network unset %s dns.mode; incus network unset %s ipv4.dhcp", name, name, name))
		}
	}

	for _, f := range forwards {
		out = append(out, fmt.Sprintf("%s is not forwarded to %s any more by the agent; a proxy device of the instance stays.", f.Listen, f.To))
	}

	return out
}
