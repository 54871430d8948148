package compose

// coverLife is what becomes of the keys about when a service runs.
var coverLife = []line{
	{"depends_on", Honoured, "the service waits for the others, and is stopped before them"},
	{"depends_on.*.condition", Honoured, "service_started, service_healthy and service_completed_successfully; a job runs once for each definition, and when it is started by hand"},
	{"depends_on.*.required", Honoured, "a dependency that is not required may be missing, or fail: the service starts without, and says so"},
	{"depends_on.*.restart", Honoured, "the service is stopped before the other one is changed or started anew, and starts when its condition holds again"},
	{"extends", Honoured, "the other service's keys are under this one's; the file must lie in the stack's directory"},
	{"healthcheck", Honoured, "run by ic-healthd in the container; the image's HEALTHCHECK is inherited"},
	{"post_start", Honoured, "run in the container after each of its starts; one that fails holds those that depend on the service"},
	{"pre_start", Ignored, "not supported yet: the hook does not run"},
	{"pre_stop", Honoured, "run in the container before its stop signal, when the agent stops it; its failure is logged"},
	{"profiles", Honoured, "the service is left out unless x-ic-agent.profiles, or COMPOSE_PROFILES in .env, names one of them"},
	{"restart", Honoured, "ic-healthd restarts what ended, and what fails its checks; Incus starts it at boot"},
	{"scale", Honoured, "the number of instances, as deploy.replicas"},
}

// coverDeploy is what becomes of the keys below deploy, but for the resources.
var coverDeploy = []line{
	{"deploy", Honoured, "see the keys below it"},
	{"deploy.endpoint_mode", Differs, "the service's name resolves to its healthy replicas, as dnsrr says; vip gives a warning"},
	{"deploy.labels", Ignored, "ignored: write labels on the service"},
	{"deploy.mode", Differs, "replicated, and global, which is one instance on this host; jobs are refused"},
	{"deploy.placement", Ignored, "ignored: there is one host"},
	{"deploy.replicas", Honoured, "the number of instances"},
	{"deploy.restart_policy", Honoured, "as restart, and over it: condition (also the words of restart, as docker compose takes them), delay, max_attempts and window"},
	{"deploy.rollback_config", Honoured, "how the replicas of a failed update go back"},
	{"deploy.update_config", Honoured, "how many replicas are updated at a time, in which order, how long each is watched, and what a failure does"},
}
