package compose

import (
	"fmt"
	"slices"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// rollouts reads how the service is changed while it runs, and how it goes back (compose-spec "deploy").
func (s *service) rollouts() {
	if s.in.Deploy == nil {
		return
	}

	s.out.Rollout = s.rollout("deploy.update_config", s.in.Deploy.UpdateConfig, "rollback", plan.ActionPause, plan.ActionContinue)
	s.out.Rollback = s.rollout("deploy.rollback_config", s.in.Deploy.RollbackConfig, plan.ActionPause, plan.ActionContinue)
}

// rollout reads one of the two; actions are the words it may use.
func (s *service) rollout(key string, c *types.UpdateConfig, actions ...string) plan.RolloutPolicy {
	if c == nil {
		return plan.RolloutPolicy{}
	}

	p := plan.RolloutPolicy{
		Delay: time.Duration(c.Delay), Monitor: time.Duration(c.Monitor), Action: c.FailureAction,
		MaxFailureRatio: float64(c.MaxFailureRatio), Order: c.Order,
	}
	switch {
	case c.Parallelism == nil:
	case *c.Parallelism == 0:
		p.Parallelism = -1
	default:
		p.Parallelism = int(min(*c.Parallelism, maxReplicas))
	}

	if p.Action != "" && !slices.Contains(actions, p.Action) {
		s.refuse(key+".failure_action", fmt.Sprintf("unknown action %q", p.Action), fmt.Sprintf("write one of %v", actions))
	}

	if p.MaxFailureRatio < 0 || p.MaxFailureRatio > 1 {
		s.refuse(key+".max_failure_ratio", fmt.Sprintf("%v is no share", p.MaxFailureRatio), "write a number from 0 to 1")
	}

	if p.Order != "" && p.Order != plan.StartFirst && p.Order != plan.StopFirst {
		s.refuse(key+".order", fmt.Sprintf("unknown order %q", p.Order), "write start-first or stop-first")
	}

	if p.Delay < 0 || p.Monitor < 0 {
		s.refuse(key, "a time below zero", "write delay and monitor as 10s or 1m")
	}

	return p
}
