package compose

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// hostVolume notes a volume whose driver_opts mount something of the host, as Docker's local driver does: services then
// mount that, and Incus has no volume of this name. It reports whether there is such a thing.
func (t *translation) hostVolume(name string, c types.VolumeConfig) bool {
	kind, device, given := c.DriverOpts["type"], c.DriverOpts["device"], c.DriverOpts["o"]
	if kind == "" && device == "" && given == "" {
		return false
	}

	key := "volumes." + name + ".driver_opts"
	for _, opt := range slices.Sorted(maps.Keys(c.DriverOpts)) {
		if !slices.Contains([]string{"type", "device", "o"}, opt) {
			t.refuse(key+"."+opt, "means nothing beside type, o and device", "remove it")
		}
	}

	if len(c.Extensions) > 0 {
		t.warn("volumes."+name, "x-incus and x-incus-compose are ignored: its driver_opts mount something of the host, and Incus has no volume of this name")
	}

	m := plan.Mount{Type: plan.MountBind}
	options := strings.FieldsFunc(given, func(r rune) bool { return r == ',' })
	switch {
	case kind == "tmpfs":
		m.Type, m.Mode = plan.MountTmpfs, "1777"
		for _, opt := range options {
			t.tmpfsOption(t.index.place(key+".o"), key+".o", &m, opt)
		}
	case kind == "nfs", kind == "nfs4", kind == "cifs":
		t.share(key, &m, kind, device, options)
	case kind == "" || kind == "none" || kind == "bind":
		t.bindVolume(key, &m, device, options)
	default:
		t.refuse(key+".type", fmt.Sprintf("file systems of type %q are not mounted from here", clip(kind)),
			"mount it on the host, by /etc/fstab, and name the directory: {type: none, o: bind, device: /mnt/data}; nfs, nfs4, cifs and tmpfs are known, too")
	}

	t.hostVolumes[name] = m

	return true
}

// bindVolume is a directory of the host under the name of a volume.
func (t *translation) bindVolume(key string, m *plan.Mount, device string, options []string) {
	m.Source = path.Clean(device)
	if !strings.HasPrefix(device, "/") {
		t.refuse(key+".device", fmt.Sprintf("%q is not a directory of the host", clip(device)), `write an absolute path, "device: /srv/data"`)
	}

	bound := false
	for _, opt := range options {
		switch {
		case opt == "bind":
			bound = true
		case opt == "rbind":
			bound, m.Recursive = true, plan.RecursiveOn
		case opt == "ro":
			m.ReadOnly = true
		case opt == "rw":
		case slices.Contains(propagations, opt):
			m.Propagation = opt
		default:
			t.refuse(key+".o", fmt.Sprintf("the option %q means nothing for a directory", clip(opt)), "write bind or rbind, and ro, or a propagation such as rslave")
		}
	}

	if !bound {
		t.refuse(key+".o", "says nothing of what to do with the device", `write "o: bind" for a directory of the host; for a disk or a share say its type`)
	}
}

// share is a network file system that the host has mounted. Of its options, ro and addr matter here.
func (t *translation) share(key string, m *plan.Mount, kind, device string, options []string) {
	var server string
	for _, opt := range options {
		name, value, has := strings.Cut(opt, "=")
		switch {
		case name == "" || has && value == "":
			t.refuse(key+".o", fmt.Sprintf("%q is not an option of a mount", clip(opt)), `write "addr=192.0.2.10,nfsvers=4"`)
		case name == "addr":
			server = value
		case name == "ro":
			m.ReadOnly = true
		}
	}

	exported, ok := strings.CutPrefix(device, ":")
	if ok && kind != "cifs" {
		device = server + ":" + exported
		if server == "" {
			t.refuse(key+".o", "names no server", `write "addr=192.0.2.10" into o, or "device: 192.0.2.10:/export"`)
		}
	}

	host, dir, _ := strings.Cut(device, ":")
	switch {
	case kind == "cifs" && !strings.HasPrefix(device, "//"):
		t.refuse(key+".device", fmt.Sprintf("%q is not a share", clip(device)), `write "device: //server/share"`)
	case kind != "cifs" && (host == "" || !strings.HasPrefix(dir, "/")) && (server != "" || !ok):
		t.refuse(key+".device", fmt.Sprintf("%q is not an export", clip(device)), `write "device: \":/export\"" with addr=SERVER in o, or "device: SERVER:/export"`)
	}

	m.NoShift = true // the kernel maps no users of a network file system
	m.Share = plan.Share{Type: kind, Device: strings.TrimRight(device, "/"), Options: strings.Join(slices.DeleteFunc(slices.Clone(options), func(opt string) bool {
		return strings.HasPrefix(opt, "addr=") || strings.Contains(opt, "pass") || strings.Contains(opt, "cred")
	}), ",")}
}

// fromHost makes a mount of a volume that one of what its driver_opts say.
func (s *service) fromHost(m *plan.Mount, host plan.Mount) {
	host.Target, host.At, host.ReadOnly = m.Target, m.At, m.ReadOnly || host.ReadOnly
	switch {
	case host.Type == plan.MountTmpfs:
		for _, other := range slices.Sorted(maps.Keys(s.t.project.Services)) {
			shared := slices.ContainsFunc(s.t.project.Services[other].Volumes, func(v types.ServiceVolumeConfig) bool {
				return v.Source == m.Source && v.Type == types.VolumeTypeVolume
			})
			if shared && (other != s.in.Name || s.in.GetScale() > 1) {
				s.t.warnAt(m.At, s.key+".volumes", "the tmpfs "+m.Source+" is not shared: each instance has one of its own")
				break
			}
		}
	case host.Share.Device != "":
		host.Subpath = m.Subpath
	default:
		host.Source = path.Join(host.Source, m.Subpath)
		s.t.flatten(m.At, s.key+".volumes", &host)
	}

	*m = host
}

// propagations are the words for what becomes of mounts below a mount (mount_namespaces(7)).
var propagations = strings.Fields("private rprivate shared rshared slave rslave")
