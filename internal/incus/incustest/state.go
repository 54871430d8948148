package incustest

import (
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

var errStopped = says("The instance is already stopped")

// aProcess is the number of every first process. None runs here.
const aProcess = 4242

// getState tells of the state what the agent asks for: whether there is a process.
func (s *Server) getState(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(project(r), r.PathValue("name"))
	if err != nil {
		return failed(err)
	}
	st := api.InstanceState{Status: i.api.Status, StatusCode: i.api.StatusCode, Pid: -1}
	if i.running() {
		st.Pid = aProcess
	}
	return ok(st)
}

func (s *Server) putState(r *http.Request) reply {
	req := api.InstanceStatePut{Timeout: -1}
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	k := key{project(r), r.PathValue("name")}
	s.mu.Lock()
	_, err = s.find(k.project, k.name)
	s.mu.Unlock()
	if err != nil {
		return failed(err)
	}
	grace := time.Duration(req.Timeout) * time.Second
	switch {
	case req.Force:
		grace = 0
	case req.Timeout < 0:
		grace = 600 * time.Second
	}
	var what string
	var do func(*operation) error
	switch {
	case req.Action == "start":
		what, do = "Starting instance", func(op *operation) error { return s.start(op, k) }
	case req.Action == "stop" && grace == 0: // a zero timeout is a kill too
		what, do = "Stopping instance", func(op *operation) error { return s.kill(op, k) }
	case req.Action == "stop":
		what, do = "Stopping instance", func(op *operation) error { return s.shutdown(op, k, grace) }
	case req.Action == "restart":
		what, do = "Restarting instance", func(op *operation) error { return s.restart(op, k, grace) }
	case req.Action == "freeze":
		what, do = "Freezing instance", func(op *operation) error { return s.freeze(op, k, api.Running, api.Frozen) }
	case req.Action == "unfreeze":
		what, do = "Unfreezing instance", func(op *operation) error { return s.freeze(op, k, api.Frozen, api.Running) }
	default:
		return failed(badRequest("Unknown action: '%s'", req.Action))
	}
	return s.operate(what, []string{ref(k.project, "instances", k.name)}, do)
}

func (s *Server) start(op *operation, k key) error {
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	if err == nil && i.running() {
		err = says("The instance is already running")
	}
	var l *lock
	var wait bool
	if err == nil {
		l, wait, err = i.take("start", []string{"restart", "restore"}, false, false)
		if err != nil {
			err = says("Failed to create instance start operation: %w", err)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if wait {
		<-l.done
		return l.err
	}
	alive := s.sleep(op.life, s.opt.Delays.Start)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !alive {
		i.release(l, errLife)
		return errLife
	}
	err = s.startable(k, i)
	i.release(l, err)
	if err != nil {
		return err
	}
	i.started(time.Now())
	s.tellOf(i, api.EventLifecycleInstanceStarted, op.user)
	dies := s.apps[k].Dies
	if dies != nil && dies(i.api.Config) {
		i.exit = "error (1)"
		s.end(i)
	}
	return nil
}

// startable makes the checks of a start: the app, and names and addresses on its networks.
func (s *Server) startable(k key, i *instance) error {
	if text := s.apps[k].StartError; text != "" {
		return errors.New(text)
	}
	i.unrun = s.apps[k].Missing
	if i.unrun != "" {
		i.exit = ""
		i.api.LastUsedAt = time.Now() // the container was there, and its program never
		return says("Failed to run: /usr/libexec/incus/incusd forklxc %s_%s /var/lib/incus/containers: exit status 1", k.project, k.name)
	}
	if i.rootless != "" {
		return errors.New(i.rootless)
	}
	mine := s.devices(k.project, i.api.Profiles, i.api.Devices)
	for _, name := range slices.Sorted(maps.Keys(mine)) {
		nic := mine[name]
		if nic["type"] != "nic" {
			continue
		}
		if n := s.networks[nic["network"]]; n != nil && n.Status == api.NetworkStatusPending {
			return says("Failed start validation for device %q: Parent device %q doesn't exist", name, nic["network"])
		}
		for other, o := range s.instances {
			for _, d := range s.devices(other.project, o.api.Profiles, o.api.Devices) {
				if other == k || d["type"] != "nic" || d["network"] != nic["network"] {
					continue
				}
				err := s.clash(k.name, other.name, nic, d)
				if err != nil {
					return says("Failed start validation for device %q: %w", name, err)
				}
			}
		}
	}
	return nil
}

// clash tells what two NICs on one network cannot share; the other instance need not run.
func (s *Server) clash(name, other string, nic, d map[string]string) error {
	n := s.networks[nic["network"]]
	if n != nil && n.Config["dns.mode"] != "none" && strings.EqualFold(name, other) {
		return says("Instance DNS name %q already used on network", strings.ToLower(other))
	}
	for _, f := range []string{"ipv4.address", "ipv6.address"} {
		a, b := bare(nic[f]), bare(d[f])
		if a.IsValid() && a == b {
			return says("IP address %q already defined on another NIC", a)
		}
	}
	if nic["hwaddr"] != "" && strings.EqualFold(nic["hwaddr"], d["hwaddr"]) {
		return says("MAC address %q already defined on another NIC", strings.ToLower(d["hwaddr"]))
	}
	return nil
}

func bare(cidr string) netip.Addr {
	a, _, _ := strings.Cut(cidr, "/")
	addr, err := netip.ParseAddr(a)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// kill is a forced stop. It takes over the lock of a graceful one that waits or gave up waiting.
func (s *Server) kill(op *operation, k key) error {
	i, l, wait, err := s.stopLock(k, []string{"restart", "restore", "migrate"}, false)
	if err != nil {
		return err
	}
	if wait {
		<-l.done
		return l.err
	}
	alive := s.sleep(op.life, s.opt.Delays.Stop)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !alive {
		i.release(l, errLife)
		return errLife
	}
	if i.running() {
		i.stopped()
		i.exit = "signal Killed(9)"
	}
	s.tellOf(i, api.EventLifecycleInstancePaused, op.user)
	if l.action == "stop" {
		i.release(l, nil)
		s.tellOf(i, api.EventLifecycleInstanceStopped, op.user)
	}
	return nil
}

func (s *Server) stopLock(k key, inherit []string, reusable bool) (i *instance, l *lock, wait bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err = s.find(k.project, k.name)
	if err != nil {
		return nil, nil, false, err
	}
	if !i.running() {
		return nil, nil, false, errStopped
	}
	l, wait, err = i.take("stop", inherit, reusable, true)
	return i, l, wait, err
}

// shutdown is a graceful stop. When the app does not end in time the operation fails and the lock stays.
func (s *Server) shutdown(op *operation, k key, grace time.Duration) error {
	i, l, wait, err := s.stopLock(k, []string{"restart"}, true)
	if err != nil {
		return err
	}
	if wait {
		<-l.done
		return l.err
	}
	gone := s.signal(k, i)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
	case <-op.life:
		s.mu.Lock()
		defer s.mu.Unlock()
		i.release(l, errLife)
		return errLife
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.running() {
		return says("Failed shutting down instance, status is %q: context deadline exceeded", i.api.Status)
	}
	if l.action == "stop" {
		s.tellOf(i, api.EventLifecycleInstanceShutdown, op.user)
	}
	return nil
}

// signal sends the stop signal; gone ends with the app, whether or not anybody still waits for it.
func (s *Server) signal(k key, i *instance) (gone chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	app, gone := s.apps[k], i.gone
	if gone == nil { // it ended just now
		gone = make(chan struct{})
		close(gone)
		return gone
	}
	if app.IgnoresStop {
		return gone
	}
	s.working.Go(func() {
		if !s.sleep(s.closed, max(app.StopsAfter, s.opt.Delays.Stop)) {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if i.gone == gone {
			s.end(i)
		}
	})
	return gone
}

func (s *Server) restart(op *operation, k key, grace time.Duration) error {
	s.mu.Lock()
	i, err := s.find(k.project, k.name)
	if err == nil && !i.running() {
		err = errStopped
	}
	var l *lock
	if err == nil {
		l, _, err = i.take("restart", nil, true, true)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if grace == 0 {
		err = s.kill(op, k)
	} else {
		err = s.shutdown(op, k, grace)
	}
	if err != nil {
		return err // and a graceful one's lock stays
	}
	alive := s.sleep(op.life, s.opt.Delays.Start)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer i.release(l, nil)
	if !alive {
		return errLife
	}
	err = s.startable(k, i)
	if err != nil {
		return err
	}
	i.started(time.Now())
	s.tellOf(i, api.EventLifecycleInstanceRestarted, op.user)
	return nil
}

func (s *Server) freeze(op *operation, k key, from, to api.StatusCode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(k.project, k.name)
	switch {
	case err != nil:
		return err
	case !i.running():
		return says("The instance isn't running")
	case i.api.StatusCode != from:
		return says("The container is already %s", strings.ToLower(to.String()))
	}
	i.status(to)
	action := api.EventLifecycleInstancePaused
	if to == api.Running {
		action = api.EventLifecycleInstanceResumed
	}
	s.tellOf(i, action, op.user)
	return nil
}
