package incustest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

func (s *Server) getPools(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "" {
		return s.violation(r)
	}
	list := []string{}
	for _, p := range s.pools {
		list = append(list, "/1.0/storage-pools/"+p)
	}
	return ok(list)
}

func (s *Server) shownVolume(v *api.StorageVolume) api.StorageVolume {
	out := *v
	out.Config = maps.Clone(v.Config)
	pool := v.Location // kept there, never shown
	out.Location = "none"
	out.UsedBy = s.volumeUsers(v.Project, pool, v.Name)
	return out
}

func (s *Server) getVolumes(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "1" {
		return s.violation(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pool, home := r.PathValue("pool"), s.home(project(r), "features.storage.volumes")
	if !slices.Contains(s.pools, pool) {
		return failed(notFound("Storage pool"))
	}
	list := []api.StorageVolume{}
	for k, v := range s.volumes {
		if k.project == home && strings.HasPrefix(k.name, pool+"/") {
			list = append(list, s.shownVolume(v))
		}
	}
	slices.SortFunc(list, func(a, b api.StorageVolume) int { return strings.Compare(a.Name, b.Name) })
	return ok(list)
}

func (s *Server) postVolume(r *http.Request) reply {
	var req api.StorageVolumesPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := r.PathValue("pool")
	if s.projects[project(r)] == nil {
		return failed(notFound("Project"))
	}
	if !slices.Contains(s.pools, pool) {
		return failed(notFound("Storage pool"))
	}
	k := key{s.home(project(r), "features.storage.volumes"), pool + "/" + req.Name}
	if s.volumes[k] != nil {
		return fail(http.StatusConflict, "Volume by that name already exists")
	}
	if req.Name == "" || strings.ContainsAny(req.Name, "/ ") || len(req.Name) > 64 {
		return failed(badRequest("Invalid storage volume name: %q", req.Name))
	}
	for _, c := range slices.Sorted(maps.Keys(req.Config)) {
		if !documented("storage_volume_dir", c) {
			return fail(http.StatusInternalServerError, "Invalid option for volume %q option %q", req.Name, c)
		}
	}
	config := api.ConfigMap{}
	maps.Copy(config, req.Config)
	v := &api.StorageVolume{
		Name: req.Name, Type: "custom", ContentType: "filesystem", Project: k.project, Location: pool, CreatedAt: time.Now(),
		StorageVolumePut: api.StorageVolumePut{Config: config, Description: req.Description},
	}
	s.volumes[k], s.files[v] = v, emptyTree()
	s.emit(k.project, api.EventLifecycleStorageVolumeCreated, ref(k.project, "storage-pools", pool, "volumes", "custom", req.Name), "", s.requestor(), map[string]any{"type": "custom"})
	return ok(nil)
}

// coveredByVolume is what the ETag of a volume is made from.
func coveredByVolume(v *api.StorageVolume) any { return []any{v.Name, v.Type, v.Config} }

func (s *Server) getVolume(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.volumes[key{s.home(project(r), "features.storage.volumes"), r.PathValue("pool") + "/" + r.PathValue("name")}]
	if v == nil {
		return failed(notFound("Storage volume"))
	}
	return okETag(s.shownVolume(v), coveredByVolume(v))
}

func (s *Server) putVolume(r *http.Request) reply {
	var req api.StorageVolumePut
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pool, name := r.PathValue("pool"), r.PathValue("name")
	v := s.volumes[key{s.home(project(r), "features.storage.volumes"), pool + "/" + name}]
	if v == nil {
		return failed(notFound("Storage volume"))
	}
	err = matches(r, coveredByVolume(v))
	if err != nil {
		return failed(err)
	}
	for _, c := range slices.Sorted(maps.Keys(req.Config)) {
		if !documented("storage_volume_dir", c) {
			return fail(http.StatusInternalServerError, "Invalid option for volume %q option %q", name, c)
		}
	}
	if req.Restore != "" {
		return s.restore(key{v.Project, pool + "/" + name}, req.Restore)
	}
	config := api.ConfigMap{}
	maps.Copy(config, req.Config)
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	v.StorageVolumePut = api.StorageVolumePut{Config: config, Description: req.Description}
	s.emit(v.Project, api.EventLifecycleStorageVolumeUpdated, ref(v.Project, "storage-pools", pool, "volumes", "custom", name), "", s.requestor(), nil)
	return ok(nil)
}

func (s *Server) deleteVolume(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	pool, name := r.PathValue("pool"), r.PathValue("name")
	k := key{s.home(project(r), "features.storage.volumes"), pool + "/" + name}
	if s.volumes[k] == nil {
		return failed(notFound("Storage volume"))
	}
	if len(s.volumeUsers(k.project, pool, name)) > 0 {
		return failed(badRequest("The storage volume is still in use"))
	}
	delete(s.files, s.volumes[k])
	delete(s.volumes, k)
	delete(s.snapshots, k)
	s.emit(k.project, api.EventLifecycleStorageVolumeDeleted, ref(k.project, "storage-pools", pool, "volumes", "custom", name), "", s.requestor(), nil)
	return ok(nil)
}
