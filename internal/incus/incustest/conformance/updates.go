package conformance

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func updateLive(s *suite) {
	s.running(obedient)
	before := s.instance("web")
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "2", "limits.memory": "64MiB"}, Devices: map[string]plan.Device{
		"tmp": {"type": "none"},
	}})
	after := s.instance("web")
	if after.Config["user.b"] != "2" || after.Config["limits.memory"] != "64MiB" || after.Config["user.a"] != "1" || after.Config["raw.lxc"] != before.Config["raw.lxc"] {
		s.Errorf("config %v", after.Config)
	}
	if after.Devices["tmp"]["type"] != "none" || after.Devices["eth0"]["network"] != network || after.Status != plan.Running {
		s.Errorf("devices %v, status %s", after.Devices, after.Status)
	}
	s.fails(plan.UpdateInstance{Name: "web", Config: map[string]string{"bogus": "1"}}, incus.ErrRefused)
	s.fails(plan.UpdateInstance{Name: "web", Devices: map[string]plan.Device{"t": {"type": "disk", "source": "tmpfs:", "path": "/t"}}}, incus.ErrRefused)
}

func updateUnset(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "", "user.never": "", "user.b": "2"}})
	i := s.instance("web")
	_, a := i.Config["user.a"]
	_, never := i.Config["user.never"]
	if a || never || i.Config["user.b"] != "2" || i.Config[plan.KeyOwner] != owner {
		s.Errorf("config %v", i.Config)
	}
}

func updateRemovesDevice(s *suite) {
	s.running(obedient)
	s.do(plan.UpdateInstance{Name: "web", Devices: map[string]plan.Device{"tmp": {"type": "none"}}})
	before := s.instance("web")
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "", "user.b": "2"}, Devices: map[string]plan.Device{"tmp": nil, "never": nil}})
	after := s.instance("web")
	_, a := after.Config["user.a"]
	if len(after.Devices) != 2 || a || after.Config["user.b"] != "2" {
		s.Errorf("devices %v, config %v", after.Devices, after.Config)
	}
	for k, v := range before.Config {
		if strings.HasPrefix(k, "volatile.") && after.Config[k] != v {
			s.Errorf("%s was %q and is %q", k, v, after.Config[k])
		}
	}
}

func updateStopped(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	change := plan.UpdateInstance{Name: "web", Stopped: true, Config: map[string]string{"user.a": "", "user.b": "2"}}
	s.do(change, plan.StartInstance{Name: "web"})
	change.Config["user.b"] = "3"
	s.fails(change, incus.ErrInUse)
	change.Devices = map[string]plan.Device{"never": nil}
	s.fails(change, incus.ErrInUse)
	if b := s.instance("web").Config["user.b"]; b != "2" {
		s.Errorf("user.b is %q", b)
	}
	raw := s.raw().UseProject(project)
	before, etag, err := raw.GetInstance("web")
	s.must(err)
	s.do(plan.StopInstance{Name: "web", Grace: 5 * time.Second}, change, plan.StartInstance{Name: "web"})
	_, _, err = raw.RawQuery("PATCH", "/1.0/instances/web?project="+project, map[string]any{"config": map[string]string{"user.b": "4"}}, etag)
	if !api.StatusErrorCheck(err, http.StatusPreconditionFailed) {
		s.Errorf("a change for what was before %s: %v", before.LastUsedAt, err)
	}
}

func updateConcurrently(s *suite) {
	s.project()
	op := s.create("web", obedient, "10")
	names := []string{"t1", "t2", "t3"}
	for _, n := range names {
		op.Devices[n] = plan.Device{"type": "none"}
	}
	s.do(op)
	var wg sync.WaitGroup
	for _, n := range names { // each is a read-modify-write of the whole
		wg.Go(func() {
			err := s.c.Do(s.Context(), project, plan.UpdateInstance{Name: "web", Config: map[string]string{"user." + n: "1"}, Devices: map[string]plan.Device{n: nil}})
			if err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	i := s.instance("web")
	if len(i.Devices) != 2 || i.Config["user.t1"] != "1" || i.Config["user.t2"] != "1" || i.Config["user.t3"] != "1" {
		s.Errorf("devices %v, config %v", i.Devices, i.Config)
	}
}

func updateVolatile(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	s.fails(plan.UpdateInstance{Name: "web", Config: map[string]string{"volatile.base_image": "x"}}, incus.ErrRefused)
}

// startAfterEnd starts while Incus clears up after the run before, when it says "already running" of what is not.
