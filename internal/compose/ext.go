package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The compose extensions that mean something to the agent; others are the user's own.
const (
	extIncus   = "x-incus"
	extCompose = "x-incus-compose"
	extAgent   = "x-ic-agent"
)

// scalars reads a map of Incus keys, verbatim; nil when there is none.
func (t *translation) scalars(key string, v any) map[string]string {
	if v == nil {
		return nil
	}

	m, ok := v.(map[string]any)
	if !ok {
		t.refuse(key, "must be a mapping of Incus keys to values", `write "key: value" lines below it`)
		return nil
	}

	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if plan.Bookkeeping(k) {
			t.refuse(join(key, k), "is what the agent, the health daemon or Incus keep their books in", "remove it")
			continue
		}

		out[k] = t.scalar(join(key, k), m[k])
	}

	return out
}

// scalar is a value as Incus takes it: text.
func (t *translation) scalar(key string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool, int, int64, uint64:
		return fmt.Sprint(v)
	case time.Time:
		return v.Format(time.RFC3339)
	}

	t.refuse(key, "must be a single value", "Incus keys hold text: quote it")

	return ""
}

// known returns the mapping of an extension, refusing keys it does not have.
func (t *translation) known(key string, v any, words ...string) map[string]any {
	if v == nil {
		return nil
	}

	m, ok := v.(map[string]any)
	if !ok {
		t.refuse(key, "must be a mapping", `write "key: value" lines below it`)
		return nil
	}

	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(words, k) {
			t.unknownExt(join(key, k), k, words)
		}
	}

	return m
}

func (t *translation) unknownExt(key, word string, words []string) {
	guess := nearest(word, words)
	if guess == "" {
		t.refuse(key, fmt.Sprintf("unknown key %q", word), "it may hold "+strings.Join(words, ", "))
		return
	}

	t.refuse(key, fmt.Sprintf("unknown key %q", word), fmt.Sprintf("did you mean %s?", guess))
}

// projectExtensions reads x-ic-agent of the project, and x-incus-compose.healthd, which configures another daemon.
func (t *translation) projectExtensions() {
	t.agentExtension()
	for k := range t.known(extCompose, t.project.Extensions[extCompose], "healthd") {
		t.warn(extCompose+"."+k, "ignored: the host's own ic-healthd watches this stack")
	}
}

// extensions reads x-incus, x-incus-compose and x-ic-agent of a service.
func (s *service) extensions() {
	s.out.XIncus = s.t.scalars(s.key+"."+extIncus, s.in.Extensions[extIncus])
	s.agentExtension()
	key := s.key + "." + extCompose
	m := s.t.known(key, s.in.Extensions[extCompose], "devices")
	devices := m["devices"]
	if devices == nil {
		return
	}

	byName, ok := devices.(map[string]any)
	if !ok {
		s.t.refuse(key+".devices", "must be a mapping of device names to devices", `write "name: {type: disk, …}"`)
		return
	}

	s.out.Devices = map[string]plan.Device{}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		dev := s.t.scalars(join(key+".devices", name), byName[name])
		if dev["type"] == "" {
			s.t.refuse(join(key+".devices", name), "the device has no type", `add "type: disk", or another device type of Incus`)
		}

		s.out.Devices[name] = dev
	}
}
