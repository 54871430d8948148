package incustest

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

func (s *Server) getInstances(r *http.Request) reply {
	q := r.URL.Query()
	if q.Get("recursion") != "1" || q.Get("filter") != "" {
		return s.violation(r)
	}
	all := q.Get("all-projects") == "true"
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.Instance{} // of an unknown project too
	for k, i := range s.instances {
		if all || k.project == project(r) {
			list = append(list, s.shown(i))
		}
	}
	slices.SortFunc(list, func(a, b api.Instance) int { return strings.Compare(a.Project+"/"+a.Name, b.Project+"/"+b.Name) })
	return ok(list)
}

func (s *Server) getInstance(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	return okETag(s.shown(i), i.covered())
}

var instanceName = regexp.MustCompile(`^[A-Za-z]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

func (s *Server) postInstance(r *http.Request) reply {
	var req api.InstancesPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	if req.Source.Type != "image" || req.Source.Server != "" || req.Source.Alias != "" {
		return s.violation(r)
	}
	k := key{project(r), req.Name}
	s.mu.Lock()
	switch {
	case s.projects[k.project] == nil:
		err = api.StatusErrorf(http.StatusNotFound, "Failed loading project: Project not found")
	case s.instances[k] != nil:
		err = says("Instance %q already exists", req.Name)
	case !instanceName.MatchString(req.Name):
		err = badRequest("Invalid instance name: Name can only contain alphanumeric and hyphen characters")
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	return s.operate("Creating instance", []string{ref(k.project, "instances", k.name)}, func(op *operation) error {
		if !s.sleep(op.life, s.opt.Delays.Create) {
			return errLife
		}
		err := s.create(op, k, req)
		if err != nil || !req.Start {
			return err
		}
		return s.start(op, k)
	})
}

func (s *Server) create(op *operation, k key, req api.InstancesPost) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	image := s.images[key{s.home(k.project, "features.images"), req.Source.Fingerprint}]
	if image == nil {
		return says("Image not provided for instance creation")
	}
	if s.instances[k] != nil {
		return says("Failed creating instance record: Add instance info to the database: This \"Instance\" entry already exists")
	}
	profiles := req.Profiles
	if profiles == nil {
		profiles = []string{"default"}
	}
	err := validConfig(req.Config)
	if err != nil {
		return says("Failed creating instance record: %w", err)
	}
	devices := s.devices(k.project, profiles, req.Devices)
	err = s.validDevices(devices)
	if err == nil && !slices.ContainsFunc(slices.Collect(maps.Values(devices)), isRoot) {
		err = says("Failed getting root disk: No root device could be found")
	}
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		if err == nil {
			err = s.addable(k.project, name, devices[name], false)
		}
	}
	if err != nil {
		return says("Failed creating instance record: Failed initializing instance: %w", err)
	}
	i := &instance{
		updating: make(chan struct{}, 1),
		files:    map[string]PushedFile{},
		api: api.Instance{
			Name: k.name, Project: k.project, Type: "container", Location: "none", CreatedAt: time.Now(), LastUsedAt: time.Unix(0, 0).UTC(),
			InstancePut: api.InstancePut{
				Architecture: "x86_64", Description: req.Description, Config: api.ConfigMap{}, Devices: cloneDevices(req.Devices), Profiles: profiles,
			},
		},
	}
	maps.Copy(i.api.Config, req.Config)
	image.stamp(i.api.Config)
	s.nextID++
	i.api.Config["volatile.uuid"] = fmt.Sprintf("00000000-0000-4000-9000-%012d", s.nextID)
	for name, d := range devices {
		if d["type"] == "nic" {
			s.macs++
			i.api.Config["volatile."+name+".hwaddr"] = fmt.Sprintf("10:66:6a:00:%02x:%02x", s.macs>>8&255, s.macs&255)
		}
	}
	i.status(api.Stopped)
	s.instances[k] = i
	s.tellMore(i, api.EventLifecycleInstanceCreated, op.user, map[string]any{"type": "container", "storage-pool": "default", "location": "none"})
	return nil
}

func isRoot(d map[string]string) bool { return d["type"] == "disk" && d["path"] == "/" }

func (s *Server) deleteInstance(r *http.Request) reply {
	k := key{project(r), r.PathValue("name")}
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	if err == nil && i.running() {
		err = badRequest("Instance is running")
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	return s.operate("Deleting instance", nil, func(op *operation) error {
		s.mu.Lock()
		l, wait, err := i.take("delete", nil, false, false)
		s.mu.Unlock()
		if err != nil {
			return says("Failed to create instance delete operation: %w", err)
		}
		if wait {
			<-l.done
			return nil
		}
		alive := s.sleep(op.life, s.opt.Delays.Delete)
		s.mu.Lock()
		defer s.mu.Unlock()
		if !alive {
			i.release(l, errLife)
			return errLife
		}
		i.release(l, nil)
		delete(s.instances, k)
		s.tellOf(i, api.EventLifecycleInstanceDeleted, op.user)
		return nil
	})
}

func (s *Server) renameInstance(r *http.Request) reply {
	var req api.InstancePost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	if req.Migration || req.Name == "" {
		return s.violation(r)
	}
	k := key{project(r), r.PathValue("name")}
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	if err == nil && s.instances[key{k.project, req.Name}] != nil {
		err = api.StatusErrorf(http.StatusConflict, "Name %q already in use", req.Name)
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	return s.operate("Renaming instance", nil, func(op *operation) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i.running() {
			return says("Renaming of running instance not allowed")
		}
		delete(s.instances, k)
		i.api.Name = req.Name
		s.instances[key{k.project, req.Name}] = i
		s.tellMore(i, api.EventLifecycleInstanceRenamed, op.user, map[string]any{"old_name": k.name})
		return nil
	})
}

func (s *Server) rebuildInstance(r *http.Request) reply {
	var req api.InstanceRebuildPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	if req.Source.Type != "image" || req.Source.Server != "" || req.Source.Alias != "" {
		return s.violation(r)
	}
	k := key{project(r), r.PathValue("name")}
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	if err == nil && i.running() {
		err = badRequest("Instance must be stopped to be rebuilt")
	}
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	return s.operate("Rebuilding instance", nil, func(op *operation) error {
		if !s.sleep(op.life, s.opt.Delays.Rebuild) {
			return errLife
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		image := s.images[key{s.home(k.project, "features.images"), req.Source.Fingerprint}]
		if image == nil {
			return says("Image not provided for instance rebuild")
		}
		if i.rootless == rootGone {
			return says("Failed rebuilding instance from image: %s", rootGone)
		}
		i.rootless = ""
		image.stamp(i.api.Config) // set oci.* keys stay; no event tells of it
		i.files = map[string]PushedFile{}
		return nil
	})
}

func (s *Server) getLog(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	text := "lxc NOTICE   start - started\n"
	if i.unrun != "" {
		text += "lxc ERROR    start - ../src/lxc/start.c:start:2209 - No such file or directory - Failed to exec \"" + i.unrun + "\"\n"
	}
	if i.exit != "" {
		text += "lxc error - ../src/lxc/error.c:lxc_error_set_and_log:34 - Child <564> ended on " + i.exit + "\n"
	}
	if !i.running() && i.api.LastUsedAt.Unix() > 0 {
		text += "lxc utils - Executing script \"incusd callhook stopns\"\n"
	}
	s.emit(i.api.Project, "instance-log-retrieved", ref(i.api.Project, "instances", i.api.Name, "logs", "lxc.log"), "", s.requestor(), nil)
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(text))
	}
}

func (s *Server) getConsole(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	text := strings.ReplaceAll(s.apps[key{i.api.Project, i.api.Name}].Console, "\n", "\r\n")
	s.emit(i.api.Project, "instance-console-retrieved", ref(i.api.Project, "instances", i.api.Name, "console"), "", s.requestor(), nil)
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(text))
	}
}
