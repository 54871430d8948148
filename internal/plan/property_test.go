package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// anyProject draws small projects that overlap a lot, so that going from one to the next changes, adds and
// removes everything that can be.
func anyProject(t *rapid.T) plan.Project {
	p := plan.Project{Stack: "blog", Name: "blog", Incus: "blog", Source: "blog.yaml"}
	for _, n := range []string{"a", "b"} {
		if rapid.Bool().Draw(t, "network "+n) {
			p.Networks = append(p.Networks, plan.Network{Name: n, Incus: "blog-" + n, Internal: rapid.Bool().Draw(t, "internal")})
		}
	}

	for _, v := range []string{"x", "y"} {
		if rapid.Bool().Draw(t, "volume "+v) {
			p.Volumes = append(p.Volumes, plan.Volume{Name: v, Incus: "vol-" + v})
		}
	}

	var before []string
	for i, name := range []string{"db", "queue", "web"} {
		if !rapid.Bool().Draw(t, "service "+name) {
			continue
		}

		p.Services = append(p.Services, anyService(t, p, name, i, before))
		before = append(before, name)
	}

	return p
}

func anyService(t *rapid.T, p plan.Project, name string, i int, before []string) plan.Service {
	s := plan.Service{
		Name: name, Replicas: rapid.IntRange(0, 2).Draw(t, "replicas"),
		Image:       plan.ImageRef{Ref: rapid.SampledFrom([]string{"img:1", "img:2", "img:1+other-config"}).Draw(t, "image")},
		Environment: map[string]string{"A": rapid.SampledFrom([]string{"1", "2", "two\nlines"}).Draw(t, "env")},
		Restart:     rapid.SampledFrom([]string{"", "no", "always"}).Draw(t, "restart"),
	}
	if rapid.Bool().Draw(t, "limit") {
		s.Config = map[string]string{"limits.memory": "1GiB"}
	}

	for _, n := range p.Networks {
		if rapid.Bool().Draw(t, "on "+n.Name) {
			s.Networks = append(s.Networks, plan.Attachment{Network: n.Name})
		}
	}

	for _, v := range p.Volumes {
		if rapid.Bool().Draw(t, "mounts "+v.Name) {
			s.Mounts = append(s.Mounts, plan.Mount{Type: plan.MountVolume, Source: v.Name, Target: "/" + v.Name})
		}
	}

	if rapid.Bool().Draw(t, "tmpfs") {
		s.Mounts = append(s.Mounts, plan.Mount{Type: plan.MountTmpfs, Target: "/tmp"})
	}

	if rapid.Bool().Draw(t, "file") {
		s.Files = []plan.File{{Target: "/f", Content: []byte(rapid.SampledFrom([]string{"1", "2"}).Draw(t, "content"))}}
		s.OnChange = rapid.SampledFrom([]string{"", "signal", "push", "recreate"}).Draw(t, "on change")
	}

	for _, dep := range before {
		if rapid.Bool().Draw(t, "needs "+dep) {
			s.DependsOn = append(s.DependsOn, plan.Dependency{Service: dep, Condition: "service_started"})
		}
	}

	if rapid.Bool().Draw(t, "port") {
		from := uint16(8000 + 10*i)
		s.Ports = []plan.Port{{Published: from, PublishedEnd: from + 2, Target: 80, Protocol: "tcp"}}
	}

	return s
}

// TestPlansConverge: whatever the stack was and is to become, executing the plan, in any order its steps allow,
// leaves nothing to do; what is not ours stays as it was; the plan's text is the same each time; dependencies
// start first; volumes are never lost.
func TestPlansConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, led := newWorld(), newLedger()
		w.Networks["incusbr0"] = plan.ObservedNetwork{Type: "bridge", Managed: true, Config: map[string]string{"ipv4.address": "10.0.0.1/24"}}
		volumes := map[string]bool{}
		for turn := range 3 {
			p := anyProject(t)
			if turn > 0 {
				addForeign(w)
			}

			in := input(p, w.Observed, led)
			want := plan.Render(p, in)
			first, second := plan.Diff(want, w.Observed, *led), plan.Diff(plan.Render(p, in), w.Observed, *led)
			if first.String() != second.String() {
				t.Fatalf("two texts for one input:\n%s\n%s", first, second)
			}

			checkOrder(t, want, first)
			before := foreigners(w)
			pl, err := w.apply(p, led)
			if err != nil {
				t.Fatalf("%v\nin\n%s", err, pl)
			}

			if after := foreigners(w); !maps.Equal(before, after) {
				t.Fatalf("touched what is not ours: %v → %v\n%s", before, after, pl)
			}

			rest, _ := w.apply(p, led)
			if !rest.Empty() {
				t.Fatalf("left to do after\n%s:\n%s", pl, rest)
			}

			for v := range volumes {
				_, ok := w.Volumes[v]
				if !ok {
					t.Fatalf("the volume %s is gone", v)
				}
			}

			for v := range w.Volumes {
				volumes[v] = true
			}

			checkWanted(t, w, want)
		}
	})
}

// addForeign puts an instance that is not ours into the project.
func addForeign(w *world) {
	w.Instances["theirs"] = plan.ObservedInstance{
		Status: plan.Running, Config: map[string]string{plan.KeyStack: "blog"}, Devices: map[string]plan.Device{},
	}
}

func foreigners(w *world) map[string]string {
	out := map[string]string{}
	for n, i := range w.Instances {
		if i.Config[plan.KeyOwner] != owner {
			out[n] = fmt.Sprint(i)
		}
	}

	for n, i := range w.Networks {
		if i.Config[plan.KeyOwner] != owner {
			out[n] = fmt.Sprint(i)
		}
	}

	return out
}

// checkOrder: a start of an instance waits for the starts of what it needs.
func checkOrder(t *rapid.T, want plan.Desired, p plan.Plan) {
	starts := map[string]int{}
	for _, s := range p.Steps {
		switch op := s.Op.(type) {
		case plan.StartInstance:
			starts[op.Name] = s.N
		case plan.CreateInstance:
			if op.Start {
				starts[op.Name] = s.N
			}
		}
	}

	for _, w := range want.Instances {
		for _, need := range w.Needs {
			for _, other := range want.Instances {
				a, b := starts[other.Name], starts[w.Name]
				if other.Service == need.Service && a != 0 && b != 0 && !reaches(p, b, a) {
					t.Fatalf("%s starts without waiting for %s:\n%s", w.Name, other.Name, p)
				}
			}
		}
	}
}

// reaches reports whether step from waits, directly or not, for step to.
func reaches(p plan.Plan, from, to int) bool {
	for _, n := range p.Steps[from-1].After {
		if n == to || reaches(p, n, to) {
			return true
		}
	}

	return false
}

// checkWanted: every instance that could be rendered runs with what was wanted, and every other of ours is parked.
func checkWanted(t *rapid.T, w *world, want plan.Desired) {
	names := map[string]bool{"theirs": true}
	for _, b := range want.Blocked {
		names[b.On.Name] = true
	}

	for _, d := range want.Instances {
		names[d.Name] = true
		have := w.Instances[d.Name]
		if have.Status != plan.Running || have.Fingerprint != d.Image.Fingerprint {
			t.Fatalf("%s is %s on %s, want it running on %s", d.Name, have.Status, have.Fingerprint, d.Image.Fingerprint)
		}

		for k, v := range d.Config {
			if have.Config[k] != v {
				t.Fatalf("%s: %s is %q, want %q", d.Name, k, have.Config[k], v)
			}
		}
	}

	for n, have := range w.Instances {
		if !names[n] && (have.Config[plan.KeyParked] == "" || have.Status != plan.Stopped) {
			t.Fatalf("%s is left over", n)
		}
	}
}

// TestAllocate: no address is handed out twice, none outside the range, and what was had is kept.
func TestAllocate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seg := plan.Segment{Subnet: netip.MustParsePrefix("10.1.0.0/28"), Gateway: netip.MustParseAddr("10.1.0.1")}
		taken := map[netip.Addr]string{netip.MustParseAddr("10.1.0.3"): "another stack"}
		var have map[string]netip.Addr
		for range 3 {
			var asked []plan.Lease
			for i := range 20 {
				if !rapid.Bool().Draw(t, "asks") {
					continue
				}

				l := plan.Lease{Network: "n", Instance: fmt.Sprintf("i-%02d", i)}
				if rapid.IntRange(0, 5).Draw(t, "fixed") == 0 {
					l.Fixed = netip.AddrFrom4([4]byte{10, 1, 0, byte(rapid.IntRange(0, 20).Draw(t, "address"))})
				}

				asked = append(asked, l)
			}

			out, blocked := plan.Allocate(seg, asked, have, taken)
			if len(out)+len(blocked) != len(asked) {
				t.Fatalf("%d asked, %d got one, %d blocked", len(asked), len(out), len(blocked))
			}

			seen := map[netip.Addr]string{}
			for name, a := range out {
				if seen[a] != "" || taken[a] != "" || a == seg.Gateway || !seg.Subnet.Contains(a) {
					t.Fatalf("%s has %s, which is %q %q", name, a, seen[a], taken[a])
				}

				seen[a] = name
			}

			for _, l := range asked {
				old, had := have[l.Instance]
				fixed := slices.ContainsFunc(asked, func(o plan.Lease) bool { return o.Fixed == old })
				if had && !l.Fixed.IsValid() && !fixed && out[l.Instance] != old {
					t.Fatalf("%s had %s and got %s", l.Instance, old, out[l.Instance])
				}
			}

			have = out
		}
	})
}
