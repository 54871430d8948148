package conformance

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// startAfterEnd starts while Incus clears up after the run before, when it says "already running" of what is not.
func startAfterEnd(s *suite) {
	s.running(instant)
	for range 4 {
		if s.host.Exit != nil {
			s.host.Exit(project, "web")
		}
		for ended := false; !ended; ended = s.instance("web").Status == plan.Stopped {
			<-time.After(time.Millisecond) // or two runs begin at one time, in the fake
		}
		before := s.instance("web").LastUsed
		s.do(plan.StartInstance{Name: "web"})
		after := s.instance("web").LastUsed
		if !after.After(before) {
			s.Errorf("last used %s before the start and %s after it", before, after)
		}
	}
}

func startTwice(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			err := s.c.Do(s.Context(), project, plan.StartInstance{Name: "web"})
			if err != nil {
				s.Error(err)
			}
		})
	}
	wg.Wait()
	s.do(plan.StartInstance{Name: "web"})
	if st := s.instance("web").Status; st != plan.Running {
		s.Errorf("status %s", st)
	}
}

// startMissing starts what cannot run: it never ended with 0, although its log ends like that of one that did.
func startMissing(s *suite) {
	s.project()
	s.do(s.create("web", missing, "10"))
	err := s.failure(plan.StartInstance{Name: "web"}, incus.ErrProgram)
	if !strings.Contains(fmt.Sprint(err), noProgram) {
		s.Errorf("the program is not named: %v", err)
	}
	s.eventually("the instance is stopped", func() bool { return s.instance("web").Status == plan.Stopped })
	exit, err := s.c.ExitOf(s.Context(), project, "web")
	if err != nil || exit != (incus.Exit{Known: true, Code: 127}) {
		s.Errorf("%+v, %v", exit, err)
	}
}

func stopObedient(s *suite) {
	s.running(obedient)
	began := time.Now()
	s.do(plan.StopInstance{Name: "web", Grace: 30 * time.Second}, plan.StopInstance{Name: "web", Grace: 30 * time.Second}, plan.StopInstance{Name: "web"})
	if st := s.instance("web").Status; st != plan.Stopped || time.Since(began) >= 30*time.Second {
		s.Errorf("status %s after %s", st, time.Since(began))
	}
}

func stopStubborn(s *suite) {
	s.running(stubborn)
	began := time.Now()
	s.do(plan.StopInstance{Name: "web", Grace: 1500 * time.Millisecond})
	if took := time.Since(began); took < 1500*time.Millisecond {
		s.Errorf("its grace was cut to %s", took)
	}
	if st := s.instance("web").Status; st != plan.Stopped {
		s.Errorf("status %s", st)
	}
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "1"}}, plan.StartInstance{Name: "web"})
}

func busyWhileStopping(s *suite) {
	s.running(stubborn)
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.c.Do(s.Context(), project, plan.StopInstance{Name: "web", Grace: 12 * time.Second})
		if err != nil {
			s.Error(err)
		}
	})
	// Until the stop has the lock a change goes through.
	var err error
	s.eventually("the instance is busy", func() bool {
		err = s.c.Do(s.Context(), project, plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "1"}})
		return errors.Is(err, incus.ErrBusy)
	})
	if !strings.Contains(err.Error(), `"stop"`) {
		s.Errorf("the error does not say by what: %v", err)
	}
	s.do(plan.StopInstance{Name: "web"}) // a kill gets through
	wg.Wait()
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "2"}})
}

func stopMarks(s *suite) {
	s.running(stubborn)
	mark := map[string]string{"user.mark": "1"}
	s.do(plan.StopInstance{Name: "web", Mark: mark})
	if i := s.instance("web"); i.Status != plan.Stopped || i.Config["user.mark"] != "1" {
		s.Errorf("%s, %v", i.Status, i.Config)
	}
	s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.mark": ""}}, plan.StartInstance{Name: "web"})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.c.Do(s.Context(), project, plan.StopInstance{Name: "web", Grace: 12 * time.Second})
		if err != nil {
			s.Error(err)
		}
	})
	s.eventually("the instance is busy", func() bool {
		err := s.c.Do(s.Context(), project, plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": "1"}})
		return errors.Is(err, incus.ErrBusy)
	})
	s.do(plan.StopInstance{Name: "web", Mark: mark})
	wg.Wait()
	if i := s.instance("web"); i.Status != plan.Stopped || i.Config["user.mark"] != "1" {
		s.Errorf("%s, %v", i.Status, i.Config)
	}
}
