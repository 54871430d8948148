package compose

import (
	"cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// originate notes for the Incus keys and devices that a row has just made where in the user's files they come from.
// A row that makes nothing notes nothing, so the rows need not know.
func (s *service) originate(row string) {
	for k := range s.out.Config {
		s.origin(k, row)
	}

	for k := range s.out.XIncus {
		s.origin(k, extIncus+"."+k)
	}

	for name := range s.out.Devices {
		s.origin(plan.DeviceOrigin(name), cmp.Or(s.deviceKey(name), row))
	}
}

// deviceKey is the key of a raw device; empty for one that a row made.
func (s *service) deviceKey(name string) string {
	key := extCompose + ".devices." + name
	if !s.t.index.has(s.key + "." + key) {
		return ""
	}

	return key
}

// origin notes a place once: the first row to make a key is the one it comes from, but x-incus has the last word.
func (s *service) origin(what, key string) {
	_, known := s.out.Origins[what]
	_, last := s.out.XIncus[what]
	if known && !last {
		return
	}

	if s.out.Origins == nil {
		s.out.Origins = map[string]plan.Place{}
	}

	s.out.Origins[what] = s.place(key)
}
