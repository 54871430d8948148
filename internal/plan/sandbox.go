package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Sandbox is what a service may do less, or more, than a container of Incus does by itself. The zero value leaves
// everything to Incus: all capabilities over its own namespaces, none over the host's, Incus's AppArmor and seccomp.
type Sandbox struct {
	// CapAdd and CapDrop are capabilities as liblxc spells them ("net_admin"), sorted; "all" is every one.
	CapAdd, CapDrop []string
	// NoNewPrivileges keeps setuid programs from giving more than the service has.
	NoNewPrivileges bool
	// AppArmor is a profile of the host's, or "unconfined"; empty means Incus's own.
	AppArmor string
	// Rules are allowed by the devices control group: "c 1:3 mr".
	Rules []string
	// ReadOnly makes the root filesystem read-only; mounts stay as they are.
	ReadOnly bool
	// Groups are further groups of the process, by number or by their name in the image.
	Groups []string
	// Umask of the process, in octal digits; empty means the image's.
	Umask string
	// ConsoleSize is how many bytes of the console's log are kept; 0 leaves it to Incus.
	ConsoleSize int64
}

// hostCaps are the capabilities that Incus takes from a privileged container, because they reach the host.
var hostCaps = []string{"sys_time", "sys_module", "sys_rawio", "mac_admin", "mac_override"}

// lxc are the lines of liblxc's configuration for the sandbox.
func (b Sandbox) lxc(privileged bool, gids []uint32) string {
	var out strings.Builder
	line := func(key, value string) { out.WriteString(key + " = " + value + "\n") }
	switch {
	case slices.Contains(b.CapDrop, "all"):
		keep := "none"
		if len(b.CapAdd) > 0 {
			keep = strings.Join(b.CapAdd, " ")
		}

		line("lxc.cap.keep", keep)
	case privileged:
		drop := slices.DeleteFunc(slices.Clone(hostCaps), func(c string) bool {
			return slices.Contains(b.CapAdd, c) || slices.Contains(b.CapAdd, "all")
		})
		if len(drop) < len(hostCaps) {
			out.WriteString("lxc.cap.drop =\n")
		} else {
			drop = nil
		}

		drop = append(drop, b.CapDrop...)
		if len(drop) > 0 {
			line("lxc.cap.drop", strings.Join(drop, " "))
		}
	case len(b.CapDrop) > 0:
		line("lxc.cap.drop", strings.Join(b.CapDrop, " "))
	}

	if b.NoNewPrivileges {
		line("lxc.no_new_privs", "1")
	}

	if b.AppArmor != "" {
		line("lxc.apparmor.profile", b.AppArmor)
	}

	for _, rule := range b.Rules {
		line("lxc.cgroup2.devices.allow", rule)
	}

	if len(gids) > 0 {
		words := make([]string, len(gids))
		for i, g := range gids {
			words[i] = strconv.FormatUint(uint64(g), 10)
		}

		line("lxc.init.groups", strings.Join(words, ","))
	}

	if b.ConsoleSize > 0 {
		line("lxc.console.buffer.size", strconv.FormatInt(b.ConsoleSize, 10))
		line("lxc.console.size", strconv.FormatInt(b.ConsoleSize, 10))
	}

	return out.String()
}

// resolveGroups makes numbers of group names with the image's group file.
func resolveGroups(groups []string, img Image) ([]uint32, error) {
	var gids []uint32
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 10, 32)
		gid, known := img.Groups[g]
		switch {
		case err == nil:
			gid = uint32(n)
		case !known:
			return nil, fmt.Errorf("the image %s has no group %q in its /etc/group: write the number instead", img.Ref, g)
		}

		gids = append(gids, gid)
	}

	return gids, nil
}

// HostDevice is a device of the host that a service uses.
type HostDevice struct {
	// Source is its path on the host, Target the one in the instance.
	Source, Target string
	// Type is Incus's: "unix-char", "unix-block", "gpu" or "usb".
	Type string
	// Config holds further keys of the device.
	Config map[string]string
	// At is the place in the file, for errors.
	At Place
}

// hostDevices renders the devices of the host; their nodes belong to the service's own user, because Incus does not
// take over the host's owner.
func (r *renderer) hostDevices(d *DesiredInstance, s Service, owner [2]uint32) {
	for i, h := range s.HostDevices {
		dev := Device{
			"type": h.Type, "uid": strconv.FormatUint(uint64(owner[0]), 10), "gid": strconv.FormatUint(uint64(owner[1]), 10),
		}

		if h.Source != "" {
			dev["source"], dev["path"] = h.Source, h.Target
		}

		maps.Copy(dev, h.Config)

		name := h.Type + "-" + SlugName(h.Target)
		if h.Target == "" {
			name = h.Type + "-" + strconv.Itoa(i)
		}

		d.Devices[name] = dev
		d.originate(nil, map[string]Device{name: dev}, h.At)
	}
}
