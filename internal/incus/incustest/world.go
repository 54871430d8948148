package incustest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lxc/incus/v6/shared/api"
	"github.com/pkg/sftp"
)

// key names an object of a project.
type key struct{ project, name string }

// world is all that Incus keeps over a restart.
type world struct {
	projects  map[string]*api.Project
	profiles  map[key]*api.Profile
	pools     []string
	networks  map[string]*api.Network
	volumes   map[key]*api.StorageVolume // name is "pool/volume"
	snapshots map[key][]string           // of volumes
	files     map[*api.StorageVolume]sftp.Handlers
	restored  []string
	images    map[key]*Image // name is the fingerprint
	instances map[key]*instance
	catalogue map[string]Image // by "server alias"
	macs      int

	certificates map[string]*api.Certificate // by fingerprint
}

// Image is what a registry offers.
type Image struct {
	// Fingerprint is Incus's name of it.
	Fingerprint string
	// Entrypoint is the command line, Cwd the directory and UID and GID the numbers that Incus writes into
	// the oci.* keys of instances that have none; empty means "/bin/sh", "/", "0" and "0".
	Entrypoint, Cwd, UID, GID string

	cached     bool
	uploaded   time.Time
	properties map[string]string // with which it was pulled
}

func newWorld(pools []string) *world {
	w := &world{
		projects:  map[string]*api.Project{},
		profiles:  map[key]*api.Profile{},
		pools:     pools,
		networks:  map[string]*api.Network{},
		volumes:   map[key]*api.StorageVolume{},
		snapshots: map[key][]string{},
		files:     map[*api.StorageVolume]sftp.Handlers{},
		images:    map[key]*Image{},
		instances: map[key]*instance{},
		catalogue: map[string]Image{},

		certificates: map[string]*api.Certificate{},
	}
	w.projects["default"] = &api.Project{Name: "default", ProjectPut: api.ProjectPut{
		Description: "Default Incus project",
		Config: api.ConfigMap{
			"features.images": "true", "features.networks": "true", "features.networks.zones": "true", "features.profiles": "true",
			"features.storage.buckets": "true", "features.storage.volumes": "true",
		},
	}}
	w.networks["lo"] = &api.Network{Name: "lo", Type: "loopback", NetworkPut: api.NetworkPut{Config: api.ConfigMap{}}}
	w.networks["incusbr0"] = &api.Network{Name: "incusbr0", Type: "bridge", Managed: true, Status: "Created", NetworkPut: api.NetworkPut{
		Config: api.ConfigMap{"ipv4.address": "10.158.0.1/24", "ipv4.nat": "true", "ipv6.address": "none"},
	}}
	devices := map[string]map[string]string{
		"eth0": {"type": "nic", "name": "eth0", "network": "incusbr0"},
	}
	if len(pools) > 0 {
		devices["root"] = map[string]string{"type": "disk", "path": "/", "pool": pools[0]}
	}
	w.profiles[key{"default", "default"}] = &api.Profile{Name: "default", Project: "default", ProfilePut: api.ProfilePut{
		Description: "Default Incus profile", Config: api.ConfigMap{}, Devices: devices,
	}}
	return w
}

// home returns the project that holds a project's objects of a feature.
func (w *world) home(project, feature string) string {
	p, found := w.projects[project]
	if found && p.Config[feature] == "true" {
		return project
	}
	return "default"
}

// devices returns an instance's own devices over those of its profiles.
func (w *world) devices(project string, profiles []string, own map[string]map[string]string) map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, name := range profiles {
		p, found := w.profiles[key{w.home(project, "features.profiles"), name}]
		if found {
			maps.Copy(all, p.Devices)
		}
	}
	maps.Copy(all, own)
	return all
}

// ref returns a reference like those in used_by.
func ref(project string, elems ...string) string {
	u := api.NewURL().Path(append([]string{"1.0"}, elems...)...)
	if project != "default" {
		u = u.WithQuery("project", project)
	}
	return u.String()
}

// usersOf returns the instances and profiles that have a device for which uses is true.
func (w *world) usersOf(uses func(project string, dev map[string]string) bool) []string {
	users := []string{}
	for k, i := range w.instances {
		for _, d := range w.devices(k.project, i.api.Profiles, i.api.Devices) {
			if uses(k.project, d) {
				users = append(users, ref(k.project, "instances", k.name))
				break
			}
		}
	}
	for k, p := range w.profiles {
		for _, d := range p.Devices {
			if uses(k.project, d) {
				users = append(users, ref(k.project, "profiles", k.name))
				break
			}
		}
	}
	slices.Sort(users)
	return users
}

func (w *world) networkUsers(name string) []string {
	return w.usersOf(func(_ string, d map[string]string) bool {
		return d["type"] == "nic" && (d["network"] == name || d["parent"] == name)
	})
}

func (w *world) volumeUsers(project, pool, volume string) []string {
	return w.usersOf(func(p string, d map[string]string) bool {
		source, _, _ := strings.Cut(d["source"], "/")
		return d["type"] == "disk" && d["pool"] == pool && source == volume && w.home(p, "features.storage.volumes") == project
	})
}

// contents lists what a project holds, its own default profile too.
func (w *world) contents(project string) []string {
	list := []string{}
	for k := range w.instances {
		if k.project == project {
			list = append(list, ref(project, "instances", k.name))
		}
	}
	for k := range w.profiles {
		if k.project == project {
			list = append(list, ref(project, "profiles", k.name))
		}
	}
	for k := range w.images {
		if k.project == project {
			list = append(list, ref(project, "images", k.name))
		}
	}
	for k := range w.volumes {
		if k.project == project {
			pool, name, _ := strings.Cut(k.name, "/")
			list = append(list, ref(project, "storage-pools", pool, "volumes", "custom", name))
		}
	}
	if project == "default" {
		for _, n := range w.networks {
			if n.Managed {
				list = append(list, ref(project, "networks", n.Name))
			}
		}
	}
	slices.Sort(list)
	return list
}
