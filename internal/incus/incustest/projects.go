package incustest

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lxc/incus/v6/shared/api"
)

// enabled are the features a new project has unless its config says otherwise.
var enabled = []string{"features.images", "features.profiles", "features.storage.buckets", "features.storage.volumes"}

func (s *Server) postProject(r *http.Request) reply {
	var req api.ProjectsPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	switch {
	case req.Name == "":
		return failed(badRequest("No name provided"))
	case strings.Contains(req.Name, "_"):
		return failed(badRequest("Project names may not contain underscores"))
	case len(req.Name) > 63:
		return failed(badRequest("Project name is too long"))
	}
	err = knownKeys(req.Config, "project", "Invalid project configuration key %q")
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.projects[req.Name]
	if found {
		return fail(http.StatusConflict, "Failed creating project %q: Failed adding database record: This \"Project\" entry already exists", req.Name)
	}
	config := maps.Clone(req.Config)
	if config == nil {
		config = api.ConfigMap{}
	}
	for _, f := range enabled {
		_, given := config[f]
		if !given {
			config[f] = "true"
		}
	}
	s.projects[req.Name] = &api.Project{Name: req.Name, ProjectPut: api.ProjectPut{Config: config, Description: req.Description}}
	if config["features.profiles"] == "true" {
		s.profiles[key{req.Name, "default"}] = &api.Profile{Name: "default", Project: req.Name, ProfilePut: api.ProfilePut{
			Description: "Default Incus profile for project " + req.Name, Config: api.ConfigMap{}, Devices: map[string]map[string]string{},
		}}
	}
	s.emit(req.Name, api.EventLifecycleProjectCreated, "/1.0/projects/"+req.Name, "", s.requestor(), nil)
	return ok(nil)
}

func (s *Server) shownProject(p *api.Project) api.Project {
	out := *p
	out.Config = maps.Clone(p.Config)
	out.UsedBy = s.contents(p.Name)
	return out
}

func (s *Server) getProject(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.projects[r.PathValue("name")]
	if !found {
		return failed(notFound("Project"))
	}
	out := s.shownProject(p)
	return okETag(out, []any{out.Description, out.Config})
}

func (s *Server) putProject(r *http.Request) reply {
	var req api.ProjectPut
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.projects[r.PathValue("name")]
	if !found {
		return failed(notFound("Project"))
	}
	err = matches(r, []any{p.Description, p.Config})
	if err != nil {
		return failed(err)
	}
	err = knownKeys(req.Config, "project", "Invalid project configuration key %q")
	if err != nil {
		return failed(err)
	}
	used := slices.ContainsFunc(s.contents(p.Name), func(u string) bool { return !strings.Contains(u, "/profiles/default") })
	for k, v := range req.Config {
		if strings.HasPrefix(k, "features.") && used && p.Config[k] != v {
			return failed(badRequest("Project feature %q cannot be enabled on non-empty projects", k))
		}
	}
	p.ProjectPut = api.ProjectPut{Config: maps.Clone(req.Config), Description: req.Description}
	s.emit(p.Name, api.EventLifecycleProjectUpdated, "/1.0/projects/"+p.Name, "", s.requestor(), nil)
	return ok(nil)
}

func (s *Server) deleteProject(r *http.Request) reply {
	name := r.PathValue("name")
	s.mu.Lock()
	defer s.mu.Unlock()
	_, found := s.projects[name]
	switch {
	case name == "default":
		return fail(http.StatusForbidden, "The 'default' project cannot be deleted")
	case !found:
		return failed(api.StatusErrorf(http.StatusNotFound, "Fetch project %q: Project not found", name))
	}
	for _, u := range s.contents(name) {
		if !strings.Contains(u, "/profiles/default") {
			return failed(says("Only empty projects can be removed."))
		}
	}
	delete(s.projects, name)
	maps.DeleteFunc(s.profiles, func(k key, _ *api.Profile) bool { return k.project == name })
	s.emit(name, api.EventLifecycleProjectDeleted, "/1.0/projects/"+name, "", s.requestor(), nil)
	return ok(nil)
}

func (s *Server) getProfile(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, found := s.profiles[key{s.home(project(r), "features.profiles"), r.PathValue("name")}]
	if !found {
		return failed(notFound("Profile"))
	}
	return okETag(*p, []any{p.Config, p.Description, p.Devices})
}

// knownKeys refuses a key that is not documented for a scope, with a 400 of the given format.
func knownKeys(config map[string]string, scope, format string) error {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if !documented(scope, k) {
			return badRequest(format, k)
		}
	}
	return nil
}

// documented tells whether a key is one of a scope's, patterns like "limits.kernel.*" included.
func documented(scope, k string) bool {
	if strings.HasPrefix(k, "user.") || strings.HasPrefix(k, "volatile.") {
		return true
	}
	for _, group := range keys()[scope] {
		for known := range group {
			prefix, pattern := strings.CutSuffix(known, "*")
			if known == k || pattern && strings.HasPrefix(k, prefix) {
				return true
			}
		}
	}
	return false
}
