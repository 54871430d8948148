package incustest

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/lxc/incus/v6/shared/api"
)

// hold takes the mutex of an instance's updates; false means that the request or the server ended first.
func (i *instance) hold(r *http.Request, life chan struct{}) bool {
	select {
	case i.updating <- struct{}{}:
		return true
	case <-r.Context().Done():
	case <-life:
	}
	return false
}

func (s *Server) putInstance(r *http.Request) reply {
	i, life, err := s.forUpdate(r)
	if err != nil {
		return failed(err)
	}
	if !i.hold(r, life) {
		panic(http.ErrAbortHandler)
	}
	var req api.InstancePut
	s.mu.Lock()
	err = matches(r, i.covered())
	s.mu.Unlock()
	if err == nil {
		err = body(r, &req)
	}
	if err == nil && req.Restore != "" {
		<-i.updating
		return s.violation(r)
	}
	if err != nil {
		<-i.updating
		return failed(err)
	}
	return s.operate("Updating instance", nil, func(op *operation) error {
		defer func() { <-i.updating }()
		return s.update(i, req, op.user)
	})
}

func (s *Server) patchInstance(r *http.Request) reply {
	i, life, err := s.forUpdate(r)
	if err != nil {
		return failed(err)
	}
	if !i.hold(r, life) {
		panic(http.ErrAbortHandler)
	}
	defer func() { <-i.updating }()
	var raw struct {
		Config  map[string]string `json:"config"`
		Devices map[string]any    `json:"devices"`
	}
	s.mu.Lock()
	err = matches(r, i.covered())
	shown := s.shown(i)
	req := shown.Writable()
	s.mu.Unlock()
	if err == nil {
		err = body(r, &raw)
	}
	if err != nil {
		return failed(err)
	}
	maps.Copy(req.Config, raw.Config)
	for name, d := range raw.Devices {
		if d == nil {
			return failed(badRequest("type <nil> is not supported in *api.DevicesMap"))
		}
		b, err := json.Marshal(d)
		if err != nil {
			return failed(err)
		}
		var dev map[string]string
		err = json.Unmarshal(b, &dev)
		if err != nil {
			return failed(badRequest("%s", err))
		}
		req.Devices[name] = dev
	}
	err = s.update(i, req, nil) // nobody is named for a PATCH
	if err != nil {
		return failed(err)
	}
	return ok(map[string]any{})
}

func (s *Server) forUpdate(r *http.Request) (*instance, chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	return i, s.life, err
}

// update replaces an instance's config and devices.
func (s *Server) update(i *instance, req api.InstancePut, user *api.EventLifecycleRequestor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, wait, err := i.take("update", []string{"create", "restart", "restore"}, false, false)
	if err != nil {
		return says("Failed to create instance update operation: %w", err)
	}
	if wait {
		return says("Failed to create instance update operation: A matching non-reusable operation has now succeeded")
	}
	if l.action == "update" {
		defer i.release(l, nil)
	}
	err = validConfig(req.Config)
	if err != nil {
		return says("Invalid config: %w", err)
	}
	err = s.validDevices(req.Devices)
	if err != nil {
		return err
	}
	devices := s.devices(i.api.Project, req.Profiles, req.Devices)
	if !slices.ContainsFunc(slices.Collect(maps.Values(devices)), isRoot) {
		return says("Invalid expanded devices: Failed detecting root disk device: No root device could be found")
	}
	for _, name := range slices.Sorted(maps.Keys(req.Devices)) {
		if reflect.DeepEqual(req.Devices[name], i.api.Devices[name]) {
			continue
		}
		err = s.addable(i.api.Project, name, req.Devices[name], i.running())
		if err != nil {
			return err
		}
	}
	config := api.ConfigMap{}
	maps.Copy(config, req.Config)
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	i.api.Config, i.api.Devices, i.api.Description = config, cloneDevices(req.Devices), req.Description
	s.tellOf(i, api.EventLifecycleInstanceUpdated, user)
	return nil
}
