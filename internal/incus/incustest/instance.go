package incustest

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

// instance is one container. Server.mu guards it.
type instance struct {
	api  api.Instance
	lock *lock
	// updating is held by PUT and PATCH for the whole of an update; a channel of size one.
	updating chan struct{}
	files    map[string]PushedFile
	// gone ends when the app does; nil before the first start.
	gone chan struct{}
	// exit is the word of the log about the last end: "error (3)" or "signal Killed(9)".
	exit string
	// unrun is the program that the last start did not find; empty when it ran.
	unrun string
	// rootless is what Incus says of the root filesystem that is lost; empty when it is there.
	rootless string
}

// What Incus says of a lost root filesystem: measured after a rebuild during which it was killed.
const (
	rootHalf = "Failed to handle idmapped storage: Failed expanding symlinks of \"\": lstat /var/lib/incus/containers/web: no such file or directory"
	rootGone = "Failed getting instance pool: Instance storage pool not found"
)

// LoseRoot breaks the root filesystem of an instance, as a rebuild does during which Incus is killed. A rebuild mends
// it, unless it is gone altogether.
func (s *Server) LoseRoot(project, name string, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.instances[key{project, name}]
	s.end(i)
	i.rootless = rootHalf
	if gone {
		i.rootless = rootGone
	}
}

// App says how the program in an instance behaves. The zero value starts, and ends at the stop signal.
type App struct {
	// StartError makes a start fail with this text.
	StartError string
	// Missing is a program that it has not: its start fails like one whose entrypoint does not exist.
	Missing string
	// IgnoresStop makes it ignore the stop signal.
	IgnoresStop bool
	// Console is what it writes.
	Console string
	// Dies says of which config it dies as soon as it runs, with exit code 1; nil means of none.
	Dies func(config map[string]string) bool
	// StopsAfter is how long it takes to end after the stop signal.
	StopsAfter time.Duration
	// Listens is what it does with a connection to a port.
	Listens map[int]func(net.Conn)
}

// SetApp says how the program of an instance behaves from now on, also before the instance is made.
func (s *Server) SetApp(project, name string, app App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[key{project, name}] = app
}

// Exit ends the program of a running instance with an exit code, as it might by itself. A stop that waits for
// it is satisfied; else the event has no requestor.
func (s *Server) Exit(project, name string, code int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.instances[key{project, name}]
	if !found || !i.running() {
		return fmt.Errorf("instance %s in project %s does not run", name, project)
	}
	i.exit = ""
	if code != 0 {
		i.exit = fmt.Sprintf("error (%d)", code)
	}
	s.end(i)
	return nil
}

// end stops an instance from within; the caller holds the lock. Whoever waits for a stop tells the world; a stop
// that gave up waiting leaves nobody to do so.
func (s *Server) end(i *instance) {
	i.stopped()
	switch {
	case i.lock == nil:
		s.tellOf(i, api.EventLifecycleInstanceShutdown, nil)
	case i.lock.action == "stop":
		i.unlock(nil)
	}
}

func (i *instance) running() bool {
	return i.api.StatusCode == api.Running || i.api.StatusCode == api.Frozen
}

func (i *instance) status(code api.StatusCode) {
	i.api.StatusCode, i.api.Status = code, code.String()
}

func (i *instance) started(now time.Time) {
	i.status(api.Running)
	i.api.LastUsedAt = now
	i.api.Config["volatile.last_state.power"] = "RUNNING"
	i.exit = ""
	i.gone = make(chan struct{})
}

func (i *instance) stopped() {
	i.status(api.Stopped)
	i.api.Config["volatile.last_state.power"] = "STOPPED"
	if i.gone != nil {
		close(i.gone)
		i.gone = nil
	}
}

// shown is a copy as clients see it; the caller holds the lock.
func (w *world) shown(i *instance) api.Instance {
	out := i.api
	out.Config = maps.Clone(i.api.Config)
	out.Devices = cloneDevices(i.api.Devices)
	out.ExpandedConfig = maps.Clone(i.api.Config)
	out.ExpandedDevices = cloneDevices(w.devices(i.api.Project, i.api.Profiles, i.api.Devices))
	out.Profiles = slices.Clone(i.api.Profiles)
	return out
}

// covered is what the ETag of an instance covers; not its description.
func (i *instance) covered() []any {
	return []any{i.api.Architecture, i.api.Config, i.api.Devices, i.api.Ephemeral, i.api.Profiles}
}

func cloneDevices(in map[string]map[string]string) map[string]map[string]string {
	out := make(map[string]map[string]string, len(in))
	for k, v := range in {
		out[k] = maps.Clone(v)
	}
	return out
}

// tellOf emits an event of an instance.
func (s *Server) tellOf(i *instance, action string, user *api.EventLifecycleRequestor) {
	s.tellMore(i, action, user, nil)
}

func (s *Server) tellMore(i *instance, action string, user *api.EventLifecycleRequestor, context map[string]any) {
	s.emit(i.api.Project, action, ref(i.api.Project, "instances", i.api.Name), i.api.Name, user, context)
}

// find returns an instance or Incus's 404 for it; the caller holds the lock.
func (s *Server) find(project, name string) (*instance, error) {
	i, found := s.instances[key{project, name}]
	if !found {
		return nil, api.StatusErrorf(404, "Failed to fetch instance %q in project %q: Instance not found", name, project)
	}
	return i, nil
}

// validConfig refuses keys and values as Incus does.
func validConfig(config map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		v := config[k]
		switch {
		case !documented("instance", k) && !documented("kernel", k) && !strings.HasPrefix(k, "image."):
			return says("Unknown configuration key: %s", k)
		case strings.HasPrefix(k, "environment.") && strings.Contains(v, "\n"):
			return says("Environment variables cannot contain line breaks")
		case strings.HasPrefix(k, "oci.") && strings.Contains(v, "\n"):
			return says("OCI configuration values cannot contain line breaks")
		case k == "limits.memory" && v != "" && !strings.ContainsAny(v[:1], "0123456789"):
			return says("Invalid value: %s", v)
		}
	}
	return nil
}

var deviceTypes = []string{"none", "nic", "disk", "proxy", "unix-char", "unix-block", "usb", "gpu", "tpm", "infiniband", "unix-hotplug", "pci"}

// validDevices refuses devices that could not exist; the caller holds the lock.
func (s *Server) validDevices(devices map[string]map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		d := devices[name]
		if !slices.Contains(deviceTypes, d["type"]) {
			return says("Invalid devices: Device validation failed for %q: Failed loading device %q: Unsupported device type", name, name)
		}
		if d["type"] == "nic" && d["network"] != "" && s.networks[d["network"]] == nil {
			return says("Invalid devices: Device validation failed for %q: Failed loading device %q: Failed to load network %q for project \"default\": Network not found", name, name, d["network"])
		}
		for _, k := range slices.Sorted(maps.Keys(d)) {
			if !documentedDevice(d, k) {
				return says("Invalid devices: Device validation failed for %q: Invalid device option %q", name, k)
			}
		}
	}
	return nil
}

func documentedDevice(d map[string]string, k string) bool {
	group := d["type"]
	if group == "nic" {
		group = "nic_bridged"
	}
	known, found := keys()["devices"][group]
	_, yes := known[k]
	return yes || !found || k == "type" || strings.HasPrefix(k, "user.") || strings.HasPrefix(k, "initial.")
}

// addable refuses a device that cannot be added now; the caller holds the lock.
func (s *Server) addable(project, name string, d map[string]string, running bool) error {
	if d["type"] != "disk" || d["path"] == "/" {
		return nil
	}
	if d["pool"] != "" {
		volume, _, _ := strings.Cut(d["source"], "/")
		if s.volumes[key{s.home(project, "features.storage.volumes"), d["pool"] + "/" + volume}] == nil {
			return api.StatusErrorf(404, "Failed add validation for device %q: Failed loading custom volume: Storage volume not found", name)
		}
	}
	if running && strings.HasPrefix(d["source"], "tmpfs") {
		return says("Failed to add device %q: Device cannot be added when instance is running", name)
	}
	return nil
}
