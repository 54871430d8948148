package conformance

import (
	"encoding/json"
	"strings"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// words are what talkative writes.
const words = "no database: giving up"

var talkative = app("/bin/sh -c 'echo " + words + "; sleep 1000'")

func lastWords(s *suite) {
	s.running(talkative)
	s.eventually("its words are read", func() bool {
		said, err := s.c.LastWords(s.Context(), project, "web")
		s.must(err)
		return strings.HasSuffix(said, words+"\n")
	})
}

// shell readies web for commands.
func (s *suite) shell() {
	if s.host.Shell != nil {
		s.host.Shell(project, "web")
	}
}

func signal(s *suite) {
	s.running(obedient)
	s.shell()
	s.do(plan.SignalInstance{Name: "web", Signal: "SIGTERM"})
	s.eventually("it has ended", func() bool { return s.instance("web").Status == plan.Stopped })
}

func postStart(s *suite) {
	s.project()
	hooks, err := json.Marshal([]plan.Command{{Argv: []string{"sh", "-c", "echo broken; exit 3"}, Cwd: "/"}})
	s.must(err)
	op := s.create("web", obedient, "10")
	op.Config[plan.KeyPostStart] = string(hooks)
	op.Start = true
	s.do(op)
	s.shell()
	err = s.failure(plan.RunHooks{Instance: "web"}, incus.ErrFailed)
	if err != nil && !strings.Contains(err.Error(), "ended with 3: broken") {
		s.Errorf("the error does not tell how it ended: %v", err)
	}
	hooked := s.instance("web").Config[plan.KeyHooked]
	if !strings.Contains(hooked, plan.HookFailed) {
		s.Errorf("the key says %q", hooked)
	}
	s.do(plan.RunHooks{Instance: "web"})
	if again := s.instance("web").Config[plan.KeyHooked]; again != hooked {
		s.Errorf("run again for one start: %q", again)
	}
}
