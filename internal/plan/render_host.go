package plan

import (
	"maps"
	"slices"
	"strings"
)

// hostNetwork are liblxc's lines for a service on the host's own network; "" for others. Measured with liblxc 6.0: a
// user namespace other than the network's may neither mount a sysfs nor set the sysctls that Incus wants of every such
// container, so the host's /sys is bound instead and they are left out; and Incus's DHCP client, which would run on the
// host's interfaces, is not started. What is cleared so is all that Incus wrote, so the rest is written again.
func (r *renderer) hostNetwork(s Service, instance string) string {
	if !s.HostNetwork {
		return ""
	}

	proc := "proc:rw"
	if s.Config["security.privileged"] == "true" {
		proc = "proc:mixed"
	}

	lines := []string{
		"lxc.net.0.type = none",
		"lxc.hook.start-host =",
		"lxc.mount.auto =",
		"lxc.mount.auto = " + proc + " shmounts:/var/lib/incus/shmounts/" + r.p.Incus + "_" + instance + ":/dev/.incus-mounts",
		"lxc.mount.entry = /sys sys none rbind,create=dir 0 0",
		"lxc.mount.entry = /etc/resolv.conf etc/resolv.conf none bind,create=file 0 0",
		"lxc.mount.entry = /etc/hosts etc/hosts none bind,create=file 0 0",
		"lxc.sysctl =",
	}
	for _, key := range slices.Sorted(maps.Keys(s.Config)) {
		name, ok := strings.CutPrefix(key, "linux.sysctl.")
		if ok {
			lines = append(lines, "lxc.sysctl."+name+" = "+s.Config[key])
		}
	}

	return strings.Join(lines, "\n") + "\n"
}
