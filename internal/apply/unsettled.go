package apply

import (
	"maps"
	"slices"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// unsettled finds values that this pass has written already and that differ again: Incus does not keep them. They are
// remembered, so that the next plan leaves them out. A plan without such values is carried out, and added to written.
func (l *Loop) unsettled(p plan.Plan, written map[string]map[string]string) bool {
	next := map[string]map[string]string{}
	again := false
	for _, s := range p.Steps {
		id := s.On.String()
		if next[id] == nil {
			next[id] = map[string]string{}
			maps.Copy(next[id], written[id])
		}

		values := settable(s.Op)
		for _, k := range slices.Sorted(maps.Keys(values)) {
			old, before := next[id][k]
			next[id][k] = values[k]
			if !before || old != values[k] {
				continue
			}

			if l.led.Unsettled == nil {
				l.led.Unsettled = map[string][]string{}
			}

			l.led.Unsettled[id] = append(l.led.Unsettled[id], k)
			again = true
		}
	}

	if !again {
		maps.Copy(written, next)
	}

	return again
}

// settable are the keys an op sets, with their values.
func settable(op plan.Op) map[string]string {
	switch op := op.(type) {
	case plan.UpdateInstance:
		return op.Config
	case plan.StopInstance:
		return op.Mark
	case plan.UpdateNetwork:
		return op.Set
	case plan.UpdateProject:
		return op.Set
	default:
		return nil
	}
}
