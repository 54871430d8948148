package plan_test

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// blog is the stack most cases start from: a web server that waits for a database with a volume.
func blog() plan.Project {
	return plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog", Source: "/etc/incus-compose.d/blog.yaml",
		Networks: []plan.Network{{Name: "default", Incus: "blog-default"}},
		Volumes:  []plan.Volume{{Name: "data", Incus: "vol-data"}},
		Services: []plan.Service{
			{
				Name: "db", Image: plan.ImageRef{Ref: "postgres:16"}, Replicas: 1, Restart: "always",
				Networks: []plan.Attachment{{Network: "default"}},
				Mounts:   []plan.Mount{{Type: plan.MountVolume, Source: "data", Target: "/var/lib/data"}},
				Process:  plan.Process{StopGrace: 30 * time.Second},
			},
			{
				Name: "web", Image: plan.ImageRef{Ref: "nginx:1.27"}, Replicas: 1,
				Environment: map[string]string{"MODE": "a"},
				Networks:    []plan.Attachment{{Network: "default"}},
				Ports:       []plan.Port{{Published: 8080, PublishedEnd: 8080, Target: 80, Protocol: "tcp"}},
				DependsOn:   []plan.Dependency{{Service: "db", Condition: "service_started"}},
			},
		},
	}
}

// web changes the blog's web service.
func web(change func(*plan.Service)) func(*plan.Project) {
	return func(p *plan.Project) { change(&p.Services[1]) }
}

// TestPlan shows what an edit does to a stack that runs: the text is the specification.
func TestPlan(t *testing.T) {
	cases := []struct {
		name string
		edit func(*plan.Project)
		// hand is what somebody did to Incus meanwhile.
		hand func(*world)
		want string
	}{
		{name: "nothing", want: "stack blog: nothing to do"},
		{
			name: "an environment variable restarts its service alone",
			edit: web(func(s *plan.Service) { s.Environment = map[string]string{"MODE": "b"} }),
			want: `stack blog: 3 steps
[1] stop instance/web-1: environment.MODE
[2 after 1] update instance/web-1: environment.MODE
[3 after 2] start instance/web-1: stopped for the change`,
		},
		{
			name: "a memory limit is changed in place",
			edit: web(func(s *plan.Service) { s.Config = map[string]string{"limits.memory": "64MiB"} }),
			want: `stack blog: 1 step
[1] update instance/web-1: limits.memory`,
		},
		{
			name: "another image is pulled before anything stops, and rebuilt in place",
			edit: web(func(s *plan.Service) { s.Image.Ref = "nginx:1.28" }),
			want: `stack blog: 5 steps
[1] pull image/docker.io/library/nginx:1.28: not on this host
[2 after 1] stop instance/web-1: image changed: nginx:1.27@6e67696e783a → nginx:1.28@6e67696e783a
[3 after 1,2] rebuild instance/web-1: image changed: nginx:1.27@6e67696e783a → nginx:1.28@6e67696e783a
[4 after 1,3] update instance/web-1: image changed: nginx:1.27@6e67696e783a → nginx:1.28@6e67696e783a
[5 after 1,4] start instance/web-1: stopped for the change`,
		},
		{
			name: "a published port moves without a restart",
			edit: web(func(s *plan.Service) { s.Ports[0].Published, s.Ports[0].PublishedEnd = 9090, 9090 }),
			want: `stack blog: 1 step
[1] update instance/web-1: device port-tcp changed`,
		},
		{
			name: "a port on loopback alone is the agent's own affair",
			edit: web(func(s *plan.Service) {
				s.Ports = append(s.Ports, plan.Port{
					HostIP: netip.MustParseAddr("127.0.0.1"), Published: 9090, PublishedEnd: 9090, Target: 90, Protocol: "tcp",
				})
			}),
			want: "stack blog: nothing to do",
		},
		{
			name: "a new volume gets the files of the image while the service is stopped for it",
			edit: func(p *plan.Project) {
				p.Volumes = append(p.Volumes, plan.Volume{Name: "up", Incus: "vol-up"})
				p.Services[1].Mounts = []plan.Mount{{Type: plan.MountVolume, Source: "up", Target: "/up"}}
			},
			want: `stack blog: 6 steps
[1] create volume/default/vol-up: new volume up
[2 after 1] stop instance/web-1: device vol-up changed
[3 after 1,2] copy the image's files into volume/default/vol-up: new volume up
[4 after 3] update volume/default/vol-up: the image's files are there
[5 after 2,4] update instance/web-1: device vol-up changed
[6 after 4,5] start instance/web-1: stopped for the change`,
		},
		{
			name: "a removed service is parked, its volume stays",
			edit: func(p *plan.Project) {
				p.Services = p.Services[1:]
				p.Services[0].DependsOn = nil
			},
			want: `stack blog: 3 steps
[1] stop instance/db-1: service db no longer has it
[2 after 1] update instance/db-1: parked
[3] update instance/web-1: boot.autostart.priority, boot.stop.priority`,
		},
		{
			name: "a value changed by hand is put back without a restart",
			hand: func(w *world) { w.Instances["web-1"].Config["environment.MODE"] = "by hand" },
			want: `stack blog: 1 step
[1] update instance/web-1: environment.MODE`,
		},
		{
			name: "keys and devices set by hand are left alone",
			hand: func(w *world) {
				w.Instances["web-1"].Config["user.mine"] = "1"
				w.Instances["web-1"].Devices["mine"] = plan.Device{"type": "none"}
			},
			want: `stack blog: nothing to do
warning instance/web-1: set by hand, and left alone: user.mine, the device mine`,
		},
		{
			name: "what was changed by hand is left where the file says so",
			edit: func(p *plan.Project) { p.Drift = "report" },
			hand: func(w *world) {
				w.Instances["web-1"].Config["environment.MODE"] = "by hand"
				delete(w.Instances["web-1"].Devices, "port-tcp")
			},
			want: `stack blog: nothing to do
warning instance/web-1: environment.MODE was changed by hand to "by hand" (the file: "a") and is left so (drift: report)
warning instance/web-1: the device port-tcp was changed by hand and is left so (drift: report)`,
		},
		{
			name: "an edit is no drift",
			edit: func(p *plan.Project) {
				p.Drift = "report"
				p.Services[1].Config = map[string]string{"limits.memory": "64MiB"}
			},
			want: `stack blog: 1 step
[1] update instance/web-1: limits.memory`,
		},
		{
			name: "the health status is not ours to write",
			hand: func(w *world) { w.Instances["web-1"].Config[plan.KeyHealthStatus] = "healthy" },
			want: "stack blog: nothing to do",
		},
		{
			name: "an instance that stopped by itself is left so",
			hand: func(w *world) { _ = w.power("web-1", plan.Stopped) },
			want: "stack blog: nothing to do",
		},
		{
			name: "an instance deleted by hand comes back",
			hand: func(w *world) { delete(w.Instances, "db-1") },
			want: `stack blog: 1 step
[1] create and start instance/db-1: new instance of service db`,
		},
		{
			name: "a foreign instance is a conflict and stays untouched",
			hand: func(w *world) { w.Instances["web-1"].Config[plan.KeyOwner] = foreign },
			want: `stack blog: nothing to do
conflict instance/web-1: an instance of this name exists in project blog and is not ours: set container_name, remove it, or take it over with "ic-agent adopt blog"`,
		},
		{
			name: "a foreign project is a conflict and nothing in it is touched",
			hand: func(w *world) { w.Project.Config[plan.KeyOwner] = foreign },
			want: `stack blog: nothing to do
conflict project/blog: an Incus project of this name exists and is not ours: choose another name with a top-level "name:", remove it, or take it over with "ic-agent adopt blog" (/etc/incus-compose.d/blog.yaml)`,
		},
		{
			name: "a second replica shares the port, and the first goes on undisturbed",
			edit: web(func(s *plan.Service) { s.Replicas = 2 }),
			want: `stack blog: 3 steps
[1] update instance/web-1: device port-tcp removed
[2] create instance/web-2: new instance of service web
[3 after 2] start instance/web-2: new instance`,
		},
		{
			name: "a config file is placed while the service is stopped for it",
			edit: web(func(s *plan.Service) {
				s.Files = []plan.File{{Target: "/etc/app.conf", Content: []byte("x"), UID: -1, GID: -1}}
			}),
			want: `stack blog: 5 steps
[1] stop instance/web-1: configs or secrets changed
[2 after 1] place the files of instance/web-1: configs or secrets changed
[3 after 2] make the mount points of instance/web-1: configs or secrets changed
[4 after 3] update instance/web-1: configs or secrets changed
[5 after 4] start instance/web-1: stopped for the change`,
		},
		{
			name: "a missing external network blocks its services and nothing else",
			edit: func(p *plan.Project) {
				p.Networks = append(p.Networks, plan.Network{Name: "lan", Incus: "lan", External: true})
				p.Services[1].Networks = append(p.Services[1].Networks, plan.Attachment{Network: "lan"})
			},
			want: `stack blog: nothing to do
blocked network/lan: the external network "lan" does not exist in Incus: create it, or remove "external: true"
blocked instance/web-1: its network lan is blocked: the external network "lan" does not exist in Incus: create it, or remove "external: true"`,
		},
	}

	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			_, err := w.apply(blog(), led)
			if err != nil {
				t.Fatal(err)
			}

			p := blog()
			if c.edit != nil {
				c.edit(&p)
			}

			if c.hand != nil {
				c.hand(w)
			}

			got, err := w.apply(p, led)
			if err != nil {
				t.Fatal(err)
			}

			diff := cmp.Diff(c.want, strings.TrimSpace(got.String()))
			if diff != "" {
				t.Fatalf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestPlanNewStack is the plan of a stack that is seen for the first time.
func TestPlanNewStack(t *testing.T) {
	w, led := newWorld(), newLedger()
	got, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	want := `stack blog: 11 steps
[1] create project/blog: new stack blog
[2] create network/blog-default: new network default 10.201.0.1/24
[3 after 1] create volume/default/vol-data: new volume data
[4 after 1] pull image/docker.io/library/postgres:16: not on this host
[5 after 1,2,3,4] create instance/db-1: new instance of service db
[6 after 3,5] copy the image's files into volume/default/vol-data: new volume data
[7 after 6] update volume/default/vol-data: the image's files are there
[8 after 1,2,4,5,7] start instance/db-1: new instance
[9 after 1] pull image/docker.io/library/nginx:1.27: not on this host
[10 after 1,2,9] create instance/web-1: new instance of service web
[11 after 8,10] start instance/web-1: new instance
`
	diff := cmp.Diff(want, got.String())
	if diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// TestPlanWithout leaves out an object and what waits for it, and nothing else.
func TestPlanWithout(t *testing.T) {
	w, led := newWorld(), newLedger()
	whole, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	got := whole.Without(func(id plan.ID) bool { return id.Name == "db-1" })
	want := `stack blog: 6 steps
[1] create project/blog: new stack blog
[2] create network/blog-default: new network default 10.201.0.1/24
[3 after 1] create volume/default/vol-data: new volume data
[4 after 1] pull image/docker.io/library/postgres:16: not on this host
[5 after 1] pull image/docker.io/library/nginx:1.27: not on this host
[6 after 1,2,5] create instance/web-1: new instance of service web
`
	diff := cmp.Diff(want, got.String())
	if diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// TestDependencyConditions: a service starts when what it depends on is what it asks for, and not before.
func TestDependencyConditions(t *testing.T) {
	on := func(condition string, check bool) plan.Project {
		p := blog()
		p.Services[1].DependsOn[0].Condition = condition
		if check {
			p.Services[0].Config = map[string]string{"user.healthcheck.enabled": "true"}
		}

		return p
	}

	for _, c := range []struct {
		name, condition string
		check           bool
		then            func(*world)
		before, after   string
	}{
		{
			name: "healthy", condition: "service_healthy", check: true,
			then:   func(w *world) { w.Instances["db-1"].Config[plan.KeyHealthStatus] = "healthy" },
			before: "waiting instance/web-1: it waits for db-1 to be healthy, which is not checked yet (is ic-healthd running?)",
			after:  "[1] start instance/web-1: it has not been started yet",
		},
		{
			name: "healthy without a check", condition: "service_healthy",
			then:   func(*world) {},
			before: "blocked instance/web-1: it waits for db-1 to be healthy, and that has no healthcheck: add one, or depend on service_started",
			after:  "blocked instance/web-1: it waits for db-1 to be healthy, and that has no healthcheck: add one, or depend on service_started",
		},
		{
			name: "completed in vain", condition: "service_completed_successfully",
			then: func(w *world) {
				_ = w.power("db-1", plan.Stopped)
				w.Instances["db-1"].Config[plan.KeyHealthDetail] = `{"exit":3}`
			},
			before: "waiting instance/web-1: it waits for db-1 to have done its work",
			after:  "blocked instance/web-1: it needs db-1 to end with 0, and that ended with 3",
		},
		{
			name: "completed", condition: "service_completed_successfully",
			then: func(w *world) {
				_ = w.power("db-1", plan.Stopped)
				w.Instances["db-1"].Config[plan.KeyHealthDetail] = `{"exit":0}`
			},
			before: "waiting instance/web-1: it waits for db-1 to have done its work",
			after:  "[1] start instance/web-1: it has not been started yet",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			p := on(c.condition, c.check)
			_, err := w.apply(p, led)
			if err != nil {
				t.Fatal(err)
			}

			for _, want := range []string{c.before, c.after} {
				got, aerr := w.apply(p, led)
				if aerr != nil || !strings.Contains(got.String(), want) {
					t.Errorf("want %q in\n%s%v", want, got, aerr)
				}

				c.then(w)
			}
		})
	}
}

// TestImageHealthcheckIsInherited unless the file has one, or refuses it.
func TestImageHealthcheckIsInherited(t *testing.T) {
	for _, c := range []struct {
		name       string
		edit       func(*plan.Service)
		test, wait string
	}{
		{"as it is", func(*plan.Service) {}, `["CMD","ping"]`, "5s"},
		{"with another interval", func(s *plan.Service) { s.Config = map[string]string{"user.healthcheck.interval": "9s"} }, `["CMD","ping"]`, "9s"},
		{"with a test of its own", func(s *plan.Service) { s.Config = map[string]string{"user.healthcheck.test": `["CMD","own"]`} }, `["CMD","own"]`, ""},
		{"refused", func(s *plan.Service) { s.NoHealthcheck = true }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			p := blog()
			c.edit(&p.Services[1])
			in := input(p, w.Observed, led)
			img := in.Images["nginx:1.27"]
			img.Healthcheck = &plan.Healthcheck{Test: []string{"CMD", "ping"}, Interval: 5 * time.Second}
			in.Images["nginx:1.27"] = img
			for _, d := range plan.Render(p, in).Instances {
				if d.Name == "web-1" && (d.Config["user.healthcheck.test"] != c.test || d.Config["user.healthcheck.interval"] != c.wait) {
					t.Errorf("test %q every %q", d.Config["user.healthcheck.test"], d.Config["user.healthcheck.interval"])
				}
			}
		})
	}
}

// TestParkStopsDependentsFirst is what follows when a stack's file is gone.
func TestParkStopsDependentsFirst(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	got := plan.Park("blog", owner, w.Observed, *led)
	want := `stack blog: 5 steps
[1] stop instance/web-1: the stack's file is gone
[2 after 1] update instance/web-1: parked
[3 after 2] stop instance/db-1: the stack's file is gone
[4 after 2,3] update instance/db-1: parked
[5 after 2,4] delete network/blog-default: the file no longer has network default
`
	diff := cmp.Diff(want, got.String())
	if diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}

	if grace := got.Steps[2].Op.(plan.StopInstance).Grace; grace != 30*time.Second {
		t.Errorf("the database gets %s to stop, want 30s", grace)
	}

	err = w.run(got)
	if err != nil {
		t.Fatal(err)
	}

	for name, i := range w.Instances {
		if i.Config["boot.autostart"] != "false" || i.Config["user.healthcheck.stopped"] != "true" {
			t.Errorf("%s may be started by somebody: %v", name, i.Config)
		}
	}

	again := plan.Park("blog", owner, w.Observed, *led)
	if !again.Empty() {
		t.Errorf("parked, there is more to do: %s", again)
	}

	maps.DeleteFunc(led.Started, func(string, string) bool { return true })
	_, err = w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	fresh, led2 := newWorld(), newLedger()
	_, err = fresh.apply(blog(), led2)
	if err != nil {
		t.Fatal(err)
	}

	for name, i := range w.Instances {
		diff = cmp.Diff(fresh.Instances[name].Config, i.Config)
		if diff != "" || i.Status != plan.Running || len(i.Devices) != len(fresh.Instances[name].Devices) {
			t.Errorf("%s is %s with %d devices after the file is back; its config (-never parked +back)\n%s", name, i.Status, len(i.Devices), diff)
		}
	}
}

// TestParkedTooLong is the end of a parked stack: its volume stays, and with it the project.
func TestParkedTooLong(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	led.Expired = map[string]bool{"db-1": true, "web-1": true}
	err = w.run(plan.Park("blog", owner, w.Observed, *led))
	if err != nil {
		t.Fatal(err)
	}

	if len(w.Instances) != 0 || len(w.Networks) != 0 {
		t.Errorf("left: %d instances, %d networks", len(w.Instances), len(w.Networks))
	}

	if len(w.Volumes) != 1 || w.Project == nil {
		t.Errorf("the volume is gone: %v, project %v", w.Volumes, w.Project)
	}
}

// TestDestroy is what a user's word deletes: all but the volumes, or all.
func TestDestroy(t *testing.T) {
	for _, volumes := range []bool{false, true} {
		w, led := newWorld(), newLedger()
		_, err := w.apply(blog(), led)
		if err != nil {
			t.Fatal(err)
		}

		w.Volumes["default/mine"] = plan.ObservedVolume{Pool: "default"}
		err = w.run(plan.Destroy("blog", owner, w.Observed, *led, volumes))
		if err != nil {
			t.Fatal(err)
		}

		left := slices.Sorted(maps.Keys(w.Volumes))
		want := []string{"default/mine", "default/vol-data"}
		if volumes {
			want = want[:1]
		}

		diff := cmp.Diff(want, left)
		if diff != "" || len(w.Instances)+len(w.Networks) != 0 || w.Project == nil {
			t.Errorf("with volumes %t: %d instances, %d networks, project %v, volumes left (-want +got)\n%s", volumes, len(w.Instances), len(w.Networks), w.Project, diff)
		}
	}
}

// TestSharedVolumesOfAnotherStackStay: in projects without volumes of their own, those of all stacks lie side by side. In
// one that has them, all of ours are the stack's, also those it made under an older name.
func TestSharedVolumesOfAnotherStackStay(t *testing.T) {
	for _, shared := range []bool{true, false} {
		w, led := newWorld(), newLedger()
		_, err := w.apply(blog(), led)
		if err != nil {
			t.Fatal(err)
		}

		w.Project.Config = maps.Clone(w.Project.Config)
		w.Project.Config["features.storage.volumes"] = strconv.FormatBool(!shared)
		w.Volumes["default/theirs"] = plan.ObservedVolume{Pool: "default", Config: map[string]string{plan.KeyOwner: owner, plan.KeyStack: "shop"}}
		released := plan.Release("blog", owner, w.Observed).String()
		if strings.Contains(released, "default/theirs") == shared || !strings.Contains(released, "default/vol-data") {
			t.Errorf("shared %t:\n%s", shared, released)
		}

		err = w.run(plan.Destroy("blog", owner, w.Observed, *led, true))
		if err != nil {
			t.Fatal(err)
		}

		_, theirs := w.Volumes["default/theirs"]
		_, ours := w.Volumes["default/vol-data"]
		if theirs != shared || ours {
			t.Errorf("shared %t: theirs is left: %t, ours: %t", shared, theirs, ours)
		}
	}
}

// TestProtectedStays: a protected service outlives its removal from the file, the file's removal, and destroy, until
// that is confirmed; a new one on its volume waits.
func TestProtectedStays(t *testing.T) {
	protected := func() plan.Project {
		p := blog()
		p.Services[0].Protect = true

		return p
	}
	w, led := newWorld(), newLedger()
	_, err := w.apply(protected(), led)
	if err != nil {
		t.Fatal(err)
	}

	p := protected()
	p.Services[0].Name = "database"
	p.Services[1].DependsOn = nil
	want := `stack blog: 1 step
[1] update instance/web-1: boot.autostart.priority, boot.stop.priority
held instance/db-1: service db no longer has it; its volumes are used by database, which is new, and it is protected: it stays until "ic-agent confirm-removal blog/db" says that this was meant
blocked instance/database-1: db-1 still has its volume or port, and is protected: "ic-agent confirm-removal blog/db" lets it go
`
	in := input(p, w.Observed, led)
	got := plan.Diff(plan.Render(p, in), w.Observed, *led).String()
	diff := cmp.Diff(want, got)
	if diff != "" {
		t.Errorf("removed from the file (-want +got)\n%s", diff)
	}

	parked := plan.Park("blog", owner, w.Observed, *led).String()
	if strings.Contains(parked, "stop instance/db-1") || strings.Contains(parked, "network/") || !strings.Contains(parked, "stop instance/web-1") {
		t.Errorf("the file's removal:\n%s", parked)
	}

	destroyed := plan.Destroy("blog", owner, w.Observed, *led, true)
	if !destroyed.Empty() || len(destroyed.Blocked) != 1 {
		t.Errorf("destroy:\n%s", destroyed)
	}

	led.Confirmed = map[string]bool{"db": true}
	got = plan.Diff(plan.Render(p, in), w.Observed, *led).String()
	want = `stack blog: 4 steps
[1] stop instance/db-1: service db no longer has it; its volumes are used by database, which is new
[2 after 1] update instance/db-1: parked
[3 after 2] create and start instance/database-1: new instance of service database
[4] update instance/web-1: boot.autostart.priority, boot.stop.priority
`
	diff = cmp.Diff(want, got)
	if diff != "" {
		t.Errorf("confirmed (-want +got)\n%s", diff)
	}
}

// TestRecover finds addresses and starts again after the ledger was lost: nothing is to be done then.
func TestRecover(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	again := plan.Recover("blog", owner, w.Observed)
	got, err := w.apply(blog(), &again)
	if err != nil {
		t.Fatal(err)
	}

	if !got.Empty() {
		t.Fatalf("want nothing to do, got\n%s", got)
	}
}

// A root disk stays where it is when the host's pool is another, and the plan says how to have it moved.
func TestRootDiskStaysInItsPool(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	inst := w.Instances["db-1"]
	inst.Devices = maps.Clone(inst.Devices)
	inst.Devices["root"] = plan.Device{"type": "disk", "path": "/", "pool": "ssd"}
	w.Instances["db-1"] = inst
	pl, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	const want = `the root disk of db-1 stays in pool ssd; to have it made in default: "incus delete --force db-1 --project blog", and the agent makes it anew, with its volumes and addresses`
	if !pl.Empty() || len(pl.Warnings) != 1 || pl.Warnings[0].Text != want {
		t.Errorf("plan %s\nwarnings %v", pl, pl.Warnings)
	}
}
