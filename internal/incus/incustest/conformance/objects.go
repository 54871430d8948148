package conformance

import (
	"context"
	"errors"
	"strings"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func serverIsDescribed(s *suite) {
	srv, err := s.c.Server(s.Context())
	s.must(err)
	if !strings.HasPrefix(srv.Version, "7.") || srv.Pool == "" {
		s.Errorf("got version %q and pool %q", srv.Version, srv.Pool)
	}
	for key, want := range map[string]bool{
		"oci.entrypoint": true, "raw.lxc": true, "linux.sysctl.*": true, "security.privileged": true, "limits.kernel.*": true, "oci.dns.search": true,
		"user.*": false, "environment.*": false, "limits.memory": false, "limits.cpu": false, "boot.autostart": false, "snapshots.schedule": false,
	} {
		got, known := srv.Restart[key]
		if !known || got != want {
			s.Errorf("Restart[%q] = %v (known: %v), want %v", key, got, known, want)
		}
	}
}

func absentProject(s *suite) {
	have := s.observe()
	if have.Project != nil || len(have.Volumes) > 0 || len(have.Instances) > 0 {
		s.Errorf("got %+v", have)
	}
	if len(have.Networks) == 0 || have.Server.Version == "" {
		s.Error("the networks or the server are missing")
	}
}

func projectLife(s *suite) {
	s.do(createProject())
	have := s.observe().Project
	if have == nil || have.Name != project || have.Description != "conformance" || have.Config[plan.KeyOwner] != owner || have.Config["features.images"] != "false" {
		s.Fatalf("got %+v", have)
	}
	s.fails(createProject(), incus.ErrExists)
	s.do(plan.UpdateProject{Name: project, Set: map[string]string{"user.x": "1", "user.y": "2"}})
	s.do(plan.UpdateProject{Name: project, Set: map[string]string{"user.x": "", "user.y": "3", "user.never": ""}})
	have = s.observe().Project
	_, x := have.Config["user.x"]
	if x || have.Config["user.y"] != "3" || have.Config[plan.KeyOwner] != owner || have.Description != "conformance" {
		s.Errorf("after the update: %+v", have)
	}
	err := s.failure(plan.UpdateProject{Name: project, Set: map[string]string{"bogus": "1"}}, incus.ErrRefused)
	if err != nil && (!strings.Contains(err.Error(), "update project "+project) || !strings.Contains(err.Error(), "bogus")) {
		s.Errorf("the error does not say what and which: %v", err)
	}
	s.do(plan.DeleteProject{Name: project}, plan.DeleteProject{Name: project})
	if s.observe().Project != nil {
		s.Error("the project is still there")
	}
}

func projectInUse(s *suite) {
	pool := s.observe().Server.Pool
	s.do(createProject(), plan.CreateVolume{Pool: pool, Name: "data"})
	s.fails(plan.DeleteProject{Name: project}, incus.ErrInUse)
}

func networkLife(s *suite) {
	s.do(createNetwork())
	have := s.observe().Networks[network]
	if have.Type != "bridge" || !have.Managed || have.Config["ipv4.address"] != "10.211.77.1/24" || have.Config["ipv6.address"] != "none" || have.Description != "conformance" {
		s.Fatalf("got %+v", have)
	}
	s.fails(createNetwork(), incus.ErrExists)
	s.do(plan.UpdateNetwork{Name: network, Set: map[string]string{"user.x": "1"}})
	s.do(plan.UpdateNetwork{Name: network, Set: map[string]string{"user.x": "", "bridge.mtu": "1400"}})
	have = s.observe().Networks[network]
	_, x := have.Config["user.x"]
	if x || have.Config["bridge.mtu"] != "1400" || have.Config[plan.KeyOwner] != owner || have.Description != "conformance" {
		s.Errorf("after the update: %+v", have)
	}
	s.fails(plan.UpdateNetwork{Name: network, Set: map[string]string{"bogus": "1"}}, incus.ErrRefused)
	s.fails(plan.CreateNetwork{Name: "ct-name-too-long-for-a-bridge"}, incus.ErrRefused)
	s.do(plan.DeleteNetwork{Name: network}, plan.DeleteNetwork{Name: network})
}

// networkPending breaks the call off ever later, until the record is there and the bridge is not.
func networkPending(s *suite) {
	for wait := 10 * time.Millisecond; wait < time.Second; wait += 10 * time.Millisecond {
		ctx, cancel := context.WithTimeout(s.Context(), wait)
		raw := s.raw().(*incusapi.ProtocolIncus).WithContext(ctx)
		op := createNetwork()
		err := raw.CreateNetwork(api.NetworksPost{Name: network, Type: "bridge", NetworkPut: api.NetworkPut{Config: op.Config}})
		cancel()
		if err == nil {
			s.do(plan.DeleteNetwork{Name: network})
		}

		have, there := s.observe().Networks[network]
		if there && have.Status == plan.NetworkPending {
			if have.Config[plan.KeyOwner] != owner {
				s.Errorf("it does not say whose it is: %v", have.Config)
			}
			s.fails(createNetwork(), incus.ErrExists)
			s.do(plan.DeleteNetwork{Name: network}, createNetwork())
			if have := s.observe().Networks[network]; have.Status != "Created" {
				s.Errorf("made anew, it is %q", have.Status)
			}
			return
		}

		if there {
			s.do(plan.DeleteNetwork{Name: network})
		}
	}
	s.Error("none was left pending")
}

func networkInUse(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	if n := s.observe().Networks[network].UsedBy; n != 1 {
		s.Errorf("the network has %d users", n)
	}
	s.fails(plan.DeleteNetwork{Name: network}, incus.ErrInUse)
}

func volumeLife(s *suite) {
	s.project()
	pool := s.observe().Server.Pool
	vol := plan.CreateVolume{Pool: pool, Name: "data", Config: map[string]string{"user.x": "1", "initial.mode": "0777"}}
	s.do(vol)
	s.fails(vol, incus.ErrExists)
	s.fails(plan.CreateVolume{Pool: "ct-no-pool", Name: "data"}, incus.ErrNotFound)
	s.fails(plan.CreateVolume{Pool: pool, Name: "data2", Config: map[string]string{"bogus": "1"}}, incus.ErrRefused)
	op := s.create("web", obedient, "10")
	op.Devices["data"] = plan.Device{"type": "disk", "pool": pool, "source": "data", "path": "/data"}
	s.do(op)
	have := s.observe().Volumes
	v, found := have[pool+"/data"]
	if len(have) != 1 || !found || v.Pool != pool || v.Config["user.x"] != "1" || v.UsedBy != 1 {
		s.Errorf("got %+v", have)
	}
	s.do(plan.UpdateVolume{Pool: pool, Name: "data", Set: map[string]string{"user.x": "", "user.y": "2"}})
	v = s.observe().Volumes[pool+"/data"]
	_, x := v.Config["user.x"]
	if x || v.Config["user.y"] != "2" {
		s.Errorf("after the update: %+v", v)
	}
	s.fails(plan.UpdateVolume{Pool: pool, Name: "ct-none", Set: map[string]string{"user.a": "1"}}, incus.ErrNotFound)
	s.fails(plan.DeleteVolume{Pool: pool, Name: "data"}, incus.ErrInUse)
	s.do(plan.DeleteInstance{Name: "web"}, plan.DeleteVolume{Pool: pool, Name: "data"}, plan.DeleteVolume{Pool: pool, Name: "data"})
	if len(s.observe().Volumes) != 0 {
		s.Error("the volume is still there")
	}
}

func volumeWithin(s *suite) {
	s.project()
	pool := s.observe().Server.Pool
	s.do(plan.CreateVolume{Pool: pool, Name: "data"})
	for at, want := range map[string]bool{"": true, "no": false, "no/such": false} {
		there, err := s.c.Within(s.Context(), project, pool, "data", at)
		if there != want || err != nil {
			s.Errorf("%q: %v, %v", at, there, err)
		}
	}
	_, err := s.c.Within(s.Context(), project, pool, "ct-none", "no")
	if !errors.Is(err, incus.ErrNotFound) {
		s.Errorf("a volume that is not there: %v", err)
	}
	s.do(plan.DeleteVolume{Pool: pool, Name: "data"})
}

func volumeSeeded(s *suite) {
	s.project()
	pool := s.observe().Server.Pool
	s.do(s.create("web", obedient, "10"), plan.CreateVolume{Pool: pool, Name: "data"})
	push := func(at, content string) {
		s.do(plan.PushFile{Instance: "web", File: plan.File{Target: at, Content: []byte(content), Mode: 0o640}})
	}
	push("/srv/seed/one", "1")
	push("/srv/seed/deep/two", "2")
	seed := plan.SeedVolume{Pool: pool, Name: "data", From: []plan.Seed{{Instance: "web", Path: "/srv/none"}, {Instance: "web", Path: "/srv/seed"}}}
	s.do(seed)
	push("/srv/seed/one", "changed")
	push("/srv/seed/three", "3")
	s.do(seed)
	for at, want := range map[string]string{"one": "1", "deep/two": "2", "three": "3"} {
		got := s.inVolume(pool, "data", at)
		if got != want {
			s.Errorf("%s holds %q, want %q", at, got, want)
		}
	}
	none := plan.SeedVolume{Pool: pool, Name: "data", From: seed.From[:1]}
	s.do(none)
	none.Required = true
	s.fails(none, incus.ErrRefused)
	s.fails(plan.SeedVolume{Pool: pool, Name: "ct-none", From: seed.From}, incus.ErrNotFound)
	s.fails(plan.SeedVolume{Pool: pool, Name: "data", From: []plan.Seed{{Instance: "ct-none", Path: "/srv"}}}, incus.ErrNotFound)
	s.do(plan.DeleteInstance{Name: "web"}, plan.DeleteVolume{Pool: pool, Name: "data"}, plan.CreateVolume{Pool: pool, Name: "data"})
	there, err := s.c.Within(s.Context(), project, pool, "data", "one")
	if there || err != nil {
		s.Errorf("a volume made anew has files of the one before: %v", err)
	}
	s.do(plan.DeleteVolume{Pool: pool, Name: "data"})
}

func imagePulled(s *suite) {
	s.do(createProject(), s.pull(), s.pull())
	i, found := s.observe().Images[s.host.Image.Fingerprint]
	if !found || i.Cached {
		s.Errorf("found: %v, cached: %v", found, i.Cached)
	}
}

// pullAnew deletes the image, whoever brought it, and pulls it with notes.
func (s *suite) pullAnew() {
	s.do(createProject())
	_, there := s.observe().Images[s.host.Image.Fingerprint]
	if there {
		op, err := s.raw().UseProject("default").DeleteImage(s.host.Image.Fingerprint)
		s.must(err)
		s.must(op.Wait())
	}
	op := s.pull()
	op.Owner, op.Config, op.Origin = owner, "sha256:one", "app@sha256:two"
	s.do(op)
}

func imageNoted(s *suite) {
	s.pullAnew()
	i := s.observe().Images[s.host.Image.Fingerprint]
	if i.Owner != owner || i.Config != "sha256:one" || i.Origin != "app@sha256:two" || i.Touched.IsZero() {
		s.Errorf("got %+v", i)
	}
	again := s.pull()
	again.Owner, again.Config = "somebody", "sha256:one"
	s.do(again)
	if i := s.observe().Images[s.host.Image.Fingerprint]; i.Owner != owner {
		s.Errorf("the second pull made it %+v", i)
	}
}

func imageCollides(s *suite) {
	s.pullAnew()
	other := s.pull()
	other.Config = "sha256:other"
	s.fails(other, incus.ErrMismatch)
}

func imageDeleted(s *suite) {
	s.pullAnew()
	s.fails(plan.DeleteImage{Fingerprint: s.host.Image.Fingerprint, Owner: "somebody"}, incus.ErrRefused)
	s.do(plan.DeleteImage{Fingerprint: s.host.Image.Fingerprint, Owner: owner})
	_, there := s.observe().Images[s.host.Image.Fingerprint]
	if there {
		s.Error("the image is still there")
	}
	s.do(plan.DeleteImage{Fingerprint: s.host.Image.Fingerprint, Owner: owner})
}

func imageMismatch(s *suite) {
	s.do(createProject())
	op := s.pull()
	op.Want = strings.Repeat("0", 64)
	err := s.failure(op, incus.ErrMismatch)
	if err != nil && !strings.Contains(err.Error(), s.host.Image.Fingerprint[:12]) {
		s.Errorf("the error does not name what came: %v", err)
	}
}

func imageAbsent(s *suite) {
	s.do(createProject())
	op := s.pull()
	op.Alias, op.Ref, op.Want = "library/ct-no-such-image", "docker.io/library/ct-no-such-image", strings.Repeat("0", 64)
	err := s.failure(op, incus.ErrNotFound)
	if err != nil && strings.Contains(err.Error(), "Failed to run") {
		s.Errorf("the error quotes the whole of skopeo: %v", err)
	}
}

func notFound(s *suite) {
	s.fails(plan.StartInstance{Name: "web"}, incus.ErrNotFound)
	s.fails(s.create("web", obedient, "10"), incus.ErrNotFound) // no project
	s.do(createProject())
	s.fails(plan.StartInstance{Name: "web"}, incus.ErrNotFound)
	s.fails(plan.StopInstance{Name: "web"}, incus.ErrNotFound)
	s.fails(plan.UpdateInstance{Name: "web", Config: map[string]string{"user.a": "1"}}, incus.ErrNotFound)
	s.fails(plan.UpdateInstance{Name: "web", Devices: map[string]plan.Device{"x": nil}}, incus.ErrNotFound)
	s.fails(plan.RebuildInstance{Name: "web", Fingerprint: s.host.Image.Fingerprint}, incus.ErrNotFound)
	s.fails(plan.PushFile{Instance: "web", File: plan.File{Target: "/etc/x"}}, incus.ErrNotFound)
	s.fails(plan.UpdateNetwork{Name: network, Set: map[string]string{"user.a": "1"}}, incus.ErrNotFound)
	s.fails(plan.UpdateProject{Name: "ct-none", Set: map[string]string{"user.a": "1"}}, incus.ErrNotFound)
	s.do(plan.DeleteInstance{Name: "web"})
}

func owned(s *suite) {
	s.project()
	s.do(s.create("web-2", obedient, "11"), s.create("web-1", obedient, "10"))
	other := s.create("other", obedient, "12")
	other.Config[plan.KeyOwner] = "somebody-else"
	s.do(other)
	list, err := s.c.Owned(s.Context(), owner)
	s.must(err)
	if len(list) != 2 || list[0].Name != "web-1" || list[1].Name != "web-2" || list[0].Project != project || list[0].Instance.Config["user.a"] != "1" {
		s.Errorf("got %+v", list)
	}
}

func volumeSnapshots(s *suite) {
	pool := s.observe().Server.Pool
	s.do(createProject(), plan.CreateVolume{Pool: pool, Name: "data"})
	one := plan.Snapshot{Pool: pool, Volume: "data", Name: "ic-agent-1"}
	s.do(plan.SnapshotVolume{Snapshot: one}, plan.SnapshotVolume{Snapshot: one})
	if have := s.observe().Volumes; len(have) != 1 {
		s.Errorf("the volumes are %v", have)
	}
	s.do(plan.RestoreVolume{Snapshot: one}, plan.DeleteSnapshot{Snapshot: one}, plan.DeleteSnapshot{Snapshot: one})
	s.fails(plan.RestoreVolume{Snapshot: one}, incus.ErrNotFound)
	s.fails(plan.SnapshotVolume{Snapshot: plan.Snapshot{Pool: pool, Volume: "other", Name: "ic-agent-1"}}, incus.ErrNotFound)
}
