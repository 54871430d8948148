package plan_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// byHand is a world in which somebody else made what blog asks for, by its names, and it runs.
func byHand(t *testing.T) (*world, *plan.Ledger) {
	t.Helper()
	w, led := newWorld(), newLedger()
	w.Project = &plan.ObservedProject{Name: "blog", Config: map[string]string{"features.images": "true"}}
	w.Networks["blog-default"] = plan.ObservedNetwork{Type: "bridge", Managed: true, Config: map[string]string{"ipv4.address": "10.9.0.1/24", "raw.dnsmasq": "address=/web/10.9.0.2\nlog-queries"}}
	w.Volumes["default/vol-data"] = plan.ObservedVolume{Pool: "default", Config: map[string]string{}}
	want := plan.Render(blog(), input(blog(), w.Observed, led))
	for _, i := range want.Instances {
		config := map[string]string{"boot.autorestart": "true", "volatile.uuid": "1"}
		for _, k := range []string{"oci.entrypoint", "oci.cwd", "environment.MODE"} {
			if i.Config[k] != "" {
				config[k] = i.Config[k]
			}
		}

		devices := map[string]plan.Device{
			"root": {"type": "disk", "path": "/", "pool": "default"}, "nic0": {"type": "nic", "network": "blog-default"},
		}
		for n, dev := range i.Devices {
			if dev["type"] == "disk" && dev["path"] != "/" {
				devices["their-"+n] = dev
			}

			if dev["type"] == "proxy" && strings.Contains(dev["listen"], "0.0.0.0") {
				devices["proxy-8080"] = plan.Device{"type": "proxy", "listen": dev["listen"], "connect": "tcp:127.0.0.1:80"}
			}
		}

		for k := range i.Config {
			if strings.HasPrefix(k, "limits.") || strings.HasPrefix(k, "user.label.") || strings.HasPrefix(k, "user.healthcheck.") {
				config[k] = i.Config[k]
			}
		}

		w.Instances[i.Name] = plan.ObservedInstance{
			Status: plan.Running, Config: config, Devices: devices, Fingerprint: i.Image.Fingerprint, Created: w.clock, LastUsed: w.clock.Add(1),
		}
		w.Images[i.Image.Fingerprint] = plan.ObservedImage{}
	}

	return w, led
}

// unmanaged is the input where nobody hands out addresses on the networks: those of adopted ones are dnsmasq's.
func unmanaged(p plan.Project, have plan.Observed, led *plan.Ledger) plan.Input {
	in := input(p, have, led)
	in.Segments, in.Addresses = nil, nil

	return in
}

// TestAdoptInterruptsNothing: what somebody else made as the file says is marked, and then there is nothing to do.
func TestAdoptInterruptsNothing(t *testing.T) {
	w, led := byHand(t)
	marks, after := plan.Adopt(blog(), owner, w.Observed, false)
	want := `stack blog: 5 steps
[1] update project/blog: adopted
[2] update network/blog-default: adopted
[3] update volume/default/vol-data: adopted
[4] update instance/db-1: adopted
[5] update instance/web-1: adopted
`
	diff := cmp.Diff(want, marks.String())
	if diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	then := plan.Diff(plan.Render(blog(), unmanaged(blog(), after, led)), after, *led)
	if !then.Empty() || len(then.Blocked) > 0 {
		t.Errorf("left to do:\n%s", then)
	}

	err := w.run(marks)
	if err != nil {
		t.Fatal(err)
	}

	for name, i := range after.Instances {
		if !maps.Equal(i.Config, w.Instances[name].Config) {
			t.Errorf("%s was foreseen as %v and is %v", name, i.Config, w.Instances[name].Config)
		}
	}
}

// TestAdoptSaysWhatDiffers, and a change makes the instance ours: nothing of what its maker set is left.
func TestAdoptSaysWhatDiffers(t *testing.T) {
	w, led := byHand(t)
	db := w.Instances["db-1"]
	db.Config["limits.memory"] = "1GiB"
	p := blog()
	p.Services[1].Environment = map[string]string{"MODE": "other"}
	marks, _ := plan.Adopt(p, owner, w.Observed, false)
	err := w.run(marks)
	if err != nil {
		t.Fatal(err)
	}

	then := plan.Diff(plan.Render(p, unmanaged(p, w.Observed, led)), w.Observed, *led)
	text := then.String()
	if !strings.Contains(text, `stop instance/web-1: adopted, and not as the file says: environment.MODE is`) || strings.Contains(text, "stop instance/db-1") {
		t.Errorf("left to do:\n%s", text)
	}

	err = w.run(then)
	if err != nil {
		t.Fatal(err)
	}

	web := w.Instances["web-1"]
	if web.Config["boot.autorestart"] != "" || web.Config[plan.KeyAdopted] != "" || web.Devices["proxy-8080"] != nil || web.Devices["nic0"] != nil {
		t.Errorf("left of its maker: %v %v", web.Config, web.Devices)
	}
}

// TestAdoptedNetworkSaysWhatEnds: who wants its networks to be the agent's reads what dnsmasq had and what becomes of
// IPv6, before it is done.
func TestAdoptedNetworkSaysWhatEnds(t *testing.T) {
	for _, c := range []struct {
		name, six, want string
		ipv6            bool
		set             map[string]string
	}{
		{
			name: "IPv4", six: "none", want: `; of raw.dnsmasq go ["address=/web/10.9.0.2"]`,
			set: map[string]string{"raw.dnsmasq": "log-queries", "ipv6.address": "none"},
		},
		{
			name: "IPv6 that the file has not", six: "fd42:9::1/64",
			want: `; of raw.dnsmasq go ["address=/web/10.9.0.2"]; IPv6 goes (fd42:9::1/64): the file has no enable_ipv6 for it`,
			set:  map[string]string{"raw.dnsmasq": "log-queries", "ipv6.address": "none"},
		},
		{
			name: "IPv6 that the file has", six: "fd42:9::1/64", ipv6: true,
			want: `; of raw.dnsmasq go ["address=/web/10.9.0.2" "log-queries"]`,
			set:  map[string]string{"raw.dnsmasq": "log-queries"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := byHand(t)
			w.Networks["blog-default"].Config["ipv6.address"] = c.six
			p := blog()
			p.Networks[0].IPv6 = c.ipv6
			marks, _ := plan.Adopt(p, owner, w.Observed, true)
			got := marks.Steps[1]
			want := plan.Adopted + "; the agent hands out addresses and answers names in place of dnsmasq" + c.want
			if got.Cause != want {
				t.Errorf("cause\n%s\nwant\n%s", got.Cause, want)
			}

			set := got.Op.(plan.UpdateNetwork).Set
			maps.DeleteFunc(set, func(k, _ string) bool { return strings.HasPrefix(k, "user.") })
			diff := cmp.Diff(c.set, set)
			if diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAdoptLeavesAnotherAgentsAlone, and takes dnsmasq's lines away only when the networks are meant, too.
func TestAdoptLeavesAnotherAgentsAlone(t *testing.T) {
	w, _ := byHand(t)
	w.Instances["db-1"].Config[plan.KeyOwner] = foreign
	marks, _ := plan.Adopt(blog(), owner, w.Observed, true)
	if len(marks.Blocked) != 1 || marks.Blocked[0].On.Name != "db-1" {
		t.Errorf("blocked: %v", marks.Blocked)
	}

	for _, s := range marks.Steps {
		op, ok := s.Op.(plan.UpdateNetwork)
		if ok && op.Set["raw.dnsmasq"] != "log-queries" {
			t.Errorf("the network's raw.dnsmasq becomes %q", op.Set["raw.dnsmasq"])
		}

		if s.On.Name == "db-1" {
			t.Errorf("touched: %s", s)
		}
	}
}
