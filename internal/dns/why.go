package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

// why returns a line for each instance under the names: how it is, since when, for what reason, and what that
// means for the addresses of the name. Of a project it is a line for each of its instances.
func (z *Zone) why(v View, now time.Time, nodes []*node) []string {
	all := z.under(v, nodes)
	answered := pick(slices.Clone(all), netip.Addr.IsValid)
	var out []string
	done := map[*entry]bool{}
	for _, f := range all {
		e := f.entry
		if e == nil || done[e] || e.Instance == "" {
			continue
		}
		done[e] = true
		mine := func(o found) bool { return o.entry == e }
		addrs := v.nearestFirst(slices.DeleteFunc(slices.Clone(answered), func(o found) bool { return !mine(o) }))
		out = append(out, e.Instance+" "+e.condition(now)+": "+outcomeOf(e, addrs))
	}
	if len(out) == 0 {
		return []string{"declared, no instance yet"}
	}
	return out
}

// under returns who is under the names; the name of a project stands for all of the project.
func (z *Zone) under(v View, nodes []*node) []found {
	if !nodes[0].apex {
		return v.all(nodes)
	}
	var out []found
	for e := range z.everybody() {
		if nodes[0].name != e.Project+"."+z.origin {
			continue
		}
		for _, on := range e.On {
			if v.seesNet(on.Network) {
				out = append(out, found{seat{e, on.Addr}, on.Network})
			}
		}
	}
	return out
}

// condition is how an instance is: "unhealthy for 3m10s (exit status 1)".
func (e *entry) condition(now time.Time) string {
	s := e.state()
	if !now.IsZero() && !e.Since.IsZero() {
		s += " for " + now.Sub(e.Since).Round(time.Second).String()
	}
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	return s
}

// outcomeOf says what becomes of an instance in the answers.
func outcomeOf(e *entry, addrs []netip.Addr) string {
	switch {
	case len(addrs) > 0 && e.Unready:
		return "answered with " + join(addrs) + ", because none is ready"
	case len(addrs) > 0:
		return "answered with " + join(addrs)
	case !e.Up:
		return "not answered, because it does not run"
	case e.Draining:
		return "not answered, because it is about to stop"
	case e.Unready:
		return "not answered, because others are ready"
	}
	return "not answered, because its address is not known"
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// planned returns a line for each instance under the names that something is planned for.
func (z *Zone) planned(v View, nodes []*node) []string {
	var out []string
	for _, f := range z.under(v, nodes) {
		if f.entry == nil || f.entry.Plan == "" {
			continue
		}
		who := f.entry.Instance
		if who == "" {
			who = f.entry.Service
		}
		line := who + ": " + f.entry.Plan
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return []string{"nothing to do"}
	}
	return out
}
