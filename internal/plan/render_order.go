package plan

import "strconv"

// order is the place of each service among those of its stack. Incus keeps it when the host goes down and comes up, also
// without us: it starts higher priorities first, and stops higher ones first. What has no priority it starts before all
// that have one (measured on 7.0.2), so all services of a stack have one as soon as any waits for another.
type order struct {
	// before counts, for each service, how many wait for it, one behind the other; after, for how many it waits.
	before, after map[string]int
	any           bool
}

func orderOf(services []Service) order {
	waiting, needed := map[string][]string{}, map[string][]string{}
	for _, s := range services {
		for _, dep := range s.DependsOn {
			waiting[dep.Service] = append(waiting[dep.Service], s.Name)
			needed[s.Name] = append(needed[s.Name], dep.Service)
		}
	}

	return order{before: lengths(services, waiting), after: lengths(services, needed), any: len(waiting) > 0}
}

// lengths returns the length of the longest chain that begins at each service.
func lengths(services []Service, next map[string][]string) map[string]int {
	out := make(map[string]int, len(services))
	open := map[string]bool{} // a cycle, which the file's loader refuses, ends where it began
	var visit func(service string) int
	visit = func(service string) int {
		length, done := out[service]
		if done || open[service] {
			return length
		}

		open[service] = true
		for _, n := range next[service] {
			length = max(length, 1+visit(n))
		}

		out[service] = length

		return length
	}
	for _, s := range services {
		visit(s.Name)
	}

	return out
}

// keys are the boot priorities of a service.
func (o order) keys(service string) map[string]string {
	keys := map[string]string{}
	if o.any {
		keys["boot.autostart.priority"] = strconv.Itoa(1 + o.before[service])
	}

	if n := o.after[service]; n > 0 {
		keys["boot.stop.priority"] = strconv.Itoa(n)
	}

	return keys
}
