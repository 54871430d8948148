package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/apply"
)

// after says which of the stacks that one names with x-ic-agent.after keeps it waiting.
func (s *stacks) after(stack string, names []string) (reason string, comes bool) {
	loops := map[string]*apply.View{}
	for _, l := range s.all() {
		v := l.View()
		loops[v.Stack] = v
	}

	for _, name := range names {
		circle := cycle(loops, []string{stack, name})
		v := loops[name]
		switch {
		case circle != nil:
			return "the stacks wait for each other: " + strings.Join(circle, " → ") + ": take one out of x-ic-agent.after", false
		case v == nil:
			return fmt.Sprintf("it starts after the stack %s, and there is none: add it, or take it out of x-ic-agent.after", name), false
		case v.State != apply.InSync:
			return fmt.Sprintf("it starts after the stack %s, which is %s", name, v.State), true
		}
	}

	return "", false
}

// cycle follows the path's last stack and returns the way back to its first one, nil when there is none.
func cycle(loops map[string]*apply.View, path []string) []string {
	v := loops[path[len(path)-1]]
	if v == nil || v.Project == nil {
		return nil
	}

	for _, next := range v.Project.After {
		if next == path[0] {
			return append(path, next)
		}

		if slices.Contains(path, next) {
			continue
		}

		found := cycle(loops, append(slices.Clip(path), next))
		if found != nil {
			return found
		}
	}

	return nil
}

// wake has the stacks look again that wait for others, when another one has come into sync.
func (s *stacks) wake(views []*apply.View) {
	synced := map[string]bool{}
	grown := false
	for _, v := range views {
		if v.State == apply.InSync {
			synced[v.Stack] = true
			grown = grown || !s.synced[v.Stack]
		}
	}

	s.synced = synced
	if !grown {
		return
	}

	for _, l := range s.all() {
		p := l.View().Project
		if p != nil && len(p.After) > 0 {
			l.Dirty()
		}
	}
}
