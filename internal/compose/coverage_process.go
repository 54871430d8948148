package compose

// coverProcess is what becomes of the keys about what runs in a service.
var coverProcess = []line{
	{"attach", Honoured, "nothing to do: what services print is in their consoles' logs"},
	{"command", Honoured, "replaces the image's CMD; the program is process 1, as with Docker"},
	{"develop", Ignored, "ignored: this host runs images, it does not watch sources"},
	{"entrypoint", Honoured, "replaces the image's ENTRYPOINT and drops its CMD"},
	{"env_file", Honoured, "read into the environment, later files over earlier ones, environment over all"},
	{"env_file.[].format", Refused, "files are read in compose's own format: remove format"},
	{"environment", Honoured, "set over the image's; values with line breaks come through a small program that is started first, and `incus exec` sees them behind /.ic-agent/launch"},
	{"group_add", Differs, "further groups of a privileged service, by number or by their name in the image; others have their user's group only, and the nodes of devices belong to their user"},
	{"init", Honoured, "an init process of liblxc is process 1, forwards signals and reaps zombies"},
	{"models", Ignored, "ignored: there is no model runner here; run it as a service"},
	{"provider", Ignored, "ignored: there are no providers here; run it as a service"},
	{"stdin_open", Differs, "nothing to do: the console takes input once somebody attaches to it with incus console"},
	{"stop_grace_period", Honoured, "the time between the stop signal and the kill, 10s by default; at the host's shutdown, too"},
	{"stop_signal", Honoured, "the signal that asks the program to end; the image's by default"},
	{"tty", Honoured, "nothing to do: the console of every service is a terminal, see incus console"},
	{"umask", Honoured, "set by a small program that is started first"},
	{"use_api_socket", Ignored, "ignored: there is no Docker API here"},
	{"user", Honoured, "a number or a name, with or without a group; names are those of the image"},
	{"working_dir", Honoured, "the directory the program starts in"},
}

// coverNames is what becomes of the names of a service and the notes about it.
var coverNames = []line{
	{"annotations", Honoured, "kept as user.annotation.* keys of the instance"},
	{"container_name", Differs, "the name of the instance; what Incus does not accept in it becomes a hyphen there, and other services find it by both names"},
	{"domainname", Differs, "the domain in the hosts file, and searched for short names; the kernel's own domain name stays empty"},
	{"hostname", Honoured, "the name the host has inside; the instance's name by default"},
	{"label_file", Honoured, "read into the labels, labels over it"},
	{"labels", Honoured, "kept as user.label.* keys of the instance"},
	{"log_driver", Ignored, "ignored: the console's log is kept by Incus"},
	{"log_opt", Ignored, "ignored: the console's log is kept by Incus"},
	{"logging", Differs, "Incus keeps the console's log, whatever the driver; read it with incus console --show-log"},
	{"logging.options", Differs, "max-size is how much of the log is kept, up to 16 MiB; one log is kept, whatever max-file says; others give a warning"},
}
