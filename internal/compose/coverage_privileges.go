package compose

// coverPrivileges is what becomes of the keys that give a service more, or less, than a container has, and of its devices.
var coverPrivileges = []line{
	{"cap_add", Differs, "with cap_drop: [ALL], what is kept; else nothing to do, an unprivileged container has every capability over itself and none over the host"},
	{"cap_drop", Honoured, "lxc.cap.drop, or lxc.cap.keep for ALL"},
	{"cgroup", Ignored, "ignored: Incus gives every container its own cgroup namespace"},
	{"credential_spec", Ignored, "ignored, a Windows key: remove it"},
	{"device_cgroup_rules", Honoured, "lxc.cgroup2.devices.allow"},
	{"devices", Differs, "unix-char, unix-block, gpu or usb devices, by their names; the node belongs to the service's user"},
	{"gpus", Differs, "gpu devices, all or those of device_ids; NVIDIA's libraries too when driver is nvidia"},
	{"ipc", Ignored, "ignored: every service has its own IPC namespace"},
	{"isolation", Ignored, "ignored, a Windows key: remove it"},
	{"pid", Ignored, "ignored: every service has its own PID namespace"},
	{"privileged", Honoured, "security.privileged: root in the container is root on the host; needs the policy trusted"},
	{"read_only", Honoured, "the root filesystem is mounted read-only; volumes, tmpfs, /run and /dev stay writable"},
	{"runtime", Ignored, "ignored: Incus runs everything with LXC; for nvidia write gpus: all"},
	{"security_opt", Differs, "no-new-privileges, apparmor= and seccomp=unconfined are honoured; seccomp profiles, label and systempaths give a warning"},
	{"userns_mode", Ignored, "ignored: Incus maps every service's users; use privileged for none"},
	{"uts", Ignored, "ignored: every service has its own host name"},
}
