package incustest

import (
	"maps"
	"slices"

	"github.com/lxc/incus/v6/shared/api"
)

// Instance returns a copy of an instance.
func (s *Server) Instance(project, name string) (api.Instance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.instances[key{project, name}]
	if !found {
		return api.Instance{}, false
	}
	return s.shown(i), true
}

// Instances returns the names of a project's instances, sorted.
func (s *Server) Instances(project string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for k := range s.instances {
		if k.project == project {
			names = append(names, k.name)
		}
	}
	slices.Sort(names)
	return names
}

// Project returns a copy of a project.
func (s *Server) Project(name string) (api.Project, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.projects[name]
	if !found {
		return api.Project{}, false
	}
	return s.shownProject(p), true
}

// Network returns a copy of a network.
func (s *Server) Network(name string) (api.Network, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := s.networks[name]
	if !found {
		return api.Network{}, false
	}
	return s.shownNetwork(n), true
}

// Networks returns the names of all networks, sorted.
func (s *Server) Networks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.networks))
}

// Volume returns a copy of a custom volume.
func (s *Server) Volume(project, pool, name string) (api.StorageVolume, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, found := s.volumes[key{s.home(project, "features.storage.volumes"), pool + "/" + name}]
	if !found {
		return api.StorageVolume{}, false
	}
	return s.shownVolume(v), true
}

// Images returns the fingerprints a project sees, sorted.
func (s *Server) Images(project string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for k := range s.images {
		if k.project == s.home(project, "features.images") {
			list = append(list, k.name)
		}
	}
	slices.Sort(list)
	return list
}

// PushedFile is a file in an instance's root filesystem.
type PushedFile struct {
	Content  []byte
	UID, GID int64
	Mode     uint32
	Dir      bool
}

// File returns a copy of a file that was pushed into an instance.
func (s *Server) File(project, name, path string) (PushedFile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.instances[key{project, name}]
	if !found {
		return PushedFile{}, false
	}
	f, found := i.files[path]
	f.Content = slices.Clone(f.Content)
	return f, found
}
