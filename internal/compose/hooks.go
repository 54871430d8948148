package compose

import (
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// hooks translates post_start and pre_stop.
func (s *service) hooks() {
	s.out.PostStart = s.hookList("post_start", s.in.PostStart)
	s.out.PreStop = s.hookList("pre_stop", s.in.PreStop)
}

func (s *service) hookList(key string, list []types.ServiceHook) []plan.Hook {
	var out []plan.Hook
	for i, h := range list {
		at := key + "." + strconv.Itoa(i)
		if len(h.Command) == 0 {
			s.refuse(at+".command", "is empty", `write [program, argument]`)
			continue
		}

		hook := plan.Hook{Command: h.Command, User: h.User, Cwd: h.WorkingDir, Privileged: h.Privileged, At: s.place(at)}
		for name, value := range h.Environment {
			if value == nil {
				continue // the host's environment is not seen
			}

			if hook.Environment == nil {
				hook.Environment = map[string]string{}
			}

			hook.Environment[name] = *value
		}

		out = append(out, hook)
	}

	return out
}
