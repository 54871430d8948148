package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// mounted is what Render makes of a mount of the blog's web service: its device, else why there is none.
func mounted(t *testing.T, m plan.Mount, edit func(*plan.Input)) (dev plan.Device, blocked plan.Blocked, warnings []plan.Warning) {
	t.Helper()
	p := blog()
	m.At = plan.Place{File: "blog.yaml", Line: 42}
	p.Services[1].Mounts = []plan.Mount{m}
	in := input(p, newWorld().Observed, newLedger())
	edit(&in)
	d := plan.Render(p, in)
	for _, inst := range d.Instances {
		for _, dev := range inst.Devices {
			if inst.Service == "web" && dev["path"] == m.Target {
				return dev, blocked, d.Warnings
			}
		}
	}

	if len(d.Blocked) != 1 {
		t.Fatalf("blocked: %+v", d.Blocked)
	}

	return nil, d.Blocked[0], d.Warnings
}

func TestBindOptions(t *testing.T) {
	share := plan.Share{Type: "nfs", Device: "nas:/export", Options: "nfsvers=4"}
	for _, c := range []struct {
		name string
		m    plan.Mount
		want plan.Device
	}{
		{"propagation", plan.Mount{Source: "/srv/a", Propagation: "rslave"}, plan.Device{"source": "/srv/a", "shift": "true", "propagation": "slave"}},
		{"propagation with what is below", plan.Mount{Source: "/srv/a", Propagation: "private", Recursive: plan.RecursiveOn}, plan.Device{
			"source": "/srv/a", "shift": "true", "propagation": "rprivate", "recursive": "true",
		}},
		{"with what is mounted below", plan.Mount{Source: "/srv/a", Recursive: plan.RecursiveOn}, plan.Device{"source": "/srv/a", "shift": "true", "recursive": "true"}},
		{"without", plan.Mount{Source: "/srv/a", Recursive: plan.RecursiveOff}, plan.Device{"source": "/srv/a", "shift": "true"}},
		{"a share", plan.Mount{Share: share, NoShift: true, Subpath: "films", ReadOnly: true}, plan.Device{"source": "/mnt/nas/films", "readonly": "true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.m.Type, c.m.Target = plan.MountBind, "/x"
			c.want["type"], c.want["path"] = "disk", "/x"
			dev, _, _ := mounted(t, c.m, func(in *plan.Input) { in.Shares = map[plan.Share]string{share: "/mnt/nas"} })
			if diff := cmp.Diff(c.want, dev); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatAMountLacksIsSaidWithItsLine(t *testing.T) {
	for _, c := range []struct {
		name string
		m    plan.Mount
		want []string
	}{
		{"a subpath", plan.Mount{Type: plan.MountVolume, Source: "data", Subpath: "a/b"}, []string{
			"the volume data has no a/b", "incus storage volume file create -p --type directory default vol-data/a/b",
		}},
		{"a directory", plan.Mount{Type: plan.MountBind, Source: "/srv/gone"}, []string{"mkdir -p /srv/gone"}},
		{"a share", plan.Mount{Type: plan.MountBind, Share: plan.Share{Type: "nfs4", Device: "nas:/export/Films", Options: "soft"}}, []string{
			"has not mounted nas:/export/Films", "nas:/export/Films /srv/films nfs4 soft,_netdev,nofail,", "/etc/fstab",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.m.Target = "/x"
			_, blocked, _ := mounted(t, c.m, func(in *plan.Input) {
				in.Lacks = map[string]bool{"vol-data/a/b": true}
				in.Paths = map[string]plan.HostPath{"/srv/gone": plan.HostMissing}
			})
			for _, want := range c.want {
				if !strings.Contains(blocked.Reason, want) {
					t.Errorf("%q lacks %q", blocked.Reason, want)
				}
			}

			if blocked.At.Line != 42 || !blocked.Temporary || blocked.On.Name != "web-1" {
				t.Errorf("%+v", blocked)
			}
		})
	}
}

// Docker shows what is mounted below a directory, Incus does not: who says nothing of it hears so.
func TestMountsBelowADirectoryAreToldOf(t *testing.T) {
	for recursive, want := range map[plan.Recursion]bool{"": true, plan.RecursiveOn: false, plan.RecursiveOff: false} {
		_, _, warnings := mounted(t, plan.Mount{Type: plan.MountBind, Source: "/mnt", Target: "/x", Recursive: recursive}, func(in *plan.Input) {
			in.Paths = map[string]plan.HostPath{"/mnt": plan.HostTree}
		})
		told := false
		for _, w := range warnings {
			told = told || strings.Contains(w.Text, "more mounted below /mnt") && w.Line == 42
		}

		if told != want {
			t.Errorf("recursive %q: %+v", recursive, warnings)
		}
	}
}

func TestHostNetworkInLXC(t *testing.T) {
	inst := rendered(t, func(s *plan.Service) {
		s.HostNetwork, s.Networks = true, nil
		s.Config = map[string]string{"linux.sysctl.kernel.msgmax": "65536"}
	})
	raw := inst.Config["raw.lxc"]
	for _, want := range []string{"lxc.net.0.type = none\n", "lxc.hook.start-host =\n", "shmounts/blog_web-1:", "lxc.sysctl =\nlxc.sysctl.kernel.msgmax = 65536\n"} {
		if !strings.Contains(raw, want) {
			t.Errorf("%q lacks %q", raw, want)
		}
	}

	for name, dev := range inst.Devices {
		if dev["type"] == "nic" {
			t.Errorf("it has the NIC %s", name)
		}
	}
}

func TestVolumeWithoutANameHasTheLabelsOfItsMount(t *testing.T) {
	p := blog()
	p.Services[1].Mounts = []plan.Mount{{Type: plan.MountVolume, Target: "/x", Labels: map[string]string{"backup": "daily"}}}
	for _, v := range plan.Render(p, input(p, newWorld().Observed, newLedger())).Volumes {
		if v.Key == "" && v.Config["user.label.backup"] != "daily" {
			t.Errorf("%+v", v)
		}
	}
}
