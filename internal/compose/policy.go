package compose

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Policy is how much of the host its administrator lets files ask for. A level is "strict", "standard" or "trusted".
type Policy struct {
	// Level is that of a stack that names none in x-ic-agent.policy; empty means standard.
	Level string `json:"level,omitempty" toml:"level"`
	// Most is the highest level a stack may name; empty means trusted.
	Most string `json:"most,omitempty" toml:"most"`
	// Binds are directories of the host that stacks may mount under strict, beside their own.
	Binds []string `json:"binds,omitempty" toml:"binds"`
}

// Valid refuses words that are no levels.
func (p Policy) Valid() error {
	for _, setting := range [][2]string{{"level", p.Level}, {"most", p.Most}} {
		if setting[1] != "" && level(setting[1]) < 0 {
			return fmt.Errorf("policy.%s: %q is none of %s", setting[0], setting[1], strings.Join(PolicyLevels, ", "))
		}
	}

	return nil
}

// PolicyLevels are the levels, from the one that allows least.
var PolicyLevels = []string{"strict", "standard", "trusted"}

func level(name string) int { return slices.Index(PolicyLevels, name) }

// policyLevel is the level of the stack; a higher one than allowed is refused.
func (t *translation) policyLevel() int {
	most := level(cmp.Or(t.in.Policy.Most, "trusted"))
	got := level(cmp.Or(t.out.Policy, t.in.Policy.Level, "standard"))
	if t.out.Policy != "" && got > most {
		t.refuse(extAgent+".policy", fmt.Sprintf("this host allows at most %s", PolicyLevels[most]), "remove it, or change [policy] most in agent.toml")
	}

	return min(got, most)
}

// hostDirs are what a stack cannot mount as a whole without having the host; what lies below some of them is the same.
var (
	hostDirs  = strings.Fields("/ /bin /boot /dev /etc /home /lib /lib64 /proc /root /run /sbin /sys /usr /var /var/lib /var/run")
	hostTrees = strings.Fields(`/proc /sys /root /boot /etc/incus-compose.d /etc/ic-agent /var/lib/ic-agent /run/ic-agent /var/lib/incus /run/incus /var/lib/lxc
		/var/lib/docker /run/docker.sock /var/run/docker.sock /run/containerd /run/podman /var/run/podman`)
	sockets = strings.Fields("/run/docker.sock /var/run/docker.sock /run/podman/podman.sock /run/containerd/containerd.sock")
)

// OfTheHost tells of a directory that a stack cannot mount unless it is trusted.
func OfTheHost(dir string) bool {
	return slices.Contains(hostDirs, dir) || slices.ContainsFunc(hostTrees, func(tree string) bool { return inside(dir, tree) })
}

// police refuses what the stack's policy does not allow a service to have.
func (t *translation) police(s *service) {
	p := police{service: s, level: t.policyLevel()}
	if p.level == level("trusted") {
		return
	}

	p.mounts()
	p.keys()
	p.devices()
	if p.level == level("strict") {
		p.strict()
	}
}

// police looks at one service.
type police struct {
	*service
	level int
}

func (p police) forbid(at plan.Place, key, what string) {
	needs := "trusted"
	hint := "write x-ic-agent: {policy: trusted} at the top of the file if that is meant"
	if p.level == level("strict") {
		needs = "standard"
	}

	if level(cmp.Or(p.t.in.Policy.Most, "trusted")) <= p.level {
		hint = "this host allows no more: see [policy] in agent.toml"
	}

	if needs == "standard" && strings.HasPrefix(hint, "write") {
		hint = "remove it, or write a higher x-ic-agent.policy at the top of the file if that is meant"
	}

	p.t.refuseAt(at, key, what+", which the policy "+PolicyLevels[p.level]+" does not allow", hint)
}

// mounts looks at the directories of the host.
func (p police) mounts() {
	for _, m := range p.out.Mounts {
		switch {
		case m.Share.Device != "" && p.level == level("strict"):
			p.forbid(m.At, p.key+".volumes", "the service mounts "+m.Share.Device+" from outside the stack's directory")
		case m.Share.Device != "":
		case m.Type == plan.MountBind:
			p.bind(m.At, p.key+".volumes", m.Source)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(p.out.Devices)) {
		d := p.out.Devices[name]
		if d["type"] == "disk" && strings.HasPrefix(d["source"], "/") {
			p.bind(p.place(extCompose+".devices."+name), p.key+"."+extCompose+".devices."+name, d["source"])
		}
	}
}

func (p police) bind(at plan.Place, key, source string) {
	source = path.Clean(source)
	switch {
	case slices.Contains(sockets, source):
		p.forbid(at, key, "the service mounts "+source+", the socket of another container engine, and nothing behind it is about this stack")
	case p.own(source):
	case OfTheHost(source):
		p.forbid(at, key, "the service mounts the host's "+source+p.elsewhere(source))
	case p.level == level("strict") && !inside(source, p.t.in.Dir) && !slices.ContainsFunc(p.t.in.Policy.Binds, func(dir string) bool { return inside(source, dir) }):
		p.forbid(at, key, "the service mounts "+source+" from outside the stack's directory")
	}
}

// elsewhere says where a directory beside a flat file may be.
func (p police) elsewhere(source string) string {
	dir := path.Clean(p.t.in.Dir)
	if source == dir || !inside(source, dir) || path.Base(dir) == p.t.in.Stack {
		return ""
	}

	return fmt.Sprintf(" (move the file to %s/%s/compose.yaml, and such directories are the stack's own)", dir, p.t.in.Stack)
}

// own tells whether a path lies below the directory that is this stack's alone, where the data of bind mounts lies by
// Docker's custom, and holds none of its compose files. What lies beside a flat file is not its own: it may be, or
// become, another stack.
func (p police) own(bound string) bool {
	rest, below := strings.CutPrefix(bound, path.Clean(p.t.in.Dir)+"/")
	top, _, _ := strings.Cut(rest, "/")
	if !below || path.Base(p.t.in.Dir) != p.t.in.Stack || path.Ext(top) == ".d" {
		return false
	}

	return !slices.ContainsFunc(p.t.index.sources, func(f *source) bool { return inside(f.path, bound) })
}

// inside tells whether a path is dir or below it.
func inside(name, dir string) bool {
	dir = path.Clean(dir)

	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// keys looks at what makes the container's root the host's.
func (p police) keys() {
	if p.in.Privileged {
		p.forbid(p.place("privileged"), p.key+".privileged", "in a privileged service root is the host's root")
	}

	if p.out.HostNetwork {
		p.forbid(p.place("network_mode"), p.key+".network_mode", "the service is on the host's own network (ports: publishes ports without that)")
	}

	for _, k := range slices.Sorted(maps.Keys(p.out.XIncus)) {
		raw := strings.HasPrefix(k, "raw.") || k == "security.privileged" && p.out.XIncus[k] != "false"
		if raw || p.level == level("strict") && !harmless(k) {
			p.forbid(p.place(extIncus+"."+k), p.key+"."+extIncus+"."+k, "the file sets "+k)
		}
	}
}

// harmless are the keys of Incus that a strict stack may set: they limit, or are notes.
func harmless(key string) bool {
	return slices.ContainsFunc([]string{"limits.", "user.", "boot.", "environment.", "snapshots.", "oci."}, func(prefix string) bool {
		return strings.HasPrefix(key, prefix)
	})
}

// devices looks at disks and memory of the host.
func (p police) devices() {
	for _, h := range p.out.HostDevices {
		switch {
		case h.Type == "unix-block":
			p.forbid(h.At, p.key+".devices", "the service has the disk "+h.Source+" of the host")
		case slices.Contains([]string{"/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg"}, h.Source):
			p.forbid(h.At, p.key+".devices", "the service has "+h.Source+", the host's own memory or log")
		}
	}
}

// dockerCaps are what Docker gives a container by default.
var dockerCaps = strings.Fields(`audit_write chown dac_override fowner fsetid kill mknod net_bind_service net_raw setfcap setgid setpcap setuid sys_chroot`)

// strict looks at what only a stack that is trusted somewhat may have.
func (p police) strict() {
	for _, h := range p.out.HostDevices {
		if h.Type != "unix-block" {
			p.forbid(h.At, p.key+".devices", "the service has a device of the host")
		}
	}

	for _, name := range slices.Sorted(maps.Keys(p.out.Devices)) {
		p.forbid(p.place(extCompose+".devices."+name), p.key+"."+extCompose+".devices."+name, "the file makes a device of its own")
	}

	for _, c := range p.out.Sandbox.CapAdd {
		if !slices.Contains(dockerCaps, c) {
			p.forbid(p.place("cap_add"), p.key+".cap_add", "the service asks for "+strings.ToUpper(c))
		}
	}

	if len(p.out.Sandbox.Rules) > 0 {
		p.forbid(p.place("device_cgroup_rules"), p.key+".device_cgroup_rules", "the file changes the rules for devices")
	}

	if p.out.Sandbox.AppArmor != "" || p.out.Config["security.syscalls.deny_default"] == "false" {
		p.forbid(p.place("security_opt"), p.key+".security_opt", "the service leaves Incus's AppArmor or seccomp rules")
	}
}
