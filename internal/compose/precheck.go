package compose

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"
)

// precheck looks at every entry of ports and volumes before compose-go, which expands all ranges, stops at the first
// problem and knows no lines.
func (l *load) precheck() {
	seen := map[*source]bool{}
	for _, s := range l.index.sources {
		l.precheckSource(s, seen)
	}

	for _, b := range l.index.bases {
		l.precheckSource(b.source, seen)
	}
}

func (l *load) precheckSource(s *source, seen map[*source]bool) {
	if seen[s] {
		return
	}

	seen[s] = true
	for name := range asMap(s.value("services")) {
		for list, check := range map[string]func(string) (text, hint string){"ports": checkPort, "volumes": checkVolume} {
			list = "services." + name + "." + list
			for i, v := range asList(s.value(list)) {
				entry, short := v.(string)
				if !short {
					continue
				}

				text, hint := check(entry)
				if text != "" {
					l.problems = append(l.problems, Problem{File: s.path, Line: s.lines[join(list, strconv.Itoa(i))], Key: list, Text: text, Hint: hint})
				}
			}
		}
	}
}

// checkPort refuses an entry compose-go would choke on, or refuse without a line.
func checkPort(s string) (text, hint string) {
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimSuffix(s, "/tcp"), "/udp"), ":") {
		a, b, ranged := strings.Cut(part, "-")
		x, errA := strconv.Atoi(a)
		y, errB := strconv.Atoi(b)
		if ranged && errA == nil && errB == nil && y-x >= maxRange {
			return fmt.Sprintf("%q is a range of %d ports", s, y-x+1), fmt.Sprintf("publish at most %d ports in one entry", maxRange)
		}
	}

	_, err := types.ParsePortConfig(s)
	if err == nil {
		return "", ""
	}

	why := err.Error()
	switch {
	case s == "":
		why = "it is empty"
	case strings.HasPrefix(why, "no port specified"):
		why = "it has no port of the container"
	}

	return fmt.Sprintf("%q is not a port: %s", s, why), `write "8080:80", "8080:80/udp" or "127.0.0.1:8080:80"`
}

func checkVolume(s string) (text, hint string) {
	_, err := format.ParseVolume(s)
	if err == nil {
		return "", ""
	}

	why := strings.TrimPrefix(err.Error(), "invalid spec: "+s+": ")
	switch parts := strings.Split(s, ":"); {
	case s == "":
		why = "it is empty"
	case why != "empty section between colons":
	case parts[0] == "":
		why = "nothing stands before the colon"
	case len(parts) == 2:
		why = "it has no path in the container"
	}

	return fmt.Sprintf("%q is not a volume: %s", s, why), "write source:target, or source:target:ro"
}
