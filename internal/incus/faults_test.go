package incus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const fp = "7ee593f21d97799bd204d6e350dca07d00710500baca2acb92f28b0fe31f9beb"

// stage is a fake with project "blog", an image, and a client of it.
type stage struct {
	*testing.T
	srv *incustest.Server
	c   *incus.Client
}

func newStage(t *testing.T, opt incustest.Options) *stage {
	srv := newServer(t, opt)
	srv.AddImage("https://docker.io", "library/busybox", incustest.Image{Fingerprint: fp})
	srv.StoreImage("default", incustest.Image{Fingerprint: fp}, false)
	s := &stage{t, srv, incus.New(incus.Options{Dial: srv.Dial})}
	s.do(plan.CreateProject{Name: "blog", Config: map[string]string{"features.images": "false"}})
	srv.ForgetCalls()
	return s
}

// inBubble runs a test on a stage in virtual time.
func inBubble(t *testing.T, opt incustest.Options, test func(*stage)) {
	synctest.Test(t, func(t *testing.T) { test(newStage(t, opt)) })
}

func (s *stage) try(op plan.Op) error { return s.c.Do(s.Context(), "blog", op) }

func (s *stage) do(ops ...plan.Op) {
	s.Helper()
	for _, op := range ops {
		err := s.try(op)
		if err != nil {
			s.Fatal(err)
		}
	}
}

func (s *stage) fails(op plan.Op, kind error) {
	s.Helper()
	_ = s.failure(op, kind)
}

// failure is fails for those who read the text.
func (s *stage) failure(op plan.Op, kind error) error {
	s.Helper()
	err := s.try(op)
	if !errors.Is(err, kind) {
		s.Errorf("%T: got %v, want kind %q", op, err, kind)
	}
	return err
}

func web(start bool) plan.CreateInstance {
	return plan.CreateInstance{
		Name: "web", Fingerprint: fp, Start: start, Config: map[string]string{plan.KeyOwner: "me"},
		Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}, "x": {"type": "none"}},
	}
}

func (s *stage) writes() []string {
	list := []string{}
	for _, c := range s.srv.Writes() {
		list = append(list, c.String())
	}
	return list
}

func (s *stage) status() string {
	i, _ := s.srv.Instance("blog", "web")
	return i.Status
}

func TestALookAtAProjectIsSixReadsAndNoWrite(t *testing.T) {
	inBubble(t, incustest.Options{Pools: []string{"default", "fast", "slow"}}, func(s *stage) {
		s.do(plan.CreateVolume{Pool: "default", Name: "data"}, web(true))
		_, err := s.c.Observe(s.Context(), "blog")
		if err != nil {
			s.Fatal(err)
		}
		s.srv.ForgetCalls()
		o, err := s.c.Observe(s.Context(), "blog")
		if err != nil {
			s.Fatal(err)
		}
		if n := len(s.srv.Calls()); n > 6 || len(s.srv.Writes()) > 0 {
			s.Errorf("%d calls: %v", n, s.srv.Calls())
		}
		if len(o.Instances) != 1 || len(o.Volumes) != 1 || len(o.Images) != 1 || o.Project == nil || o.Server.Pool != "default" {
			s.Errorf("observed %+v", o)
		}
	})
}

func TestVolumesOfTheDefaultProjectAreLookedForInAllPools(t *testing.T) {
	inBubble(t, incustest.Options{Pools: []string{"default", "fast"}}, func(s *stage) {
		s.do(plan.CreateProject{Name: "shared", Config: map[string]string{"features.storage.volumes": "false"}})
		err := s.c.Do(s.Context(), "shared", plan.CreateVolume{Pool: "fast", Name: "data"})
		if err != nil {
			s.Fatal(err)
		}
		o, err := s.c.Observe(s.Context(), "shared")
		if err != nil || len(o.Volumes) != 1 || o.Volumes["fast/data"].Pool != "fast" {
			s.Errorf("volumes %v, error %v", o.Volumes, err)
		}
	})
}

func TestTheServerIsReadAgainAfterAnUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newServer(t, incustest.Options{Version: "7.0.1"})
		upgraded := newServer(t, incustest.Options{Version: "7.0.2", Pools: []string{"fast"}})
		dial := old.Dial
		c := incus.New(incus.Options{Dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx) }})
		a, err := c.Server(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dial = upgraded.Dial
		b, err := c.Server(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a.Version != "7.0.1" || a.Pool != "default" || b.Version != "7.0.2" || b.Pool != "fast" {
			t.Errorf("got %s %s, then %s %s", a.Version, a.Pool, b.Version, b.Pool)
		}
	})
}

func TestAnOldIncusIsOneClearMessage(t *testing.T) {
	for _, tc := range []struct {
		opt  incustest.Options
		says string
	}{
		{incustest.Options{Version: "7.0.0"}, "this host runs Incus 7.0.0; 7.0.1 or newer is needed"},
		{incustest.Options{Version: "6.0.6"}, "this host runs Incus 6.0.6"},
		{incustest.Options{Version: "6.23"}, "this host runs Incus 6.23"},
		{incustest.Options{Without: []string{"oci_network_config"}}, "lacks the API extension oci_network_config"},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := incus.New(incus.Options{Dial: newServer(t, tc.opt).Dial})
			_, err := c.Server(t.Context())
			if !errors.Is(err, incus.ErrUnsupported) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%+v: %v", tc.opt, err)
			}
			_, err = c.Observe(t.Context(), "blog")
			if !errors.Is(err, incus.ErrUnsupported) {
				t.Errorf("%+v: observe: %v", tc.opt, err)
			}
		})
	}
	for _, version := range []string{"7.0.1", "7.0.2", "7.1", "7.3", "8.0", "7.10.0"} {
		synctest.Test(t, func(t *testing.T) {
			_, err := incus.New(incus.Options{Dial: newServer(t, incustest.Options{Version: version}).Dial}).Server(t.Context())
			if err != nil {
				t.Errorf("%s: %v", version, err)
			}
		})
	}
}

func TestAnAbsentIncusIsUnavailableAndNothingHappened(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.Down()
		err := s.failure(web(true), incus.ErrUnavailable)
		if errors.Is(err, incus.ErrUnknownOutcome) {
			s.Errorf("nothing was sent, yet: %v", err)
		}
		s.srv.Up()
		s.do(web(true))
	})
	_, err := incus.New(incus.Options{Socket: t.TempDir() + "/unix.socket"}).Server(t.Context())
	if !errors.Is(err, incus.ErrUnavailable) || !strings.Contains(err.Error(), "unix.socket") {
		t.Errorf("got %v", err)
	}
}

func TestAHangingIncusIsLeftInTime(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.Fail(incustest.Fault{Times: -1, Hang: true})
		began := time.Now()
		_, err := s.c.Observe(s.Context(), "blog")
		if !errors.Is(err, incus.ErrUnavailable) || time.Since(began) != 10*time.Second {
			s.Errorf("observe: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		s.fails(plan.CreateVolume{Pool: "default", Name: "data"}, incus.ErrUnknownOutcome)
		if time.Since(began) != 60*time.Second {
			s.Errorf("create: after %s", time.Since(began))
		}
	})
}

func TestGarbageAndGatewayErrorsAreUnavailable(t *testing.T) {
	for _, f := range []incustest.Fault{{Garbage: true}, {Status: 502}, {Status: 503}, {Drop: true}, {DropAnswer: true}} {
		inBubble(t, incustest.Options{}, func(s *stage) {
			f.Times = -1
			s.srv.Fail(f)
			_, err := s.c.Observe(s.Context(), "blog")
			if !errors.Is(err, incus.ErrUnavailable) {
				s.Errorf("%+v: observe: %v", f, err)
			}
			_, err = s.c.Owned(s.Context(), "me")
			if !errors.Is(err, incus.ErrUnavailable) {
				s.Errorf("%+v: owned: %v", f, err)
			}
			s.fails(web(true), incus.ErrUnavailable)
			s.fails(plan.PushFile{Instance: "web", File: plan.File{Target: "/etc/x"}}, incus.ErrUnavailable)
			s.srv.Mend()
			_, err = s.c.Observe(s.Context(), "blog")
			if err != nil {
				s.Errorf("%+v: it did not recover: %v", f, err)
			}
		})
	}
}

func TestALostPermissionIsForbiddenUntilItIsBack(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.Fail(incustest.Fault{Status: http.StatusForbidden, Message: "not authorized", Times: -1})
		_, err := s.c.Observe(s.Context(), "blog")
		if !errors.Is(err, incus.ErrForbidden) {
			s.Errorf("got %v", err)
		}
		s.fails(web(false), incus.ErrForbidden)
		s.srv.Mend()
		s.do(web(false))
	})
}

func TestAnAnswerThatWasLostIsJudgedByTheState(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		op           plan.Op
	}{
		{"POST", "/1.0/instances", web(true)},
		{"PUT", "*/state", plan.StartInstance{Name: "web"}},
		{"PUT", "*/state", plan.StopInstance{Name: "web", Grace: time.Second}},
		{"PUT", "*/state", plan.StopInstance{Name: "web"}},
		{"PUT", "/1.0/instances/web", plan.UpdateInstance{Name: "web", Devices: map[string]plan.Device{"x": nil}}},
		{"DELETE", "/1.0/instances/web", plan.DeleteInstance{Name: "web"}},
		{"POST", "/1.0/images", plan.PullImage{Server: "https://docker.io", Alias: "library/other", Want: strings.Repeat("1", 64)}},
	} {
		t.Run(fmt.Sprintf("%T", tc.op), func(t *testing.T) {
			inBubble(t, incustest.Options{}, func(s *stage) {
				switch tc.op.(type) {
				case plan.StartInstance, plan.DeleteInstance:
					s.do(web(false))
				case plan.StopInstance, plan.UpdateInstance:
					s.do(web(true))
				}
				s.srv.AddImage("https://docker.io", "library/other", incustest.Image{Fingerprint: strings.Repeat("1", 64)})
				s.srv.ForgetCalls()
				s.srv.Fail(incustest.Fault{Method: tc.method, Path: tc.path, DropAnswer: true})
				s.do(tc.op)
				if w := s.writes(); len(w) != 1 {
					s.Errorf("it was sent again: %v", w)
				}
			})
		})
	}
}

func TestARestartOfIncusDuringAnOperation(t *testing.T) {
	delays := incustest.Delays{Create: 3 * time.Second, Start: 3 * time.Second, Pull: 3 * time.Second}
	inBubble(t, incustest.Options{Delays: delays}, func(s *stage) {
		s.do(web(false))
		for _, op := range []plan.Op{plan.StartInstance{Name: "web"}, plan.PullImage{Server: "https://docker.io", Alias: "library/busybox", Want: strings.Repeat("1", 64)}} {
			time.AfterFunc(time.Second, s.srv.Restart)
			err := s.failure(op, incus.ErrUnknownOutcome)
			if err != nil && !strings.Contains(err.Error(), "as after a restart") {
				s.Errorf("got %v", err)
			}
		}
		s.do(plan.StartInstance{Name: "web"}) // the lock went with the old process
	})
}

func TestAShortCutOfTheConnectionIsSeenThrough(t *testing.T) {
	inBubble(t, incustest.Options{Delays: incustest.Delays{Start: 3 * time.Second}}, func(s *stage) {
		s.do(web(false))
		s.srv.Fail(incustest.Fault{Method: "GET", Path: "/1.0/operations/*", Times: 4, Drop: true})
		s.do(plan.StartInstance{Name: "web"})
		if s.status() != "Running" {
			s.Errorf("status %s", s.status())
		}
	})
}

func TestGivingUpLeavesTheOperationRunning(t *testing.T) {
	inBubble(t, incustest.Options{Delays: incustest.Delays{Start: 3 * time.Second}}, func(s *stage) {
		s.do(web(false))
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		defer cancel()
		err := s.c.Do(ctx, "blog", plan.StartInstance{Name: "web"})
		if !errors.Is(err, incus.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("got %v", err)
		}
		time.Sleep(3 * time.Second)
		if s.status() != "Running" {
			s.Errorf("status %s", s.status())
		}
	})
}

func TestAnOperationThatTakesTooLongIsOverdue(t *testing.T) {
	inBubble(t, incustest.Options{Delays: incustest.Delays{Start: time.Hour}}, func(s *stage) {
		s.do(web(false))
		began := time.Now()
		s.fails(plan.StartInstance{Name: "web"}, incus.ErrUnknownOutcome)
		if time.Since(began) != 120*time.Second {
			s.Errorf("after %s", time.Since(began))
		}
	})
}

func TestABusyInstanceIsTriedForAFewSeconds(t *testing.T) {
	busy := incustest.Fault{Method: "PATCH", Path: "/1.0/instances/web", Status: 500, Message: `Failed to create instance update operation: Instance is busy running a "start" operation`}
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(false))
		busy.Times = 3
		s.srv.Fail(busy)
		s.do(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "1"}})
		busy.Times = -1
		s.srv.Fail(busy)
		began := time.Now()
		s.fails(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "1"}}, incus.ErrBusy)
		if took := time.Since(began); took < 2*time.Second || took > 6*time.Second {
			s.Errorf("gave up after %s", took)
		}
	})
}

func TestARunThatIsNotClearedUpIsNoRun(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(false))
		s.srv.Fail(incustest.Fault{Method: "PUT", Path: "/1.0/instances/web/state", Times: 2, Op: "The instance is already running"})
		s.do(plan.StartInstance{Name: "web"})
		if s.status() != "Running" {
			s.Errorf("status %s, and the start was said to be done", s.status())
		}
		s.srv.ForgetCalls()
		s.do(plan.StartInstance{Name: "web"})
		if n := len(s.srv.Writes()); n != 1 {
			s.Errorf("%d tries to start what runs", n)
		}
	})
}

func TestAForeignWriterWhoIsAlwaysFaster(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(false))
		s.srv.ForgetCalls()
		s.srv.Fail(incustest.Fault{Method: "PUT", Path: "/1.0/instances/web", Times: -1, Status: 412, Message: "ETag doesn't match: a vs b"})
		s.fails(plan.UpdateInstance{Name: "web", Devices: map[string]plan.Device{"x": nil}}, incus.ErrConflict)
		if n := len(s.srv.Writes()); n != 5 {
			s.Errorf("%d tries", n)
		}
		s.srv.Fail(incustest.Fault{Method: "PUT", Path: "/1.0/networks/*", Times: 2, Status: 412, Message: "ETag doesn't match: a vs b"})
		s.do(plan.CreateNetwork{Name: "br", Config: map[string]string{"ipv6.address": "none"}}, plan.UpdateNetwork{Name: "br", Set: map[string]string{"user.a": "1"}})
	})
}

func TestWhatIsAlreadySoIsNotWritten(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.do(web(false), plan.CreateNetwork{Name: "br", Config: map[string]string{"ipv6.address": "none", "user.a": "1"}})
		s.srv.ForgetCalls()
		s.do(
			plan.UpdateNetwork{Name: "br", Set: map[string]string{"user.a": "1", "user.b": ""}},
			plan.UpdateProject{Name: "blog", Set: map[string]string{"features.images": "false", "user.b": ""}},
			plan.UpdateInstance{Name: "web", Config: map[string]string{"user.b": ""}},
			plan.UpdateInstance{Name: "web", Config: map[string]string{plan.KeyOwner: "me"}, Devices: map[string]plan.Device{"gone": nil}},
			plan.UpdateInstance{Name: "web"},
		)
		if w := s.writes(); len(w) > 0 {
			s.Errorf("wrote %v", w)
		}
	})
}

func TestTheGraceIsSentInSecondsRoundedUp(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.SetApp("blog", "web", incustest.App{StopsAfter: 1900 * time.Millisecond})
		s.do(web(true), plan.StopInstance{Name: "web", Grace: 1100 * time.Millisecond})
		if w := s.writes(); len(w) != 2 { // create and one stop: the app ended within two seconds
			s.Errorf("wrote %v", w)
		}
	})
}

func TestAStopThatTimesOutIsFollowedByAKill(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.SetApp("blog", "web", incustest.App{IgnoresStop: true})
		s.do(web(true))
		s.srv.ForgetCalls()
		began := time.Now()
		s.do(plan.StopInstance{Name: "web", Grace: 7 * time.Second})
		if took := time.Since(began); took != 7*time.Second || s.status() != "Stopped" {
			s.Errorf("%s after %s", s.status(), took)
		}
		want := []string{"PUT /1.0/instances/web/state", "PUT /1.0/instances/web/state"}
		if d := cmp.Diff(want, s.writes()); d != "" {
			s.Error(d)
		}
		s.do(plan.StartInstance{Name: "web"})
	})
}

func TestALongGraceOutlivesAnIncusRestart(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.SetApp("blog", "web", incustest.App{StopsAfter: 20 * time.Second})
		s.do(web(true))
		time.AfterFunc(5*time.Second, s.srv.Restart)
		s.fails(plan.StopInstance{Name: "web", Grace: 30 * time.Second}, incus.ErrUnknownOutcome)
		if s.status() != "Running" {
			s.Error("the app was killed within its grace")
		}
		s.do(plan.StopInstance{Name: "web", Grace: 30 * time.Second}) // the next pass goes on waiting
	})
}

func TestAStartThatFailsSaysWhy(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.SetApp("blog", "web", incustest.App{StartError: "Failed to run: forkstart: no such file /app"})
		err := s.failure(web(true), incus.ErrFailed)
		if err == nil || err.Error() != "create instance web in project blog: Failed to run: forkstart: no such file /app" {
			s.Errorf("got %v", err)
		}
	})
}

func TestManyCallsAtOnceKeepTheirOwnContexts(t *testing.T) {
	inBubble(t, incustest.Options{Delays: incustest.Delays{Request: time.Second}}, func(s *stage) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(s.Context(), time.Duration(1+i%2*30)*500*time.Millisecond)
				defer cancel()
				_, err := s.c.Observe(ctx, "blog")
				if short := i%2 == 0; (err != nil) != short {
					s.Errorf("call %d: %v", i, err)
				}
			})
		}
		wg.Wait()
	})
}

// A full pool is named, with how to look at it; where it is not known which one, both places are.
func TestNoRoomSaysWhere(t *testing.T) {
	inBubble(t, incustest.Options{}, func(s *stage) {
		s.srv.Fail(incustest.Fault{Method: http.MethodPost, Times: -1, Status: 500, Message: "write /x: no space left on device"})
		for _, c := range []struct {
			op   plan.Op
			want string
		}{
			{plan.CreateVolume{Pool: "small", Name: "data"}, "make room in the storage pool small (incus storage info small); it is tried again by itself"},
			{plan.CreateInstance{Name: "web", Fingerprint: fp}, "incus storage list"},
		} {
			err := s.failure(c.op, incus.ErrNoSpace)
			if !strings.Contains(err.Error(), c.want) {
				s.Errorf("it says %v", err)
			}
		}
	})
}
