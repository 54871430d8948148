package cli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// colours says whether w shows colours: a terminal, unless NO_COLOR (no-color.org) or TERM say otherwise.
func colours(w io.Writer) palette {
	f, ok := w.(*os.File)
	return palette(ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// view prints a Status for people.
type view struct {
	w   io.Writer
	now time.Time
	palette
}

func (v view) printf(format string, args ...any) { fmt.Fprintf(v.w, format, args...) }

// all prints a line for each stack, what is wrong with them, and how the agent itself is.
func (v view) all(s api.Status) {
	t := table{palette: v.palette}
	t.head("STACK", "STATE", "SERVICES", "GENERATION", "SOURCE")
	for _, st := range s.Stacks {
		t.row(plainCell(st.Name), v.state(st.State), services(st), generation(st), plainCell(st.Source))
	}
	if len(s.Stacks) > 0 {
		t.print(v.w, "")
	} else {
		v.printf("no stacks: put a compose file into /etc/incus-compose.d\n")
	}
	wrong := false
	for _, st := range s.Stacks {
		for _, c := range st.Conditions {
			if !wrong {
				v.printf("\n")
			}
			wrong = true
			v.printf("%s: %s\n", v.paint(bold, st.Name), hang(condition(c)))
		}
	}
	v.available(s.Stacks)
	v.pulls(s.Pulls)
	v.printf("\n%s\n", v.agent(s))
	for _, p := range s.Problems {
		v.printf("%s %s\n", v.paint(yellow, "problem:"), p)
	}
	for _, addr := range slices.Sorted(maps.Keys(s.DNS.Failed)) {
		if !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, s.DNS.Failed[addr]) }) {
			v.printf("%s no names are answered at %s: %s\n", v.paint(yellow, "problem:"), addr, s.DNS.Failed[addr])
		}
	}
}

// agent says in one line how the agent, Incus and the DNS server are.
func (v view) agent(s api.Status) string {
	parts := []string{"ic-agent " + s.Version}
	if !s.Since.IsZero() {
		parts[0] += ", up " + since(s.Since, v.now)
	}
	parts = append(parts, v.incus(s.Incus))
	names := fmt.Sprintf("DNS: %s, %s", plan.Count(len(s.DNS.Listeners), "listener"), plan.Count(s.DNS.Names, "name"))
	if s.DNS.Host != "" {
		names += ", found from here " + s.DNS.Host
	}
	parts = append(parts, names)
	return strings.Join(parts, "; ")
}

func (v view) incus(i api.Incus) string {
	switch {
	case i.OK:
		return "Incus " + i.Version
	case i.Error == "":
		return "Incus not asked yet"
	}
	return v.paint(red, "Incus is away") + " (" + i.Error + ")"
}

func (v view) state(s api.State) cell {
	switch s {
	case api.InSync:
		return cell{string(s), green}
	case api.Blocked, api.Invalid:
		return cell{string(s), red}
	case api.Skipped, api.Parked, api.Released:
		return plainCell(string(s))
	}
	return cell{string(s), yellow}
}

// services counts those of which every instance runs.
func services(s api.Stack) cell {
	if len(s.Services) == 0 {
		return plainCell("-")
	}
	n := 0
	for _, svc := range s.Services {
		if svc.Running >= svc.Want {
			n++
		}
	}
	return plainCell(fmt.Sprintf("%d/%d", n, len(s.Services)))
}

func generation(s api.Stack) cell {
	if s.Generation == 0 {
		return plainCell("-")
	}
	return plainCell(strconv.FormatUint(s.Generation, 10))
}

// condition prints "Blocked instance/web-1: text".
func condition(c api.Condition) string {
	if c.Object != "" {
		return c.Type + " " + c.Object + ": " + c.Text
	}
	return c.Type + ": " + c.Text
}

// one prints a stack with everything that is known of it.
func (v view) one(s api.Stack, incus api.Incus) {
	state := v.state(s.State)
	v.printf("%s: %s", v.paint(bold, s.Name), v.paint(state.colour, state.text))
	if s.Generation > 0 {
		v.printf(", generation %d", s.Generation)
	}
	if !s.LastApplied.IsZero() {
		v.printf(", applied %s", ago(s.LastApplied, v.now))
	}
	if s.State != api.InSync && s.Next.After(v.now) {
		v.printf(", next look %s", ago(s.Next, v.now))
	}
	v.printf("\n")
	var t table
	for _, f := range [][2]string{{"source", s.Source}, {"project", s.Project}} {
		if f[1] != "" {
			t.row(plainCell(f[0]), plainCell(f[1]))
		}
	}
	if incus.Error != "" {
		t.row(plainCell("incus"), plainCell("away: "+incus.Error))
	}
	t.print(v.w, "  ")
	if len(s.Services) > 0 {
		v.printf("\n")
		v.services(s.Services)
	}
	v.list("Parked", len(s.Parked), func(i int) string {
		p := s.Parked[i]
		return fmt.Sprintf("%s, parked %s, kept for %s more", p.Name, ago(p.Since, v.now), span(time.Duration(p.Left)*time.Second))
	})
	v.list("Volumes that stay", len(s.Volumes), func(i int) string { return s.Volumes[i] })
	v.list("Volumes that nothing uses, kept until you delete them", len(s.Unused), func(i int) string {
		pool, name, _ := strings.Cut(s.Unused[i], "/")
		return fmt.Sprintf("%s: \"incus storage volume delete %s %s --project %s\" deletes it, with all data in it", s.Unused[i], pool, name, s.Project)
	})
	if len(s.Parked)+len(s.Volumes) > 0 && (s.State == api.Parked || s.State == api.Orphaned) {
		v.printf("\nThe file's return brings it back; \"ic-agent destroy %s [--volumes]\" deletes it.\n", s.Name)
	}
	v.list("Conditions", len(s.Conditions), func(i int) string {
		c := s.Conditions[i]
		lasts := since(c.Since, v.now)
		if lasts != "" {
			lasts = " (for " + lasts + ")"
		}
		return condition(c) + lasts
	})
	v.updates(s.Services)
	v.list("Warnings", len(s.Warnings), func(i int) string {
		w := s.Warnings[i]
		return place(filepath.Base(w.File), w.Line, 0) + keyed(w.Key) + w.Text
	})
	steps := stepsOf(s.Plan)
	if steps != "" {
		v.printf("\n%s\n%s\n", v.paint(bold, "Plan"), indent(steps))
	}
}

// stepsOf is a plan without what stands above it as conditions and warnings; "" when it has no steps.
func stepsOf(plan string) string {
	var kept []string
	steps := false
	for line := range strings.Lines(plan) {
		first, _, _ := strings.Cut(line, " ")
		if slices.Contains([]string{"blocked", "waiting", "conflict", "warning"}, first) {
			continue
		}
		steps = steps || strings.HasPrefix(line, "[")
		kept = append(kept, line)
	}
	if !steps {
		return ""
	}
	return strings.TrimRight(strings.Join(kept, ""), "\n")
}

// services prints a line for each instance, and for each service that has none.
func (v view) services(all []api.Service) {
	t := table{palette: v.palette}
	t.head("SERVICE", "IMAGE", "INSTANCE", "STATUS", "SINCE", "ADDRESS", "HEALTH", "PORTS", "NOTE")
	for _, s := range all {
		first := []cell{plainCell(s.Name), plainCell(s.Image)}
		ports := strings.Join(s.Ports, ", ")
		if len(s.Instances) == 0 {
			t.row(first[0], first[1], plainCell("none"), plainCell(""), plainCell(""), plainCell(""), plainCell(""), plainCell(ports), plainCell(""))
		}
		for _, i := range s.Instances {
			t.row(first[0], first[1], plainCell(i.Name), v.instance(i.Status), plainCell(since(i.Since, v.now)),
				plainCell(strings.Join(i.Addresses, " ")), v.health(i.Health), plainCell(ports), plainCell(i.Note))
			first, ports = []cell{{}, {}}, ""
		}
	}
	t.print(v.w, "")
}

func (v view) instance(status string) cell {
	switch status {
	case "":
		return plainCell("-")
	case "Running":
		return cell{status, green}
	}
	return cell{status, yellow}
}

func (v view) health(h string) cell {
	switch h {
	case "healthy":
		return cell{h, green}
	case "unhealthy":
		return cell{h, red}
	}
	return cell{h, yellow}
}

func (v view) list(title string, n int, line func(int) string) {
	if n == 0 {
		return
	}
	v.printf("\n%s\n", v.paint(bold, title))
	for i := range n {
		v.printf("%s\n", indent(line(i)))
	}
}
