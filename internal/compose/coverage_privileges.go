package compose

// coverPrivileges is what becomes of the keys that give a service more, or less, than a container has, and of its devices.
var coverPrivileges = []line{
	{"cap_add", Ignored, "not supported yet: the service has an unprivileged container's capabilities; x-incus takes raw.lxc"},
	{"cap_drop", Ignored, "not supported yet: the service has an unprivileged container's capabilities; x-incus takes raw.lxc"},
	{"cgroup", Ignored, "ignored: Incus gives every container its own cgroup namespace"},
	{"credential_spec", Ignored, "ignored, a Windows key: remove it"},
	{"device_cgroup_rules", Ignored, "not supported yet: name the devices in x-incus-compose.devices"},
	{"devices", Ignored, "not supported yet: name the devices in x-incus-compose.devices"},
	{"gpus", Ignored, "not supported yet: name the GPU in x-incus-compose.devices"},
	{"ipc", Ignored, "ignored: every service has its own IPC namespace"},
	{"isolation", Ignored, "ignored, a Windows key: remove it"},
	{"pid", Ignored, "ignored: every service has its own PID namespace"},
	{"privileged", Honoured, "security.privileged: root in the container is root on the host"},
	{"read_only", Ignored, "not supported yet: the root filesystem is writable"},
	{"runtime", Ignored, "ignored: Incus runs everything with LXC"},
	{"security_opt", Ignored, "not supported yet: AppArmor and seccomp stay as Incus sets them"},
	{"userns_mode", Ignored, "ignored: Incus maps every service's users; use privileged for none"},
	{"uts", Ignored, "ignored: every service has its own host name"},
}
