package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	owner   = "0123456789abcdef"
	foreign = "somebody else"
)

// world is a model of Incus that a plan can be executed on. It refuses what Incus refuses: calls on what is not
// there, updates that need a stop, objects still in use.
type world struct {
	plan.Observed
	// touched are the objects any call was made on.
	touched map[plan.ID]bool
	// placed are the files the host keeps, by instance: their hash.
	placed map[string]string
	clock  time.Time
}

func newWorld() *world {
	return &world{
		Observed: plan.Observed{
			Server:    plan.Server{Version: "7.0.2", Pool: "default"},
			Networks:  map[string]plan.ObservedNetwork{},
			Volumes:   map[string]plan.ObservedVolume{},
			Images:    map[string]plan.ObservedImage{},
			Instances: map[string]plan.ObservedInstance{},
		},
		touched: map[plan.ID]bool{}, placed: map[string]string{},
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// run executes a plan in an order its steps allow, taking ready steps from the back to find missing edges.
func (w *world) run(p plan.Plan) error {
	done := map[int]bool{}
	for len(done) < len(p.Steps) {
		ready := -1
		for i := range slices.Backward(p.Steps) {
			waits := slices.ContainsFunc(p.Steps[i].After, func(n int) bool { return !done[n] })
			if !done[p.Steps[i].N] && !waits {
				ready = i
				break
			}
		}

		if ready < 0 {
			return fmt.Errorf("no step is ready: a cycle in\n%s", p)
		}

		err := w.do(p.Steps[ready].Op)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Steps[ready], err)
		}

		w.touched[p.Steps[ready].On] = true
		done[p.Steps[ready].N] = true
	}

	return nil
}

func (w *world) do(op plan.Op) error {
	w.clock = w.clock.Add(time.Second)
	switch op := op.(type) {
	case plan.CreateProject:
		if w.Project != nil {
			return fmt.Errorf("exists")
		}

		w.Project = &plan.ObservedProject{Name: op.Name, Config: maps.Clone(op.Config)}
	case plan.UpdateProject:
		merge(w.Project.Config, op.Set)
	case plan.DeleteProject:
		if len(w.Instances)+len(w.Volumes) > 0 {
			return fmt.Errorf("only empty projects can be removed")
		}

		w.Project = nil
	case plan.CreateNetwork, plan.UpdateNetwork, plan.DeleteNetwork:
		return w.network(op)
	case plan.CreateVolume:
		if w.Project == nil {
			return fmt.Errorf("no project")
		}

		w.Volumes[op.Pool+"/"+op.Name] = plan.ObservedVolume{Pool: op.Pool, Config: maps.Clone(op.Config)}
	case plan.UpdateVolume:
		merge(w.Volumes[op.Pool+"/"+op.Name].Config, op.Set)
	case plan.DeleteVolume:
		delete(w.Volumes, op.Pool+"/"+op.Name)
	case plan.PullImage:
		w.Images[op.Want] = plan.ObservedImage{}
	default:
		return w.instance(op)
	}

	return nil
}

func (w *world) network(op plan.Op) error {
	switch op := op.(type) {
	case plan.CreateNetwork:
		_, exists := w.Networks[op.Name]
		if exists {
			return fmt.Errorf("exists")
		}

		w.Networks[op.Name] = plan.ObservedNetwork{Type: "bridge", Managed: true, Config: maps.Clone(op.Config)}
	case plan.UpdateNetwork:
		merge(w.Networks[op.Name].Config, op.Set)
	case plan.DeleteNetwork:
		for name, inst := range w.Instances {
			for _, d := range inst.Devices {
				if d["network"] == op.Name {
					return fmt.Errorf("in use by %s", name)
				}
			}
		}

		delete(w.Networks, op.Name)
	}

	return nil
}

func (w *world) instance(op plan.Op) error {
	switch op := op.(type) {
	case plan.CreateInstance:
		return w.create(op)
	case plan.UpdateInstance:
		return w.update(op)
	case plan.RebuildInstance:
		inst, ok := w.Instances[op.Name]
		_, image := w.Images[op.Fingerprint]
		if !ok || inst.Status == plan.Running || !image {
			return fmt.Errorf("cannot be rebuilt")
		}

		inst.Fingerprint = op.Fingerprint
		w.Instances[op.Name] = inst
	case plan.PushFile:
		_, ok := w.Instances[op.Instance]
		if !ok {
			return fmt.Errorf("not there")
		}
	case plan.PlaceFiles:
		w.placed[op.Instance] = op.Hash
		inst, ok := w.Instances[op.Instance]
		if ok {
			inst.Placed = op.Hash
			w.Instances[op.Instance] = inst
		}
	case plan.SeedVolume:
		for _, s := range op.From {
			if inst, ok := w.Instances[s.Instance]; !ok || inst.Status == plan.Running && inst.LastUsed.IsZero() {
				return fmt.Errorf("%s is not there", s.Instance)
			}
		}

		if w.Volumes[op.Pool+"/"+op.Name].Config[plan.KeySeed] != "pending" {
			return fmt.Errorf("the volume %s may hold data", op.Name)
		}
	case plan.MakeHostDir:
	case plan.MakeTargets:
		if inst, ok := w.Instances[op.Instance]; !ok || inst.Status == plan.Running {
			return fmt.Errorf("is not stopped")
		}
	case plan.SignalInstance:
		if w.Instances[op.Name].Status != plan.Running {
			return fmt.Errorf("is not running")
		}
	case plan.StartInstance:
		return w.power(op.Name, plan.Running)
	case plan.StopInstance:
		return w.power(op.Name, plan.Stopped)
	case plan.DeleteInstance:
		if w.Instances[op.Name].Status == plan.Running {
			return fmt.Errorf("is running")
		}

		delete(w.Instances, op.Name)
		delete(w.placed, op.Name)
	}

	return nil
}

func (w *world) power(name string, s plan.Status) error {
	inst, ok := w.Instances[name]
	if !ok {
		return fmt.Errorf("not there")
	}

	inst.Status = s
	w.clock = w.clock.Add(time.Second)
	if s == plan.Running {
		inst.LastUsed = w.clock
	}

	w.Instances[name] = inst

	return nil
}

func (w *world) create(op plan.CreateInstance) error {
	_, exists := w.Instances[op.Name]
	_, image := w.Images[op.Fingerprint]
	if exists || !image || w.Project == nil {
		return fmt.Errorf("cannot be created: exists %t, image %t, project %t", exists, image, w.Project != nil)
	}

	inst := plan.ObservedInstance{
		Status: plan.Stopped, Type: "container", Config: maps.Clone(op.Config), Devices: maps.Clone(op.Devices),
		Fingerprint: op.Fingerprint, Created: w.clock, Addresses: map[string]netip.Addr{}, Placed: w.placed[op.Name],
	}
	for n, d := range op.Devices {
		err := w.usable(d)
		if err != nil {
			return fmt.Errorf("device %s: %w", n, err)
		}
	}

	if op.Start {
		inst.Status, inst.LastUsed = plan.Running, w.clock.Add(time.Second)
	}

	w.Instances[op.Name] = inst

	return nil
}

func (w *world) usable(d plan.Device) error {
	if d["type"] == "nic" {
		_, ok := w.Networks[d["network"]]
		if !ok {
			return fmt.Errorf("network %s is not there", d["network"])
		}
	}

	if strings.HasPrefix(d["source"], "/run/files/") && w.placed[path.Base(path.Dir(d["source"]))] == "" {
		return fmt.Errorf("%s is not there", d["source"])
	}

	if d["type"] == "disk" && d["pool"] != "" && d["path"] != "/" {
		_, ok := w.Volumes[d["pool"]+"/"+strings.SplitN(path.Clean(d["source"]), "/", 2)[0]]
		if !ok {
			return fmt.Errorf("volume %s is not there", d["source"])
		}
	}

	return nil
}

func (w *world) update(op plan.UpdateInstance) error {
	inst, ok := w.Instances[op.Name]
	if !ok {
		return fmt.Errorf("not there")
	}

	inst.Config, inst.Devices = maps.Clone(inst.Config), maps.Clone(inst.Devices)
	merge(inst.Config, op.Config)
	for n, d := range op.Devices {
		if d == nil {
			delete(inst.Devices, n)
			continue
		}

		if inst.Status == plan.Running && (strings.HasPrefix(d["source"], "tmpfs") || d["type"] == "nic") {
			return fmt.Errorf("device %s cannot be changed while it runs", n)
		}

		err := w.usable(d)
		if err != nil {
			return fmt.Errorf("device %s: %w", n, err)
		}

		inst.Devices[n] = d
	}

	w.Instances[op.Name] = inst

	return nil
}

func merge(m, set map[string]string) {
	for k, v := range set {
		if v == "" {
			delete(m, k)
			continue
		}

		m[k] = v
	}
}

// apply does what internal/apply does with a project: prepare, render, diff, execute, note the starts.
func (w *world) apply(p plan.Project, led *plan.Ledger) (plan.Plan, error) {
	in := input(p, w.Observed, led)
	pl := plan.Diff(plan.Render(p, in), w.Observed, *led)
	err := w.run(pl)
	for name, inst := range w.Instances {
		if inst.Status == plan.Running {
			led.Started[name] = inst.Config[plan.KeyBoot]
		}
	}

	return pl, err
}

// input gives every network the n-th /24 of 10.201.0.0/16 and every reference an image of its own.
func input(p plan.Project, have plan.Observed, led *plan.Ledger) plan.Input {
	in := plan.Input{
		Owner: owner, Pool: have.Server.Pool, Domain: "incus", FilesDir: "/run/files", Images: map[string]plan.Image{},
		Segments: map[string]plan.Segment{}, Addresses: map[string]map[string]netip.Addr{},
	}
	for _, s := range p.Services {
		in.Images[s.Image.Ref] = image(s.Image.Ref)
	}

	for i, n := range p.Networks {
		if n.External {
			continue
		}

		subnet := netip.MustParsePrefix(fmt.Sprintf("10.201.%d.0/24", i))
		if n.Subnet.IsValid() {
			subnet = n.Subnet
		}

		seg := plan.Segment{Subnet: subnet, Gateway: subnet.Addr().Next()}
		if !n.NoIPv4 {
			in.Segments[n.Incus] = seg
		}

		seg6 := plan.Segment{Subnet: netip.MustParsePrefix(fmt.Sprintf("fd00:0:0:%d::/64", i))}
		seg6.Gateway = seg6.Subnet.Addr().Next()
		if n.IPv6 {
			in.Segments[plan.V6(n.Incus)] = seg6
		}

		var asked []plan.Lease
		for _, s := range p.Services {
			for _, a := range s.Networks {
				for r := 1; r <= s.Replicas && a.Network == n.Name; r++ {
					asked = append(asked, plan.Lease{Network: n.Incus, Instance: plan.InstanceName(s, r)})
				}
			}
		}

		for key, seg := range in.Segments {
			if key != n.Incus && key != plan.V6(n.Incus) {
				continue
			}

			addrs, blocked := plan.Allocate(seg, asked, led.Addresses[key], nil)
			in.Addresses[key] = addrs
			in.Blocked = append(in.Blocked, blocked...)
			for name, a := range addrs {
				led.SetAddress(key, name, a)
			}
		}
	}

	return in
}

// image is what a registry would say of a reference. References that differ only behind a "+" share their layers.
func image(ref string) plan.Image {
	layers, config, _ := strings.Cut(ref, "+")
	return plan.Image{
		Ref: "docker.io/library/" + ref, Digest: fmt.Sprintf("sha256:%x", ref), Fingerprint: fmt.Sprintf("%x", layers),
		Server: "https://docker.io", Alias: "library/" + ref, Entrypoint: []string{"/entry"}, Cmd: []string{"serve" + config},
		Env: map[string]string{"PATH": "/bin"},
	}
}

func newLedger() *plan.Ledger { return &plan.Ledger{Stack: "blog", Started: map[string]string{}} }

// broad hands out the addresses of a network with room for all.
func broad(p plan.Project) (plan.Segment, map[string]netip.Addr) {
	subnet := netip.MustParsePrefix("10.64.0.0/16")
	seg := plan.Segment{Subnet: subnet, Gateway: subnet.Addr().Next()}

	var asked []plan.Lease
	for _, s := range p.Services {
		for r := 1; r <= s.Replicas; r++ {
			asked = append(asked, plan.Lease{Network: "blog-default", Instance: plan.InstanceName(s, r)})
		}
	}

	addrs, _ := plan.Allocate(seg, asked, nil, nil)

	return seg, addrs
}

// become makes the world what is wanted at a stroke.
func (w *world) become(want plan.Desired, led *plan.Ledger) {
	w.Project = &plan.ObservedProject{Name: want.Incus, Config: want.Config}
	for _, n := range want.Networks {
		w.Networks[n.Name] = plan.ObservedNetwork{Type: "bridge", Managed: true, Config: n.Config}
	}

	for _, v := range want.Volumes {
		w.Volumes[v.Pool+"/"+v.Name] = plan.ObservedVolume{Pool: v.Pool, Config: v.Config}
	}

	for _, i := range want.Instances {
		devices := maps.Clone(i.Devices)
		maps.Copy(devices, i.Late)
		w.Instances[i.Name] = plan.ObservedInstance{
			Status: plan.Running, Config: i.Config, Devices: devices, Fingerprint: i.Image.Fingerprint, Created: w.clock, LastUsed: w.clock.Add(1),
		}
		w.Images[i.Image.Fingerprint] = plan.ObservedImage{}
		led.Started[i.Name] = i.Config[plan.KeyBoot]
	}
}
