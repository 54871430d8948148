package plan_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// stopped stops an instance whose start failed: it is to run, and does not.
func (w *world) stopped(led *plan.Ledger, name string) {
	inst := w.Instances[name]
	inst.Status = plan.Stopped
	w.Instances[name] = inst
	delete(led.Started, name)
}

// TestRepairs shows what is done about what Incus was interrupted in.
func TestRepairs(t *testing.T) {
	pending := func(w *world, used int) {
		n := w.Networks["blog-default"]
		n.Status, n.UsedBy = plan.NetworkPending, used
		w.Networks["blog-default"] = n
	}
	cases := []struct {
		name string
		hand func(*world, *plan.Ledger)
		want string
	}{
		{
			name: "a network that was never finished is made anew under its instances",
			hand: func(w *world, led *plan.Ledger) {
				pending(w, 2)
				w.stopped(led, "db-1")
				w.stopped(led, "web-1")
			},
			want: `stack blog: 8 steps
[1] update instance/db-1: Incus was interrupted while it made the network: it is made anew
[2] update instance/web-1: Incus was interrupted while it made the network: it is made anew
[3 after 1,2] delete network/blog-default: Incus was interrupted while it made the network: it is made anew
[4 after 3] create network/blog-default: Incus was interrupted while it made the network: it is made anew
[5 after 1,4] update instance/db-1: device eth0 changed
[6 after 4,5] start instance/db-1: device eth0 changed
[7 after 2,4] update instance/web-1: device eth0 changed
[8 after 4,6,7] start instance/web-1: device eth0 changed`,
		},
		{
			name: "it stays while something runs on it: Incus made its bridge after all",
			hand: func(w *world, _ *plan.Ledger) { pending(w, 2) },
			want: "stack blog: nothing to do",
		},
		{
			name: "it stays while somebody else uses it",
			hand: func(w *world, led *plan.Ledger) {
				pending(w, 3)
				w.stopped(led, "db-1")
				w.stopped(led, "web-1")
			},
			want: `stack blog: nothing to do
blocked network/blog-default: Incus was interrupted while it made it, and something else uses it: "incus network show blog-default" lists what; it is made anew when that is gone
blocked instance/db-1: its network blog-default is blocked: Incus was interrupted while it made it, and something else uses it: "incus network show blog-default" lists what; it is made anew when that is gone
blocked instance/web-1: its network blog-default is blocked: Incus was interrupted while it made it, and something else uses it: "incus network show blog-default" lists what; it is made anew when that is gone`,
		},
		{
			name: "a lost root filesystem is made anew in place",
			hand: func(w *world, led *plan.Ledger) {
				w.stopped(led, "db-1")
				led.Rootless = map[string]plan.Root{"db-1": plan.RootLost}
			},
			want: `stack blog: 2 steps
[1] rebuild instance/db-1: its root filesystem is lost or half made: it is made anew; its volumes and addresses stay
[2 after 1] start instance/db-1: its root filesystem is lost or half made: it is made anew; its volumes and addresses stay`,
		},
		{
			name: "a rebuild that was broken off is done again, also when the file went back",
			hand: func(w *world, led *plan.Ledger) {
				w.stopped(led, "web-1")
				led.Rootless = map[string]plan.Root{"web-1": plan.RootBegun}
			},
			want: `stack blog: 2 steps
[1] rebuild instance/web-1: its root filesystem is lost or half made: it is made anew; its volumes and addresses stay
[2 after 1] start instance/web-1: its root filesystem is lost or half made: it is made anew; its volumes and addresses stay`,
		},
		{
			name: "one that Incus cannot rebuild is made anew",
			hand: func(w *world, led *plan.Ledger) {
				w.stopped(led, "db-1")
				led.Rootless = map[string]plan.Root{"db-1": plan.RootGone}
			},
			want: `stack blog: 2 steps
[1] delete instance/db-1: its root filesystem is gone: it is made anew; its volumes and addresses stay
[2 after 1] create and start instance/db-1: new instance of service db`,
		},
		{
			name: "one that is not to run is left",
			hand: func(w *world, led *plan.Ledger) {
				w.stopped(led, "db-1")
				led.Rootless = map[string]plan.Root{"db-1": plan.RootGone}
				led.Stops = map[string]plan.Stop{"db-1": {By: "root"}}
			},
			want: "stack blog: nothing to do",
		},
		{
			name: "one that runs is well",
			hand: func(_ *world, led *plan.Ledger) {
				led.Rootless = map[string]plan.Root{"db-1": plan.RootGone, "web-1": plan.RootBegun}
			},
			want: "stack blog: nothing to do",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			_, err := w.apply(blog(), led)
			if err != nil {
				t.Fatal(err)
			}

			c.hand(w, led)
			before := w.Instances["db-1"].Devices["eth0"]["ipv4.address"]
			pl, err := w.apply(blog(), led)
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(c.want, strings.TrimSpace(pl.String())); diff != "" {
				t.Errorf("want -, got +\n%s", diff)
			}

			if after := w.Instances["db-1"].Devices["eth0"]["ipv4.address"]; after != before {
				t.Errorf("db-1 moved from %s to %s", before, after)
			}
		})
	}
}

// An instance that is made anew keeps what somebody set on it by hand.
func TestRemadeKeepsWhatIsNotOurs(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	w.stopped(led, "db-1")
	inst := w.Instances["db-1"]
	inst.Config, inst.Devices = maps.Clone(inst.Config), maps.Clone(inst.Devices)
	maps.Copy(inst.Config, map[string]string{"user.mine": "kept", "volatile.uuid": "old", "image.os": "old", "limits.cpu": "2"})
	inst.Devices["gpu"] = plan.Device{"type": "gpu"}
	w.Instances["db-1"] = inst
	led.Rootless = map[string]plan.Root{"db-1": plan.RootGone}
	_, err = w.apply(blog(), led)
	if err != nil {
		t.Fatal(err)
	}

	got := w.Instances["db-1"]
	for k, want := range map[string]string{"user.mine": "kept", "limits.cpu": "2", "volatile.uuid": "", "image.os": ""} {
		if got.Config[k] != want {
			t.Errorf("%s is %q, want %q", k, got.Config[k], want)
		}
	}

	if got.Devices["gpu"]["type"] != "gpu" {
		t.Errorf("the devices are %v", got.Devices)
	}
}
