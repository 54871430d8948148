package compose

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// capabilities are those of capabilities(7), as liblxc spells them.
var capabilities = strings.Fields(`audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override
	dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin
	net_bind_service net_broadcast net_raw perfmon setfcap setgid setpcap setuid sys_admin sys_boot sys_chroot sys_module
	sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time sys_tty_config syslog wake_alarm`)

// hostCapabilities mean nothing in a container with users of its own: the kernel asks for them over the host.
var hostCapabilities = []string{"mac_admin", "mac_override", "sys_boot", "sys_module", "sys_rawio", "sys_time", "syslog"}

func (s *service) capAdd() {
	s.out.Sandbox.CapAdd = s.caps("cap_add", s.in.CapAdd)
	for _, c := range s.out.Sandbox.CapAdd {
		if slices.Contains(hostCapabilities, c) && !s.in.Privileged {
			s.warn("cap_add", fmt.Sprintf("%s reaches no further than the container, whose users are not the host's: the host's clock, modules and log need privileged", strings.ToUpper(c)))
		}
	}

	if slices.Contains(s.out.Sandbox.CapAdd, "all") {
		s.out.Sandbox.CapAdd = []string{"all"}
	}
}

// capDrop comes after capAdd. What is dropped and added is had, as with Docker.
func (s *service) capDrop() {
	b := &s.out.Sandbox
	b.CapDrop = s.caps("cap_drop", s.in.CapDrop)
	switch {
	case !slices.Contains(b.CapDrop, "all"):
		if slices.Contains(b.CapAdd, "all") {
			return
		}

		b.CapDrop = slices.DeleteFunc(b.CapDrop, func(c string) bool { return slices.Contains(b.CapAdd, c) })
	case s.in.Privileged:
		s.refuse("cap_drop", "a privileged service has every capability", "remove one of the two")
	case slices.Contains(b.CapAdd, "all"):
		b.CapDrop = nil
	default:
		b.CapDrop = []string{"all"}
	}
}

// caps reads names with and without CAP_, in any case.
func (s *service) caps(key string, names []string) []string {
	var out []string
	for _, name := range names {
		c := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "cap_")
		if c != "all" && !slices.Contains(capabilities, c) {
			at := s.t.index.item(s.key+"."+key, func(v any) bool { return asString(v) == name })
			s.t.refuseAt(at, s.key+"."+key, fmt.Sprintf("there is no capability %q", name), didYouMean(c, capabilities))
			continue
		}

		out = append(out, c)
	}

	slices.Sort(out)

	return slices.Compact(out)
}

// securityOpt reads "name=value" and the older "name:value".
func (s *service) securityOpt() {
	for _, opt := range s.in.SecurityOpt {
		at := s.t.index.item(s.key+".security_opt", func(v any) bool { return asString(v) == opt })
		name, value, _ := strings.Cut(strings.Replace(opt, "=", ":", 1), ":")
		switch name {
		case "no-new-privileges":
			s.out.Sandbox.NoNewPrivileges = value != "false"
		case "apparmor":
			s.out.Sandbox.AppArmor = value
			if value == "" || strings.ContainsAny(value, " \t\n") {
				s.t.refuseAt(at, s.key+".security_opt", fmt.Sprintf("%q names no profile", opt), `write "apparmor=unconfined" or the name of a profile of the host`)
			}
		case "seccomp":
			s.seccomp(at, value)
		case "label":
			s.t.warnAt(at, s.key+".security_opt", "label is ignored: Incus does not use SELinux")
		case "systempaths":
			s.t.warnAt(at, s.key+".security_opt", "systempaths is ignored: /proc and /sys are mounted as Incus does it")
		default:
			s.t.refuseAt(at, s.key+".security_opt", fmt.Sprintf("unknown option %q", name), didYouMean(name, []string{"no-new-privileges", "apparmor", "seccomp"}))
		}
	}
}

func (s *service) seccomp(at plan.Place, value string) {
	if value == "unconfined" {
		s.out.Config["security.syscalls.deny_default"] = "false"
		return
	}

	s.t.warnAt(at, s.key+".security_opt",
		"a profile of Docker's is not read: Incus's own list of refused system calls holds; x-incus takes security.syscalls.allow and .deny")
}

func (s *service) readOnly() { s.out.Sandbox.ReadOnly = s.in.ReadOnly }

// groupAdd works where the container's root is the host's: liblxc takes all further groups from others.
func (s *service) groupAdd() {
	if len(s.in.GroupAdd) > 0 && !s.in.Privileged {
		s.warn("group_add", "ignored without privileged: the process has its user's group only; write it into user, as \"name:group\"; the nodes of devices belong to the service's user anyway")
	}

	for _, g := range s.in.GroupAdd {
		if g == "" || strings.ContainsAny(g, ": \t\n,") {
			s.refuse("group_add", fmt.Sprintf("%q is not a group", g), "write numbers, or names of the image's /etc/group")
			continue
		}

		s.out.Sandbox.Groups = append(s.out.Sandbox.Groups, g)
	}
}

func (s *service) umask() {
	if s.in.Umask == nil {
		return
	}

	if *s.in.Umask > 0o777 {
		s.refuse("umask", fmt.Sprintf("%o is not a umask", *s.in.Umask), `write octal digits, "022"`)
	}

	s.out.Sandbox.Umask = fmt.Sprintf("%04o", *s.in.Umask)
}

// consoleLog honours what can be said of the log that Incus keeps: how large it gets.
func (s *service) consoleLog() {
	if s.in.Logging == nil {
		return
	}

	if !slices.Contains([]string{"", "json-file", "local", "journald", "none"}, s.in.Logging.Driver) {
		s.warn("logging.driver", fmt.Sprintf("%s does not exist here: Incus keeps the console's log; read it with incus console --show-log", s.in.Logging.Driver))
	}

	for opt := range s.in.Logging.Options {
		if opt != "max-size" && opt != "max-file" {
			s.warn("logging.options."+opt, "ignored: only max-size is honoured")
		}
	}

	text, ok := s.in.Logging.Options["max-size"]
	if !ok {
		return
	}

	var size types.UnitBytes
	err := size.DecodeMapstructure(text)
	if err != nil || size < 1 {
		s.refuse("logging.options.max-size", fmt.Sprintf("%q is not a size", text), `write a number and a unit, "10m"`)
		return
	}

	// liblxc keeps the log in memory, in whole pages of a power of two.
	most := int64(16 << 20)
	n := int64(4096)
	for n < int64(size) && n < most {
		n *= 2
	}

	s.out.Sandbox.ConsoleSize = n
	if int64(size) > most {
		s.warn("logging.options.max-size", "16 MiB of it are kept, in memory")
	}
}

var deviceRule = regexp.MustCompile(`^[abc] (\d+|\*):(\d+|\*) [rwm]{1,3}$`)

func (s *service) deviceRules() {
	for _, rule := range s.in.DeviceCgroupRules {
		if !deviceRule.MatchString(rule) {
			s.refuse("device_cgroup_rules", fmt.Sprintf("%q is not a rule", rule), `write kind, major:minor and access, "c 13:* rmw"`)
			continue
		}

		s.out.Sandbox.Rules = append(s.out.Sandbox.Rules, rule)
	}
}

func (s *service) annotations() {
	for k, v := range s.in.Annotations {
		s.out.Config["user.annotation."+k] = v
	}
}

// storageOpt knows the size, Docker's only portable option.
func (s *service) storageOpt() {
	for opt, text := range s.in.StorageOpt {
		var size types.UnitBytes
		err := size.DecodeMapstructure(text)
		switch {
		case opt != "size":
			s.warn("storage_opt."+opt, "ignored: only size is honoured")
		case err != nil || size < 1:
			s.refuse("storage_opt.size", fmt.Sprintf("%q is not a size", text), `write a number and a unit, "10g"`)
		default:
			s.out.RootSize = int64(size)
		}
	}
}

func (s *service) oomScore() {
	n := s.in.OomScoreAdj
	if n < -1000 || n > 1000 {
		s.refuse("oom_score_adj", fmt.Sprintf("%d", n), "write a number from -1000 to 1000")
	}

	if n != 0 {
		s.out.Config["limits.memory.oom_priority"] = strconv.FormatInt(n, 10)
	}
}
