package compose

// coverLife is what becomes of the keys about when a service runs.
var coverLife = []line{
	{"depends_on", Honoured, "the service waits for the others, and is stopped before them"},
	{"depends_on.*.condition", Honoured, "service_started, service_healthy and service_completed_successfully"},
	{"depends_on.*.required", Honoured, "a dependency that is not required may be missing"},
	{"depends_on.*.restart", Differs, "kept, and not acted on: the service goes on when the other one is restarted"},
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
	{"deploy.endpoint_mode", Ignored, "ignored: the service's name resolves to all of its replicas"},
	{"deploy.labels", Ignored, "ignored: write labels on the service"},
	{"deploy.mode", Ignored, "ignored: replicas run on this host"},
	{"deploy.placement", Ignored, "ignored: there is one host"},
	{"deploy.replicas", Honoured, "the number of instances"},
	{"deploy.restart_policy", Ignored, "not supported yet: use restart"},
	{"deploy.rollback_config", Honoured, "how the replicas of a failed update go back"},
	{"deploy.update_config", Honoured, "how many replicas are updated at a time, in which order, how long each is watched, and what a failure does"},
}
