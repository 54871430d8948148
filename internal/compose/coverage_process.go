package compose

// coverProcess is what becomes of the keys about what runs in a service.
var coverProcess = []line{
	{"attach", Ignored, "ignored: nothing is attached to here; read the log with incus console --show-log"},
	{"command", Honoured, "replaces the image's CMD; the program is process 1, as with Docker"},
	{"develop", Ignored, "ignored: this host runs images, it does not watch sources"},
	{"entrypoint", Honoured, "replaces the image's ENTRYPOINT and drops its CMD"},
	{"env_file", Honoured, "read into the environment, later files over earlier ones, environment over all"},
	{"env_file.[].format", Refused, "files are read in compose's own format: remove format"},
	{"environment", Honoured, "set over the image's; a value that needs more than one line is refused"},
	{"group_add", Ignored, "not supported yet: the process has its user's group only"},
	{"init", Honoured, "an init process of liblxc is process 1, forwards signals and reaps zombies"},
	{"models", Ignored, "ignored: there is no model runner here; run it as a service"},
	{"provider", Ignored, "ignored: there are no providers here; run it as a service"},
	{"stdin_open", Ignored, "ignored: attach with incus console"},
	{"stop_grace_period", Honoured, "the time between the stop signal and the kill, 10s by default; at the host's shutdown, too"},
	{"stop_signal", Honoured, "the signal that asks the program to end; the image's by default"},
	{"tty", Ignored, "ignored: the console always has a terminal"},
	{"umask", Ignored, "not supported yet: the image's umask applies"},
	{"use_api_socket", Ignored, "ignored: there is no Docker API here"},
	{"user", Honoured, "a number or a name, with or without a group; names are those of the image"},
	{"working_dir", Honoured, "the directory the program starts in"},
}

// coverNames is what becomes of the names of a service and the notes about it.
var coverNames = []line{
	{"annotations", Ignored, "ignored: use labels for notes about a service"},
	{"container_name", Differs, "the name of the instance; what Incus does not accept in it becomes a hyphen"},
	{"domainname", Ignored, "not supported yet: the domain is the stack's"},
	{"hostname", Honoured, "the name the host has inside; the instance's name by default"},
	{"label_file", Honoured, "read into the labels, labels over it"},
	{"labels", Honoured, "kept as user.label.* keys of the instance"},
	{"log_driver", Ignored, "ignored: the console's log is kept by Incus"},
	{"log_opt", Ignored, "ignored: the console's log is kept by Incus"},
	{"logging", Ignored, "ignored: the console's log is kept by Incus; read it with incus console --show-log"},
}
