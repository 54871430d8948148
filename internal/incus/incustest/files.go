package incustest

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// rootDirs are the directories every image has.
var rootDirs = []string{"/", "/bin", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var"}

// file looks up a path; the caller holds the lock.
func (i *instance) file(p string) (PushedFile, bool) {
	f, found := i.files[p]
	if !found && slices.Contains(rootDirs, p) {
		return PushedFile{Dir: true, Mode: 0o755}, true
	}
	return f, found
}

// WriteFile writes a file of an instance, as its app might.
func (s *Server) WriteFile(project, name, path, content string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project, name)
	if err == nil {
		i.files[path] = PushedFile{Content: []byte(content), Mode: 0o644}
	}
	return err
}

func (s *Server) getFile(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	f, found := i.file(path.Clean(r.URL.Query().Get("path")))
	if !found {
		return fail(http.StatusNotFound, "Not Found")
	}
	s.tellMore(i, api.EventLifecycleInstanceFileRetrieved, nil, map[string]any{"path": r.URL.Query().Get("path")})
	h := http.Header{
		"X-Incus-Uid": {fmt.Sprint(f.UID)}, "X-Incus-Gid": {fmt.Sprint(f.GID)}, "X-Incus-Mode": {fmt.Sprintf("%04o", f.Mode)}, "X-Incus-Type": {"file"},
	}
	if f.Dir {
		h["X-Incus-Type"] = []string{"directory"}
		return okHeader([]string{}, h)
	}
	content := slices.Clone(f.Content)
	return func(w http.ResponseWriter) {
		maps.Copy(w.Header(), h)
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(content)
	}
}

func (s *Server) postFile(r *http.Request) reply {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return s.violation(r) // Incus would eat the content as a form
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	p := path.Clean(r.URL.Query().Get("path"))
	have, found := i.file(p)
	dir, up := i.file(path.Dir(p))
	uid, gid, mode, kind, write := api.ParseFileHeaders(r.Header)
	switch {
	case write != "overwrite" || kind != "file" && kind != "directory":
		return s.refuse(r)
	case kind == "directory" && found:
		return ok(map[string]any{})
	case !up || !dir.Dir:
		return fail(http.StatusNotFound, "Not Found")
	case found && have.Dir:
		return fail(http.StatusInternalServerError, "sftp: \"open %s: is a directory\" (SSH_FX_FAILURE)", p)
	case found: // owner and mode stay
		have.Content = content
		i.files[p] = have
	default:
		if mode < 0 {
			mode = 0o644
		}
		i.files[p] = PushedFile{Content: content, UID: max(uid, 0), GID: max(gid, 0), Mode: uint32(mode), Dir: kind == "directory"}
	}
	s.tellMore(i, api.EventLifecycleInstanceFilePushed, nil, map[string]any{"path": p})
	return ok(map[string]any{})
}

func (s *Server) deleteFile(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	p := path.Clean(r.URL.Query().Get("path"))
	_, found := i.files[p]
	if !found {
		return fail(http.StatusNotFound, "remove %s: file does not exist", p)
	}
	delete(i.files, p)
	s.tellMore(i, api.EventLifecycleInstanceFileDeleted, nil, map[string]any{"path": p})
	return ok(map[string]any{})
}

// refuse is violation for callers that hold the lock.
func (s *Server) refuse(r *http.Request) reply {
	return func(w http.ResponseWriter) { s.violation(r)(w) }
}
