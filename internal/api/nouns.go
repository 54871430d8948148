package api

import "github.com/incus-compose/ic-agent/internal/plan"

// PlanOf puts a plan into the API's words.
func PlanOf(p plan.Plan) PlanReply {
	r := PlanReply{Stack: p.Stack, Text: p.String(), Steps: []Step{}}
	for _, s := range p.Steps {
		r.Steps = append(r.Steps, Step{N: s.N, After: s.After, On: s.On.String(), Text: s.String(), Cause: s.Cause, Interrupts: s.Interrupts})
	}
	for _, b := range p.Blocked {
		r.Blocked = append(r.Blocked, b.String())
	}
	for _, w := range p.Warnings {
		r.Warnings = append(r.Warnings, w.String())
	}
	return r
}

// ConditionsOf puts conditions into the API's words.
func ConditionsOf(cs []plan.Condition) []Condition {
	var out []Condition
	for _, c := range cs {
		out = append(out, Condition(c))
	}
	return out
}

// WarningsOf puts warnings into the API's words.
func WarningsOf(ws []plan.Warning) []Warning {
	var out []Warning
	for _, w := range ws {
		out = append(out, Warning(w))
	}
	return out
}
