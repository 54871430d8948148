package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// rendered is what Render makes of the blog's web service: the words of want are among its configuration.
func rendered(t *testing.T, edit func(*plan.Service)) plan.DesiredInstance {
	t.Helper()
	p := blog()
	edit(&p.Services[1])
	w, led := newWorld(), newLedger()
	in := input(p, w.Observed, led)
	in.Domain = "incus"
	img := in.Images["nginx:1.27"]
	img.Groups = map[string]uint32{"video": 44}
	in.Images["nginx:1.27"] = img
	d := plan.Render(p, in)
	i := slices.IndexFunc(d.Instances, func(i plan.DesiredInstance) bool { return i.Service == "web" })
	if i < 0 {
		t.Fatalf("the service is blocked: %+v", d.Blocked)
	}

	return d.Instances[i]
}

// TestSandboxInLXC: what a service may do, as liblxc is told.
func TestSandboxInLXC(t *testing.T) {
	for _, c := range []struct {
		name string
		box  plan.Sandbox
		priv bool
		want string
	}{
		{name: "nothing said"},
		{"all dropped", plan.Sandbox{CapDrop: []string{"all"}}, false, "lxc.cap.keep = none\n"},
		{"all but two", plan.Sandbox{CapDrop: []string{"all"}, CapAdd: []string{"chown", "net_raw"}}, false, "lxc.cap.keep = chown net_raw\n"},
		{"one dropped", plan.Sandbox{CapDrop: []string{"net_raw"}}, false, "lxc.cap.drop = net_raw\n"},
		{"one added, which it has", plan.Sandbox{CapAdd: []string{"net_admin"}}, false, ""},
		{"privileged", plan.Sandbox{}, true, ""},
		{"privileged but for one", plan.Sandbox{CapDrop: []string{"net_raw"}}, true, "lxc.cap.drop = net_raw\n"},
		{"privileged with the clock", plan.Sandbox{CapAdd: []string{"sys_time"}}, true, "lxc.cap.drop =\nlxc.cap.drop = sys_module sys_rawio mac_admin mac_override\n"},
		{"privileged with all", plan.Sandbox{CapAdd: []string{"all"}}, true, "lxc.cap.drop =\n"},
		{
			"the rest",
			plan.Sandbox{NoNewPrivileges: true, AppArmor: "unconfined", Rules: []string{"c 13:* rmw"}, Groups: []string{"video", "7"}, ConsoleSize: 8192},
			false,
			"lxc.no_new_privs = 1\nlxc.apparmor.profile = unconfined\nlxc.cgroup2.devices.allow = c 13:* rmw\nlxc.init.groups = 44,7\nlxc.console.buffer.size = 8192\nlxc.console.size = 8192\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := rendered(t, func(s *plan.Service) {
				s.Sandbox = c.box
				s.Config = map[string]string{"security.privileged": fmt.Sprint(c.priv)}
			}).Config["raw.lxc"]
			_, got, _ = strings.Cut(got, "lxc.log.level = info\n")
			diff := cmp.Diff(c.want, got)
			if diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestGroupThatTheImageDoesNotHave(t *testing.T) {
	p := blog()
	p.Services[1].Sandbox.Groups = []string{"nobody-knows"}
	d := plan.Render(p, input(p, newWorld().Observed, newLedger()))
	if len(d.Blocked) != 1 || !strings.Contains(d.Blocked[0].Reason, `no group "nobody-knows" in its /etc/group: write the number instead`) {
		t.Errorf("blocked: %+v", d.Blocked)
	}
}

// TestNamesOfOneService: the hosts file and resolv.conf stand in for Incus's own.
func TestNamesOfOneService(t *testing.T) {
	d := rendered(t, func(s *plan.Service) {
		s.Hostname, s.Domainname = "www", "example.org"
		s.ExtraHosts = []plan.ExtraHost{{Name: "db.example", Addr: netip.MustParseAddr("192.0.2.1")}, {Name: "host.docker.internal"}}
		s.Resolver = plan.Resolver{Search: []string{"example.net", "."}, Options: []string{"ndots:2", "timeout:1"}}
	})
	gateway := d.Config["oci.dns.nameservers"]
	own, err := netip.ParsePrefix(d.Devices["eth0"]["ipv4.address"])
	if err != nil {
		t.Fatal(err)
	}

	want := map[string]string{
		"/.ic-agent/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nfe00::0 ip6-localnet\nff00::0 ip6-mcastprefix\n" +
			"ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n" + own.Addr().String() + " www.example.org www\n192.0.2.1 db.example\n" + gateway + " host.docker.internal\n",
		"/.ic-agent/resolv.conf": "nameserver " + gateway + "\nsearch blog.incus example.org example.net\noptions ndots:2 timeout:1\n",
	}
	got := map[string]string{}
	for _, f := range d.Files {
		got[f.Target] = string(f.Content)
	}

	diff := cmp.Diff(want, got)
	if diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}

	for _, line := range []string{
		"lxc.mount.entry = .ic-agent/hosts etc/hosts none bind,relative,create=file 0 0\n",
		"lxc.mount.entry = .ic-agent/resolv.conf etc/resolv.conf none bind,relative,create=file 0 0\n",
	} {
		if !strings.Contains(d.Config["raw.lxc"], line) {
			t.Errorf("raw.lxc has no %q", line)
		}
	}

	if d.Config["oci.dns.search"] != "blog.incus,example.org,example.net" {
		t.Errorf("searched are %q", d.Config["oci.dns.search"])
	}
}

// TestReadOnlyRoot: the root is mounted once, so a change needs a restart, and the places of mounts are made before.
func TestReadOnlyRoot(t *testing.T) {
	d := rendered(t, func(s *plan.Service) {
		s.Sandbox.ReadOnly, s.RootSize = true, 1<<30
		s.Mounts = []plan.Mount{
			{Type: plan.MountTmpfs, Target: "/scratch", UID: 5, GID: 6, Mode: "750"},
			{Type: plan.MountBind, Source: "/srv/nginx.conf", Target: "/etc/nginx.conf"},
		}
	})
	want := plan.Device{"type": "disk", "path": "/", "pool": "default", "readonly": "true", "size": "1073741824"}
	diff := cmp.Diff(want, d.Devices["root"])
	if diff != "" {
		t.Errorf("root (-want +got)\n%s", diff)
	}

	want = plan.Device{"type": "disk", "path": "/scratch", "source": "tmpfs:", "initial.mode": "750", "initial.uid": "5", "initial.gid": "6"}
	diff = cmp.Diff(want, d.Devices["tmpfs-scratch"])
	if diff != "" {
		t.Errorf("tmpfs (-want +got)\n%s", diff)
	}

	var made []string
	for _, f := range d.Files {
		made = append(made, fmt.Sprintf("%s %v", f.Target, f.Directory))
	}

	diff = cmp.Diff([]string{"/dev true", "/etc/hostname false", "/etc/hosts false", "/etc/resolv.conf false", "/proc true", "/run true", "/scratch true", "/sys true"}, made)
	if diff != "" {
		t.Errorf("places (-want +got)\n%s", diff)
	}
}

func TestDevicesOfTheHostBelongToTheService(t *testing.T) {
	d := rendered(t, func(s *plan.Service) {
		s.Process.User = "1000:7"
		s.HostDevices = []plan.HostDevice{
			{Type: "gpu", Config: map[string]string{"id": "0"}},
			{Type: "unix-char", Source: "/dev/ttyUSB0", Target: "/dev/modem", Config: map[string]string{"mode": "0440"}},
		}
		s.Networks[0].Interface = "lan0"
	})
	got := maps.Clone(d.Devices)
	maps.DeleteFunc(got, func(name string, _ plan.Device) bool { return name != "gpu-0" && name != "unix-char-dev-modem" })
	want := map[string]plan.Device{
		"gpu-0":               {"type": "gpu", "uid": "1000", "gid": "7", "id": "0"},
		"unix-char-dev-modem": {"type": "unix-char", "uid": "1000", "gid": "7", "mode": "0440", "source": "/dev/ttyUSB0", "path": "/dev/modem"},
	}
	diff := cmp.Diff(want, got)
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	if d.Devices["eth0"]["name"] != "lan0" {
		t.Errorf("the NIC is %v", d.Devices["eth0"])
	}
}

// TestUmaskIsTheLaunchers because neither Incus nor liblxc knows one. What is run beside the program does without it.
func TestUmaskIsTheLaunchers(t *testing.T) {
	d := rendered(t, func(s *plan.Service) {
		s.Sandbox.Umask, s.Process.Entrypoint = "0027", []string{"serve", "it's"}
		s.PostStart = []plan.Hook{{Command: []string{"warm"}}}
	})
	if len(d.Placed) != 1 || string(d.Placed[0].Content) != "u0027\x00aserve\x00ait's\x00" || len(d.Files) != 0 {
		t.Errorf("placed %+v, pushed %+v", d.Placed, d.Files)
	}

	if d.Config[plan.KeyLauncher] != "" || !strings.Contains(d.Config[plan.KeyPostStart], `"Argv":["warm"]`) {
		t.Errorf("beside it: %q, %q", d.Config[plan.KeyLauncher], d.Config[plan.KeyPostStart])
	}
}

// TestWordsLiblxcCannotHoldAreTheLaunchers, instead of a shell's, which would drop variables with dots.
func TestWordsLiblxcCannotHoldAreTheLaunchers(t *testing.T) {
	for _, argv := range [][]string{{"sh", "-c", "a\nb"}, {"echo", `"'`}, {"echo", ""}} {
		d := rendered(t, func(s *plan.Service) { s.Process.Entrypoint = argv })
		if len(d.Placed) != 1 || !strings.Contains(d.Config["raw.lxc"], "lxc.init.cmd = /.ic-agent/launch\n") {
			t.Errorf("%q: %q, %v", argv, d.Config["raw.lxc"], d.Placed)
			continue
		}

		l, err := plan.ReadLaunch(d.Placed[0].Content)
		if err != nil || !slices.Equal(l.Argv, argv) {
			t.Errorf("%q: %v, %v", argv, l, err)
		}
	}
}

func TestReadOnlyRestarts(t *testing.T) {
	w, led := newWorld(), newLedger()
	p := blog()
	_, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	web(func(s *plan.Service) { s.Sandbox.ReadOnly = true })(&p)
	made, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	// What is written are the places of mounts, which TestReadOnlyRoot lists.
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(made.String()), "\n"), func(line string) bool { return strings.Contains(line, " write ") })
	got := strings.Join(lines, "\n")
	want := `stack blog: 10 steps
[1] stop instance/web-1: files changed; device root changed
[9 after 8] update instance/web-1: files changed; device root changed
[10 after 9] start instance/web-1: stopped for the change`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
