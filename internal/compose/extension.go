package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/calendar"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// extKind is what may stand at a key of x-ic-agent.
type extKind int

const (
	extText     extKind = iota // → string
	extWord                    // one of the rule's words → string
	extCalendar                // an expression of systemd.time(7) → string
	extFlag                    // → bool
	extNumber                  // → int
	extDuration                // → time.Duration
	extList                    // of texts, or of the rule's words → []string
	extPairs                   // texts by names of the user's own → map[string]string
	extMapping                 // → map[string]any
)

// extRule is one key of x-ic-agent. The parser, the JSON schema and docs/x-ic-agent.md are made from the rules, so
// that they cannot disagree.
type extRule struct {
	name string
	kind extKind
	// example is a value as YAML, shown by messages and the page.
	example string
	// says is the sentence about the key for the page and the editor; what holds without it belongs there, too.
	says string
	// words are those allowed; empty means any.
	words []string
	// least and most bound a number, least a duration, too.
	least, most int
	// below are the keys of a mapping; short names the one that a plain value stands for, need those that must be
	// there.
	below []extRule
	short string
	need  []string
	// one says that exactly one of the keys below must be there.
	one bool
}

// extensionOf reads an x-ic-agent mapping by its rules: typed values by key, without those that are refused.
func (t *translation) extensionOf(key string, v any, rules []extRule) map[string]any {
	if v == nil {
		return nil
	}

	return t.extMapping(key, extRule{kind: extMapping, below: rules, example: "{" + rules[0].name + ": " + rules[0].example + "}"}, v)
}

func (t *translation) extMapping(key string, r extRule, v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok && r.short != "" {
		i := slices.IndexFunc(r.below, func(rule extRule) bool { return rule.name == r.short })
		value, ok := t.extValue(key, r.below[i], v)
		if !ok {
			return nil
		}

		return map[string]any{r.short: value}
	}

	if !ok {
		t.refuse(key, "must be a mapping", "write "+r.example)
		return nil
	}

	names := make([]string, len(r.below))
	for i, rule := range r.below {
		names[i] = rule.name
	}

	out := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		i := slices.Index(names, k)
		if i < 0 {
			t.unknownExt(join(key, k), k, names)
			continue
		}

		value, ok := t.extValue(join(key, k), r.below[i], m[k])
		if ok {
			out[k] = value
		}
	}

	for _, k := range r.need {
		_, there := m[k]
		if !there {
			t.refuse(key, "needs "+k, "write "+r.example)
		}
	}

	if r.one && len(m) != 1 {
		t.refuse(key, fmt.Sprintf("has %d keys and must have one of %s", len(m), strings.Join(names, ", ")), "write "+r.example)
	}

	return out
}

// extValue reads one value; it is not ok when it was refused, or says nothing.
func (t *translation) extValue(key string, r extRule, v any) (any, bool) {
	if v == nil {
		return nil, false // As if the key were not there.
	}

	if r.kind == extMapping {
		m := t.extMapping(key, r, v)
		return m, m != nil
	}

	value, why := r.read(v)
	if why != "" {
		t.refuse(key, why, "write "+r.example)
		return nil, false
	}

	return value, true
}

// read gives a value its type, or says why it cannot.
func (r extRule) read(v any) (value any, why string) {
	text, isText := plainText(v)
	switch r.kind {
	case extList:
		return r.list(v)
	case extPairs:
		return pairsOf(v)
	case extFlag:
		b, err := strconv.ParseBool(text)
		if isText && err == nil && (text == "true" || text == "false") {
			return b, ""
		}

		return nil, fmt.Sprintf("%s is not true or false", shown(v))
	case extNumber:
		n, err := strconv.Atoi(text)
		if isText && err == nil && n >= r.least && n <= r.most {
			return n, ""
		}

		return nil, fmt.Sprintf("%s is not a number from %d to %d", shown(v), r.least, r.most)
	case extDuration:
		d, ok := parseDuration(text)
		if isText && ok && d >= time.Duration(r.least)*time.Second {
			return d, ""
		}

		return nil, shown(v) + " is not a duration"
	case extWord:
		if isText && slices.Contains(r.words, text) {
			return text, ""
		}

		return nil, r.notWord(v, text)
	case extCalendar:
		_, err := calendar.Parse(text)
		if isText && err == nil {
			return text, ""
		}

		return nil, shown(v) + " is not a calendar expression of systemd.time(7)"
	case extText, extMapping:
	}

	if !isText || text == "" {
		return nil, shown(v) + " is not a text"
	}

	return text, ""
}

func (r extRule) notWord(v any, text string) string {
	why := fmt.Sprintf("%s is not one of %s", shown(v), strings.Join(r.words, ", "))
	guess := nearest(text, r.words)
	if text != "" && guess != "" {
		why += ": did you mean " + guess + "?"
	}

	return why
}

// list reads a list of texts; a single text stands for a list of one.
func (r extRule) list(v any) (value any, why string) {
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}

	out := make([]string, 0, len(items))
	for _, item := range items {
		text, isText := plainText(item)
		switch {
		case !isText || text == "":
			return nil, shown(v) + " is not a list of texts"
		case len(r.words) > 0 && !slices.Contains(r.words, text):
			return nil, r.notWord(item, text)
		}

		out = append(out, text)
	}

	return out, ""
}

func pairsOf(v any) (value any, why string) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, shown(v) + " is not a mapping of texts"
	}

	out := map[string]string{}
	for k, item := range m {
		text, isText := plainText(item)
		if !isText {
			return nil, fmt.Sprintf("%s: %s is not a text", k, shown(item))
		}

		out[k] = text
	}

	return out, ""
}

// plainText is a single value as it was written.
func plainText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool, int, int64, uint64:
		return fmt.Sprint(v), true
	}

	return "", false
}

// shown is a value for a message: quoted, and not long.
func shown(v any) string {
	text, ok := plainText(v)
	if !ok {
		switch v.(type) {
		case []any:
			return "a list"
		case map[string]any:
			return "a mapping"
		}

		text = fmt.Sprint(v)
	}

	const most = 60
	if len(text) > most {
		text = text[:most] + "…"
	}

	return strconv.Quote(text)
}

// parseDuration reads what time.ParseDuration does, and days and weeks before it: "7d", "1w2d", "1d12h".
func parseDuration(s string) (time.Duration, bool) {
	var total time.Duration
	for _, unit := range []struct {
		name string
		is   time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		count, rest, ok := strings.Cut(s, unit.name)
		if !ok {
			continue
		}

		n, err := strconv.ParseUint(count, 10, 16)
		if err != nil || n > 5000 {
			return 0, false
		}

		total += time.Duration(n) * unit.is
		s = rest
		if s == "" {
			return total, true
		}
	}

	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, false
	}

	return total + d, true
}

// asType is v as a T; the zero T when it is nothing.
func asType[T any](v any) T {
	out, _ := v.(T)
	return out
}

// agentExtension fills in x-ic-agent of the project.
func (t *translation) agentExtension() {
	m := t.extensionOf(extAgent, t.project.Extensions[extAgent], projectExt)
	window := asType[map[string]any](m["window"])
	t.out.RemoveGrace = asType[time.Duration](m["remove-grace"])
	t.out.Extension = plan.Extension{
		After: asType[[]string](m["after"]), Policy: asType[string](m["policy"]),
		Window:  plan.Window{At: asType[string](window["at"]), For: asType[time.Duration](window["for"])},
		Update:  updatePolicy(m["update"]),
		Protect: asType[bool](m["protect"]), Drift: asType[string](m["drift"]), Keep: asType[time.Duration](m["keep"]),
		PlanOnly: m["mode"] == "plan-only", Allow: asType[[]string](m["allow"]),
	}
}

func updatePolicy(v any) plan.UpdatePolicy {
	m := asType[map[string]any](v)

	return plan.UpdatePolicy{
		Check: asType[string](m["check"]), Mode: asType[string](m["mode"]), MinAge: asType[time.Duration](m["min-age"]),
	}
}

// agentExtension fills in x-ic-agent of a service.
func (s *service) agentExtension() {
	m := s.t.extensionOf(s.key+"."+extAgent, s.in.Extensions[extAgent], serviceExt)
	change := asType[map[string]any](m["on-change"])
	s.out.ServiceExtension = plan.ServiceExtension{
		Probe: probeOf(asType[map[string]any](m["probe"])), OnUnhealthy: asType[string](m["on-unhealthy"]),
		SuccessThreshold: asType[int](m["success-threshold"]), Stretch: asType[int](m["stretch"]),
		OnChange: asType[string](change["do"]), ChangeSignal: asType[string](change["signal"]),
		Update: updatePolicy(m["update"]).Over(s.t.out.Update), Snapshot: asType[bool](m["snapshot"]), Protect: asType[bool](m["protect"]),
	}
	s.healthExtension()
}

func probeOf(kinds map[string]any) *plan.Probe {
	for kind, v := range kinds {
		switch v {
		case "auto":
			return &plan.Probe{Type: "auto"}
		case "exec":
			return nil
		}

		m := asType[map[string]any](v)

		return &plan.Probe{
			Type: kind, Port: asType[int](m["port"]), Path: asType[string](m["path"]), Method: asType[string](m["method"]),
			Host: asType[string](m["host"]), Headers: asType[map[string]string](m["headers"]), Status: asType[int](m["status"]),
			Body: asType[string](m["body"]), TLS: asType[bool](m["tls"]), Verify: asType[bool](m["verify"]),
			Service: asType[string](m["service"]), Name: asType[string](m["name"]), Device: asType[string](m["device"]),
		}
	}

	return nil
}
