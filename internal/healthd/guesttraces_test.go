package healthd

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// stay is an Incus on which guests come and go, in a bubble of virtual time.
type stay struct {
	*testing.T
	srv  *incustest.Server
	c    *incus.Client
	g    guest
	said *bytes.Buffer
}

// onStay runs a test with a project "blog", of a scope, in which a user has things of his own under the guest's name.
func onStay(t *testing.T, scope string, test func(s *stay)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{Listens: "127.0.0.1:8443", Pools: []string{"default", "other"}})
		t.Cleanup(srv.Close)
		program := filepath.Join(t.TempDir(), "program")
		err := os.WriteFile(program, []byte("program"), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		s := &stay{T: t, srv: srv, c: incus.New(incus.Options{Dial: srv.Dial}), said: &bytes.Buffer{}}
		s.g = guest{c: s.c, project: "blog", out: s.said, program: program}
		srv.StoreImage("default", incustest.Image{Fingerprint: fp}, false)
		s.do(plan.CreateProject{Name: "blog", Config: map[string]string{"features.images": "false", health.KeyScope: scope}})
		s.do(plan.CreateVolume{Pool: "other", Name: guestName, Config: map[string]string{"user.mine": "true"}})
		s.trust("a user's", "ic-healthd in project blog")
		s.trust("another user's", trustMark("blog", "0123456789ab")) // of another certificate
		test(s)
		s.srv.Mend()
		if bad := srv.Violations(); len(bad) > 0 {
			s.Errorf("it asks for what Incus does not have: %q", bad)
		}
		if t.Failed() {
			t.Logf("it said:\n%s", s.said)
		}
	})
}

func (s *stay) do(ops ...plan.Op) {
	s.Helper()
	for _, op := range ops {
		err := s.c.Do(s.Context(), "blog", op)
		if err != nil {
			s.Fatal(err)
		}
	}
}

// trust has a certificate of the guest's name trusted for the project.
func (s *stay) trust(key, description string) {
	s.Helper()
	err := s.c.Trust(s.Context(), guestName, description, "blog", certificateOf(key))
	if err != nil {
		s.Fatal(err)
	}
}

// certificateOf is PEM; nobody here looks into it.
func certificateOf(key string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(key)}))
}

// things is what there is that a guest may leave something in, and whether a guest of ours is there.
func (s *stay) things() string {
	s.Helper()
	p, _ := s.srv.Project("blog")
	text := fmt.Sprintln("project", p.Config, s.srv.Instances("blog"), s.srv.Images("blog"))
	for _, pool := range []string{"default", "other"} {
		v, found := s.srv.Volume("blog", pool, guestName)
		text += fmt.Sprintln("volume", pool, found, v.Config)
	}
	for _, c := range s.srv.Certificates() {
		text += fmt.Sprintln("certificate", c.Name, c.Description, c.Fingerprint)
	}
	return text
}

// up runs up, and the guest with it.
func (s *stay) up() error {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan struct{})
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			i, found := s.srv.Instance("blog", guestName)
			if found && i.StatusCode == api.Running {
				_ = s.srv.WriteFile("blog", guestName, guestState+"/"+certificateFile, certificateOf("the guest's"))
				_ = s.srv.Set("blog", guestName, map[string]string{health.KeyStatus: string(health.Healthy)})
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return s.g.up(ctx)
}

func (s *stay) down() {
	s.Helper()
	err := s.g.down(s.Context())
	if err != nil {
		s.Fatal(err)
	}
}

// Wherever up or down is broken off, a later down leaves all as it was before, and what is not ours alone.
func TestDownIsWholeWhereverSomethingBrokeOff(t *testing.T) {
	for name, f := range map[string]incustest.Fault{
		"refused": {Status: 500, Message: "database is locked", Times: -1}, "answer lost": {DropAnswer: true, Times: -1},
	} {
		scope := map[string]string{"refused": "project"}[name]
		for _, verb := range []string{"up", "down"} {
			broken := 0
			for n := 1; n < 200; n++ {
				reached := false
				onStay(t, scope, func(s *stay) {
					before := s.things()
					if verb == "down" && s.up() != nil {
						s.Fatal("it does not come up")
					}
					f.Nth = n
					s.srv.ForgetCalls()
					s.srv.Fail(f)
					var err error
					if verb == "up" {
						err = s.up()
					} else {
						err = s.g.down(s.Context())
					}
					reached = len(s.srv.Calls()) >= n
					if reached && err != nil {
						broken++
					}
					s.srv.Mend()
					s.down()
					s.down()
					if diff := cmp.Diff(before, s.things()); diff != "" {
						s.Errorf("%s, %s at call %d (%v): left behind or lost (-before +after):\n%s", verb, name, n, err, diff)
					}
				})
				if !reached || t.Failed() {
					break
				}
			}
			if broken < 5 {
				t.Errorf("%s, %s: broken off at %d places only", verb, name, broken)
			}
		}
	}
}

// A user has deleted some of it by hand, in every combination.
func TestDownTakesWhatIsLeft(t *testing.T) {
	for left := range 16 {
		onStay(t, "global", func(s *stay) {
			before := s.things()
			err := s.up()
			if err != nil {
				s.Fatal(err)
			}
			if !strings.Contains(s.things(), trustMark("blog", fingerprintIn(certificateOf("the guest's")))) {
				s.Fatalf("it trusts:\n%s", s.things())
			}
			if left&1 == 0 {
				s.do(plan.StopInstance{Name: guestName}, plan.DeleteInstance{Name: guestName})
			}
			if left&3 == 0 {
				s.do(plan.DeleteVolume{Pool: "default", Name: guestName})
			}
			if left&4 == 0 {
				s.do(plan.UpdateProject{Name: "blog", Set: map[string]string{guestMark: "", guestScope: "", health.KeyScope: "global"}})
			}
			if left&8 == 0 {
				err = s.c.Distrust(s.Context(), fingerprintIn(certificateOf("the guest's")))
				if err != nil {
					s.Fatal(err)
				}
			}
			s.down()
			if diff := cmp.Diff(before, s.things()); diff != "" {
				s.Errorf("left behind or lost (-before +after):\n%s", diff)
			}
			s.down()
			if !strings.HasSuffix(s.said.String(), "there is no ic-healthd in project blog\n") || !strings.Contains(s.said.String(), "is not ours: it stays") {
				s.Error("the second one does not say that there is nothing, or what stays")
			}
		})
	}
}

func TestUpRefusesWhatIsAnothers(t *testing.T) {
	for name, c := range map[string]struct {
		prepare plan.Op
		want    string
	}{
		"volume":   {plan.CreateVolume{Pool: "default", Name: guestName}, "volume ic-healthd in pool default of project blog is somebody else's: it has no user.ic-agent.healthd=true"},
		"instance": {plan.CreateInstance{Name: guestName, Fingerprint: fp, Devices: rootOnly}, "instance ic-healthd in project blog is somebody else's: it has no user.ic-agent.healthd=true"},
		"daemon": {
			plan.CreateInstance{Name: "watcher", Fingerprint: fp, Devices: rootOnly, Config: map[string]string{health.KeyDaemon: "true"}},
			"instance watcher in project blog is a health daemon already (user.healthcheck.daemon=true): two would restart everything twice",
		},
		"restricted": {
			plan.UpdateProject{Name: "blog", Set: map[string]string{"restricted": "true"}},
			"project blog is restricted, and leaves no room for it: incus project set blog restricted.devices.proxy=allow (docs/health.md says what that means)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStay(t, "global", func(s *stay) {
				s.do(c.prepare)
				before := s.things()
				err := s.up()
				if err == nil || err.Error() != c.want {
					s.Errorf("it says %v", err)
				}
				s.down()
				if diff := cmp.Diff(before, s.things()); diff != "" {
					s.Errorf("changed (-before +after):\n%s", diff)
				}
			})
		})
	}
}

var rootOnly = map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}}

// A newer program replaces the older in the guest, and its image; the key stays.
func TestUpOnceMoreBringsTheNewProgram(t *testing.T) {
	onStay(t, "global", func(s *stay) {
		before := s.things()
		for _, program := range []string{"program", "newer", "newer"} {
			err := os.WriteFile(s.g.program, []byte(program), 0o700)
			if err == nil {
				err = s.up()
			}
			if err != nil {
				s.Fatal(err)
			}
			_, sum, _ := guestImage([]byte(program), "x86_64")
			i, _ := s.srv.Instance("blog", guestName)
			if got := s.srv.Images("blog"); i.Config["volatile.base_image"] != sum || len(got) != 2 || !slices.Contains(got, sum) {
				s.Errorf("%s: the images are %v, its own is %s, want %s", program, got, i.Config["volatile.base_image"], sum)
			}
		}
		s.down()
		if diff := cmp.Diff(before, s.things()); diff != "" {
			s.Errorf("left behind or lost (-before +after):\n%s", diff)
		}
	})
}

// What somebody has set since is not ours to take back.
func TestDownLeavesAScopeThatWasSetSince(t *testing.T) {
	onStay(t, "global", func(s *stay) {
		err := s.up()
		if err != nil {
			s.Fatal(err)
		}
		s.do(plan.UpdateProject{Name: "blog", Set: map[string]string{health.KeyScope: "global-too"}})
		s.down()
		p, _ := s.srv.Project("blog")
		if p.Config[health.KeyScope] != "global-too" {
			s.Errorf("the project has %v", p.Config)
		}
	})
}
