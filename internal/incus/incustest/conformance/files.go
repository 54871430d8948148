package conformance

import (
	"io"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// file reads a file of the instance "web", or what a directory is.
func (s *suite) file(path string) (content, kind string, mode int) {
	s.Helper()
	r, a, err := s.raw().UseProject(project).GetInstanceFile("web", path)
	s.must(err)
	if a.Type == "directory" {
		return "", a.Type, a.Mode
	}
	b, err := io.ReadAll(r)
	s.must(err)
	s.must(r.Close())
	return string(b), a.Type, a.Mode
}

// inVolume reads a file of a volume.
func (s *suite) inVolume(pool, volume, path string) string {
	s.Helper()
	files, err := s.raw().UseProject(project).GetStoragePoolVolumeFileSFTP(pool, "custom", volume)
	s.must(err)
	defer files.Close()
	f, err := files.Open("/" + path)
	s.must(err)
	b, err := io.ReadAll(f)
	s.must(err)
	return string(b)
}

func makeTargets(s *suite) {
	s.project()
	s.do(s.create("web", obedient, "10"))
	s.do(plan.PushFile{Instance: "web", File: plan.File{Target: "/srv/there", Content: []byte("kept"), Mode: 0o600}})
	make := plan.MakeTargets{Instance: "web", Targets: []plan.Target{
		{Path: "/srv/there"}, {Path: "/srv/a/b", Dir: true}, {Path: "/srv/c/file"}, {Path: "/srv", Dir: true},
	}}
	s.do(make, make)
	for _, want := range []struct {
		path, content, kind string
		mode                int
	}{
		{"/srv/there", "kept", "file", 0o600}, {"/srv/a/b", "", "directory", 0o755}, {"/srv/c/file", "", "file", 0o444},
	} {
		content, kind, mode := s.file(want.path)
		if content != want.content || kind != want.kind || mode != want.mode {
			s.Errorf("%s is a %s, mode %o, %q", want.path, kind, mode, content)
		}
	}
	s.do(plan.StartInstance{Name: "web"})
}
