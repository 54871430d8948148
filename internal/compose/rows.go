package compose

// row is one key of a service: what makes it part of the plan, and which keys below it are honoured.
type row struct {
	key string
	// apply translates the key; nil when another row, compose-go or nobody needs to.
	apply func(*service)
	// below lists the honoured keys under it, "*" being any key and "[]" any item; nil means all.
	below []string
}

// serviceRows are the honoured keys of a service, in the order they are applied.
var serviceRows = []row{
	{"image", (*service).image, nil},
	{"platform", (*service).platform, nil},
	{"pull_policy", (*service).pullPolicy, nil},
	{"build", (*service).build, buildKeys},
	{"container_name", (*service).containerName, nil},
	{"scale", (*service).replicas, nil},
	{"deploy", (*service).deploy, []string{
		"replicas", "mode", "endpoint_mode", "restart_policy", "update_config", "rollback_config", "resources.limits.cpus", "resources.limits.memory",
		"resources.limits.pids", "resources.reservations.memory", "resources.reservations.devices",
	}},
	{"command", (*service).command, nil},
	{"entrypoint", (*service).entrypoint, nil},
	{"working_dir", (*service).workingDir, nil},
	{"user", (*service).user, nil},
	{"group_add", (*service).groupAdd, nil},
	{"umask", (*service).umask, nil},
	{"init", (*service).initProcess, nil},
	{"tty", nil, nil},
	{"stdin_open", nil, nil},
	{"attach", nil, nil},
	{"stop_signal", (*service).stopSignal, nil},
	{"stop_grace_period", (*service).stopGrace, nil},
	{"post_start", (*service).hooks, nil},
	{"pre_stop", nil, nil},
	{"environment", (*service).environment, nil},
	{"env_file", nil, nil},
	{"hostname", (*service).hostname, nil},
	{"domainname", (*service).domainname, nil},
	{"extra_hosts", (*service).extraHosts, nil},
	{"dns", (*service).dns, nil},
	{"dns_search", (*service).dnsSearch, nil},
	{"dns_opt", (*service).dnsOpt, nil},
	{"logging", (*service).consoleLog, []string{"driver", "options"}},
	{"annotations", (*service).annotations, nil},
	{"labels", (*service).labels, nil},
	{"label_file", nil, nil},
	{"network_mode", (*service).networkMode, nil},
	{"networks", (*service).networks, []string{
		"*.aliases", "*.ipv4_address", "*.ipv6_address", "*.interface_name", "*.driver_opts", "*.mac_address", "*.priority", "*.gw_priority", "*." + extIncus, "*." + extCompose,
	}},
	{"mac_address", (*service).macAddress, nil},
	{"links", nil, nil},
	{"expose", nil, nil}, // services of a network reach all ports of each other anyway
	{"ports", (*service).ports, []string{"[].target", "[].published", "[].host_ip", "[].protocol", "[].mode", "[]." + extCompose, "[]." + extAgent}},
	{"volumes", (*service).volumes, []string{
		"[].type", "[].source", "[].target", "[].read_only", "[].bind.create_host_path", "[].bind.propagation", "[].bind.recursive", "[].volume.subpath", "[].volume.nocopy", "[].volume.labels", "[].image.subpath", "[].tmpfs.size", "[].tmpfs.mode",
		"[]." + extIncus, "[]." + extCompose,
	}},
	{"tmpfs", (*service).tmpfs, nil},
	{"volumes_from", nil, nil},
	{"shm_size", (*service).shmSize, nil},
	{"configs", (*service).configs, []string{"[].source", "[].target", "[].uid", "[].gid", "[].mode"}},
	{"secrets", (*service).secrets, []string{"[].source", "[].target", "[].uid", "[].gid", "[].mode"}},
	{"depends_on", (*service).dependsOn, []string{"*.condition", "*.restart", "*.required"}},
	{"mem_limit", (*service).memory, nil},
	{"mem_reservation", (*service).memoryReserve, nil},
	{"memswap_limit", (*service).swap, nil},
	{"mem_swappiness", nil, nil},
	{"oom_score_adj", (*service).oomScore, nil},
	{"blkio_config", (*service).blkio, nil},
	{"storage_opt", (*service).storageOpt, nil},
	{"cpus", (*service).cpus, nil},
	{"cpuset", nil, nil},
	{"cpu_period", nil, nil},
	{"cpu_quota", nil, nil},
	{"cpu_shares", nil, nil},
	{"pids_limit", (*service).pids, nil},
	{"ulimits", (*service).ulimits, nil},
	{"sysctls", (*service).sysctls, nil},
	{"privileged", (*service).privileged, nil},
	{"cap_add", (*service).capAdd, nil},
	{"cap_drop", (*service).capDrop, nil},
	{"security_opt", (*service).securityOpt, nil},
	{"read_only", (*service).readOnly, nil},
	{"devices", (*service).devices, nil},
	{"device_cgroup_rules", (*service).deviceRules, nil},
	{"gpus", (*service).gpus, nil},
	{"healthcheck", (*service).healthcheck, nil},
	{"restart", (*service).restart, nil},
	{"profiles", nil, nil},
	{"extends", nil, nil},
	{extIncus, (*service).extensions, nil},
	{extCompose, nil, nil},
	{extAgent, nil, nil},
}

// topLevel are the honoured keys outside services; everything below them is honoured, too.
var topLevel = []string{
	"name", "include", "services", extIncus, extCompose, extAgent,
	"networks.*.name", "networks.*.driver", "networks.*.driver_opts", "networks.*.external", "networks.*.internal", "networks.*.attachable",
	"networks.*.labels", "networks.*.enable_ipv4", "networks.*.enable_ipv6", "networks.*.ipam.driver", "networks.*.ipam.config.[].subnet",
	"networks.*.ipam.config.[].gateway", "networks.*.ipam.config.[].ip_range", "networks.*.ipam.config.[].aux_addresses",
	"networks.*." + extIncus, "networks.*." + extCompose,
	"volumes.*.name", "volumes.*.driver", "volumes.*.driver_opts", "volumes.*.external", "volumes.*.labels", "volumes.*." + extIncus,
	"volumes.*." + extCompose,
	"configs.*.file", "configs.*.content", "configs.*.environment", "configs.*.name", "configs.*.external",
	"secrets.*.file", "secrets.*.environment", "secrets.*.name", "secrets.*.external", "secrets.*.driver", "secrets.*.driver_opts",
}
