package conformance

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"

	incusapi "github.com/lxc/incus/v6/client"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func createRunning(s *suite) {
	s.running(obedient)
	i := s.instance("web")
	if i.Status != plan.Running || i.Type != "container" || i.Fingerprint != s.host.Image.Fingerprint {
		s.Errorf("status %s, type %s, fingerprint %s", i.Status, i.Type, i.Fingerprint)
	}
	if i.Addresses["eth0"] != netip.MustParseAddr("10.211.77.10") || len(i.Addresses) != 1 {
		s.Errorf("addresses %v", i.Addresses)
	}
	if i.Config["user.a"] != "1" || i.Config[plan.KeyOwner] != owner || len(i.Devices) != 2 {
		s.Errorf("config %v, devices %v", i.Config, i.Devices)
	}
	if i.LastUsed.Before(i.Created) {
		s.Errorf("created %s, last used %s", i.Created, i.LastUsed)
	}
}

func createExactly(s *suite) {
	s.project()
	op := s.create("web", obedient, "10")
	op.Config["user.empty"] = ""
	op.Description = "a web server"
	s.do(op)
	i, _, err := s.raw().UseProject(project).GetInstance("web")
	s.must(err)
	_, empty := i.Config["user.empty"]
	if len(i.Profiles) > 0 || empty || i.Description != "a web server" || len(i.ExpandedDevices) != 2 {
		s.Errorf("profiles %v, an empty key: %v, description %q, devices %v", i.Profiles, empty, i.Description, i.ExpandedDevices)
	}
}

func createTwice(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	i := s.instance("web")
	if i.Status != plan.Stopped || !i.LastUsed.Before(i.Created) {
		s.Errorf("status %s, created %s, last used %s", i.Status, i.Created, i.LastUsed)
	}
	s.fails(s.create("web", obedient, "11"), incus.ErrExists)
}

func createRefused(s *suite) {
	s.project()
	refuse := func(want error, text string, change func(*plan.CreateInstance)) {
		s.Helper()
		op := s.create("web", obedient, "10")
		change(&op)
		err := s.failure(op, want)
		if err != nil && !strings.Contains(err.Error(), text) {
			s.Errorf("the error does not say %q: %v", text, err)
		}
	}
	refuse(incus.ErrRefused, "bogus", func(op *plan.CreateInstance) { op.Config["bogus"] = "1" })
	refuse(incus.ErrRefused, "line breaks", func(op *plan.CreateInstance) { op.Config["environment.A"] = "a\nb" })
	refuse(incus.ErrRefused, "zzz", func(op *plan.CreateInstance) { op.Config["limits.memory"] = "zzz" })
	refuse(incus.ErrRefused, "root", func(op *plan.CreateInstance) { delete(op.Devices, "root") })
	refuse(incus.ErrRefused, "bogus", func(op *plan.CreateInstance) { op.Devices["eth0"]["bogus"] = "1" })
	refuse(incus.ErrRefused, "alphanumeric", func(op *plan.CreateInstance) { op.Name = "a_b" })
	refuse(incus.ErrNotFound, "volume", func(op *plan.CreateInstance) {
		op.Devices["data"] = plan.Device{"type": "disk", "pool": op.Devices["root"]["pool"], "source": "nope", "path": "/data"}
	})
	refuse(incus.ErrNotFound, "mage", func(op *plan.CreateInstance) { op.Fingerprint = strings.Repeat("0", 64) })
	if have := s.observe().Instances; len(have) > 0 {
		s.Errorf("a refused instance was made: %v", have)
	}
}

func rebuildKeeps(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	s.do(plan.PushFile{Instance: "web", File: plan.File{Target: "/etc/mine", Content: []byte("x")}})
	before := s.instance("web")
	s.do(plan.RebuildInstance{Name: "web", Fingerprint: s.host.Image.Fingerprint})
	after := s.instance("web")
	if after.Config["user.a"] != "1" || after.Config["volatile.eth0.hwaddr"] != before.Config["volatile.eth0.hwaddr"] || after.Addresses["eth0"] != before.Addresses["eth0"] {
		s.Errorf("before %v, after %v", before.Config, after.Config)
	}
	_, _, err := s.raw().UseProject(project).GetInstanceFile("web", "/etc/mine")
	if err == nil {
		s.Error("the file survived")
	}
	s.do(plan.StartInstance{Name: "web"})
}

func rebuildRefused(s *suite) {
	s.running(obedient)
	s.fails(plan.RebuildInstance{Name: "web", Fingerprint: s.host.Image.Fingerprint}, incus.ErrInUse)
	s.do(plan.StopInstance{Name: "web"})
	s.fails(plan.RebuildInstance{Name: "web", Fingerprint: strings.Repeat("0", 64)}, incus.ErrNotFound)
}

func pushFile(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	push := func(f plan.File) {
		s.Helper()
		s.do(plan.PushFile{Instance: "web", File: f})
	}
	check := func(path, content string, uid, gid int64, mode int) {
		s.Helper()
		r, a, err := s.raw().UseProject(project).GetInstanceFile("web", path)
		s.must(err)
		if a.Type == "directory" {
			if a.Mode != mode || a.UID != uid || a.GID != gid {
				s.Errorf("%s: mode %o of %d:%d", path, a.Mode, a.UID, a.GID)
			}
			return
		}
		b, err := io.ReadAll(r)
		s.must(err)
		s.must(r.Close())
		if string(b) != content || a.UID != uid || a.GID != gid || a.Mode != mode {
			s.Errorf("%s: %q, mode %o of %d:%d", path, b, a.Mode, a.UID, a.GID)
		}
	}
	push(plan.File{Target: "/etc/app.conf", Content: []byte("one=1&two\n"), UID: 5, GID: 6, Mode: 0o640})
	check("/etc/app.conf", "one=1&two\n", 5, 6, 0o640)
	push(plan.File{Target: "/etc/app.conf", Content: []byte("2"), UID: 5, GID: 6, Mode: 0o640})
	check("/etc/app.conf", "2", 5, 6, 0o640)
	push(plan.File{Target: "/etc/app.conf", Content: []byte("3"), UID: -1, GID: -1})
	check("/etc/app.conf", "3", 0, 0, 0o444)
	push(plan.File{Target: "/srv/a/b c/file", Content: nil, UID: 7, Mode: 0o400})
	check("/srv/a/b c/file", "", 7, 0, 0o400)
	check("/srv/a/b c", "", 0, 0, 0o755)
	push(plan.File{Target: "/srv/new/dir", Directory: true})
	check("/srv/new/dir", "", 0, 0, 0o755)
	push(plan.File{Target: "/srv/a/b c/file", Directory: true}) // what is there stays
	check("/srv/a/b c/file", "", 7, 0, 0o400)
	s.fails(plan.PushFile{Instance: "web", File: plan.File{Target: "/etc"}}, incus.ErrRefused)
	s.fails(plan.PushFile{Instance: "web", File: plan.File{Target: "etc/x"}}, incus.ErrRefused)
	s.do(plan.StartInstance{Name: "web"})
	push(plan.File{Target: "/etc/live", Content: []byte("4"), Mode: 0o600})
	check("/etc/live", "4", 0, 0, 0o600)
}

func deleteLife(s *suite) {
	s.running(obedient)
	s.fails(plan.DeleteInstance{Name: "web"}, incus.ErrInUse)
	s.do(plan.StopInstance{Name: "web"}, plan.DeleteInstance{Name: "web"}, plan.DeleteInstance{Name: "web"})
	if have := s.observe().Instances; len(have) > 0 {
		s.Errorf("got %v", have)
	}
}

func addressTaken(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10")) // it need not run
	op := s.create("web2", obedient, "10")
	op.Start = true
	err := s.failure(op, incus.ErrInUse)
	if err != nil && !strings.Contains(err.Error(), "10.211.77.10") {
		s.Errorf("the error does not name the address: %v", err)
	}
	if st := s.instance("web2").Status; st != plan.Stopped { // it was made all the same
		s.Errorf("status %s", st)
	}
}

// put is how somebody at a terminal changes an instance.
func put(srv incusapi.InstanceServer, name, key, value string) error {
	i, etag, err := srv.GetInstance(name)
	if err != nil {
		return err
	}
	w := i.Writable()
	w.Config[key] = value
	op, err := srv.UpdateInstance(name, w, etag)
	if err != nil {
		return err
	}
	return op.Wait()
}

func forwardReaches(s *suite) {
	s.running(echoing)
	var conn net.Conn
	s.eventually("it listens", func() (ok bool) {
		var err error
		conn, err = s.c.Forward(s.Context(), project, "web", "10.211.77.10", 7000)
		if err != nil && !errors.Is(err, incus.ErrNoListener) {
			s.Fatal(err)
		}
		return err == nil
	})
	defer func() { _ = conn.Close() }()
	_, err := io.WriteString(conn, "there and back")
	s.must(err)
	got := make([]byte, len("there and back"))
	_, err = io.ReadFull(conn, got)
	if err != nil || string(got) != "there and back" {
		s.Errorf("it sends %q: %v", got, err)
	}
	_, err = s.c.Forward(s.Context(), project, "web", "127.0.0.1", 7001)
	if !errors.Is(err, incus.ErrNoListener) || !strings.Contains(err.Error(), "connection refused") {
		s.Errorf("where nobody listens: %v", err)
	}
	_, err = s.c.Forward(s.Context(), project, "nope", "127.0.0.1", 7000)
	if !errors.Is(err, incus.ErrNotFound) || errors.Is(err, incus.ErrNoListener) {
		s.Errorf("an instance that does not exist: %v", err)
	}
	s.do(plan.StopInstance{Name: "web"})
	_, err = s.c.Forward(s.Context(), project, "web", "127.0.0.1", 7000)
	if err == nil || errors.Is(err, incus.ErrNoListener) || errors.Is(err, incus.ErrNotFound) {
		s.Errorf("an instance that does not run: %v", err)
	}
}
