package incus_test

import (
	"reflect"
	"testing"

	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func (s *stage) observe() plan.Observed {
	s.Helper()
	o, err := s.c.Observe(s.Context(), "blog")
	if err != nil {
		s.Fatal(err)
	}
	return o
}

func TestTheSameAnswerIsDecodedOnce(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true))
		config := func() uintptr { return reflect.ValueOf(s.observe().Instances["web"].Config).Pointer() }
		first := config()
		if config() != first {
			s.Error("decoded again")
		}
		s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.x": "1"}})
		changed := config()
		if changed == first {
			s.Error("a change was not seen")
		}
	})
}

func TestAnotherAnswerIsNotTheOneRemembered(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true), plan.CreateVolume{Pool: "default", Name: "data"})
		for _, value := range []string{"1", "2", "1"} { // of one length
			s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.x": value}})
			if got := s.observe().Instances["web"].Config["user.x"]; got != value {
				s.Errorf("got %q, want %q", got, value)
			}
		}
		s.do(plan.StopInstance{Name: "web"}, plan.DeleteInstance{Name: "web"}, plan.DeleteVolume{Pool: "default", Name: "data"})
		o := s.observe()
		if len(o.Instances) != 0 || len(o.Volumes) != 0 {
			s.Errorf("still there: %v %v", o.Instances, o.Volumes)
		}
		s.do(plan.DeleteProject{Name: "blog"})
		if o := s.observe(); o.Project != nil {
			s.Errorf("still there: %v", o.Project)
		}
	})
}

func TestWhatACallerDoesToItsListIsNotRemembered(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(true), plan.CreateVolume{Pool: "default", Name: "data"})
		o := s.observe()
		clear(o.Instances)
		clear(o.Volumes)
		clear(o.Networks)
		clear(o.Images)
		o = s.observe()
		if len(o.Instances) != 1 || len(o.Volumes) != 1 || len(o.Networks) == 0 || len(o.Images) != 1 {
			s.Errorf("observed %+v", o)
		}
	})
}
