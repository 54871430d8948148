package plan

import (
	"fmt"
	"path"
	"strings"
)

// bind renders a mount of a directory or file of the host.
func (r *renderer) bind(d *DesiredInstance, m Mount, dev Device, name string) error {
	if m.Share.Device != "" {
		at, mounted := r.in.Shares[m.Share]
		if !mounted {
			return missingShare{m}
		}

		m.Source = path.Join(at, m.Subpath)
	}

	kind := r.in.Paths[m.Source]
	if kind == HostTree && m.Recursive == "" {
		hint := "write \"bind: {recursive: enabled}\" in the long form if it is to, disabled if not"
		if m.ReadOnly {
			hint = "mount that by an entry of its own if it is to, or write \"bind: {recursive: disabled}\" in the long form"
		}

		r.warnings = append(r.warnings, Warning{File: m.At.File, Line: m.At.Line, Key: "services." + d.Service + ".volumes", Text: fmt.Sprintf(
			"the host has more mounted below %s, which the service does not see: %s", m.Source, hint)})
	}

	switch {
	case kind == HostMissing && !m.Create:
		return missingSource{m}
	case kind == HostMissing:
		d.HostDirs = append(d.HostDirs, m.Source)
		kind = HostDir
	}

	dev["source"] = m.Source
	if !m.NoShift {
		dev["shift"] = "true"
	}

	if !m.NoShift && kind != "" {
		d.Targets = append(d.Targets, Target{Path: m.Target, Dir: kind == HostDir || kind == HostTree})
	}

	if m.ReadOnly {
		dev["readonly"] = "true"
	}

	// liblxc wants the recursive words of recursive mounts, and of no others; of one mount both mean the same.
	if m.Recursive == RecursiveOn {
		dev["recursive"] = "true"
	}

	word := strings.TrimPrefix(m.Propagation, "r")
	switch {
	case word == "":
	case m.Recursive == RecursiveOn:
		dev["propagation"] = "r" + word
	default:
		dev["propagation"] = word
	}

	d.Devices[name] = dev

	return nil
}

// missingSource refuses a mount of what the host does not have.
type missingSource struct{ m Mount }

// Error says what to make.
func (e missingSource) Error() string {
	return fmt.Sprintf("the host has no %s, which is mounted at %s and is not made by itself: make it (mkdir -p %s)", e.m.Source, e.m.Target, e.m.Source)
}

func (e missingSource) place() Place { return e.m.At }

// missingSubpath refuses a mount of a directory that its volume does not have: Incus would make an empty one.
type missingSubpath struct {
	m            Mount
	pool, volume string
}

// Error says how to make it.
func (e missingSubpath) Error() string {
	return fmt.Sprintf("the volume %s has no %s, which is mounted at %s: correct the subpath, or make it, from a service that mounts the whole volume or with \"incus storage volume file create -p --type directory %s %s/%s\" in its project",
		e.m.Source, e.m.Subpath, e.m.Target, e.pool, e.volume, e.m.Subpath)
}

func (e missingSubpath) place() Place { return e.m.At }

// missingShare refuses a mount of what the host has not mounted itself: the agent has no right to.
type missingShare struct{ m Mount }

// Error has the line for /etc/fstab.
func (e missingShare) Error() string {
	options := strings.TrimPrefix(e.m.Share.Options+",_netdev,nofail,x-systemd.before=incus-startup.service", ",")

	return fmt.Sprintf("the host has not mounted %s, which is for %s: make a directory, say /srv/%s, add \"%s /srv/%s %s %s 0 0\" to /etc/fstab and run \"systemctl daemon-reload && mount /srv/%s\"",
		e.m.Share.Device, e.m.Target, e.dir(), e.m.Share.Device, e.dir(), e.m.Share.Type, options, e.dir())
}

func (e missingShare) dir() string {
	name := SlugName(path.Base(e.m.Share.Device))
	if name == "" {
		return "share"
	}

	return name
}

func (e missingShare) place() Place { return e.m.At }
