package compose

// coverMounts is what becomes of the files and volumes of a service.
var coverMounts = []line{
	{"configs", Honoured, "files on a tmpfs of the host, mounted read-only; x-ic-agent.on-change says what a change does"},
	{"secrets", Honoured, "files on a tmpfs of the host, mounted read-only below /run/secrets or where target says; never on a disk"},
	{"tmpfs", Honoured, "a tmpfs in memory, empty at each start, with its size, mode, uid and gid"},
	{"volume_driver", Ignored, "ignored: choose a storage pool with x-incus-compose.pool on the volume"},
	{"volumes", Honoured, "volumes, directories of the host and tmpfs, mounted as disk devices; a subpath that the volume does not have holds the service"},
	{"volumes.[].bind.propagation", Honoured, "what becomes of mounts that come and go below the directory; unsaid, those that the host adds are seen"},
	{"volumes.[].bind.recursive", Differs, "enabled includes what the host has mounted below the directory, which a plain mount does not: then a warning says so; a read-only directory comes without"},
	{"volumes.[].bind.selinux", Ignored, "ignored: Incus does not label files"},
	{"volumes.[].consistency", Ignored, "ignored: the mount is always consistent"},
	{"volumes.[].image", Honoured, "the image's files, read-only, or those below subpath: copied once for each digest into a volume of that name, which stays; `ic-agent status STACK` lists those that nothing uses any more, with the command that deletes each"},
	{"volumes.[].volume.labels", Differs, "user.label.* keys of a volume without a name; a named one has its own labels"},
	{"volumes.[].volume.nocopy", Honoured, "a fresh volume stays empty instead of getting the image's files"},
	{"volumes.[].x-incus", Honoured, "keys of the volume that is made for this mount, verbatim"},
	{"volumes.[].x-incus-compose", Differs, "seed is ignored: the directory is mounted as it is"},
	{"volumes_from", Differs, "the same volumes and directories, ro or rw; volumes without a name are not shared, and those of containers elsewhere refused"},
}

// coverStorage is what becomes of the volumes, configs and secrets of a stack.
var coverStorage = []line{
	{"/configs", Honoured, "a file, a text or a variable that services mount"},
	{"/configs.*.external", Honoured, "a file of that name in /etc/ic-agent/secrets, or a systemd credential of the agent"},
	{"/configs.*.labels", Ignored, "ignored: the file has no labels"},
	{"/configs.*.name", Differs, "the name of an external config; else a note"},
	{"/configs.*.template_driver", Ignored, "ignored: the content is taken as it is"},
	{"/secrets", Honoured, "a file beside the compose file or a variable; its content is remembered by a keyed hash only"},
	{"/secrets.*.driver", Refused, "secret drivers do not exist here: use file:, environment: or external:"},
	{"/secrets.*.driver_opts", Refused, "secret drivers do not exist here: use file:, environment: or external:"},
	{"/secrets.*.external", Honoured, "a file of that name in /etc/ic-agent/secrets, or a systemd credential of the agent"},
	{"/secrets.*.labels", Ignored, "ignored: the file has no labels"},
	{"/secrets.*.name", Differs, "the name of an external secret; else a note"},
	{"/secrets.*.template_driver", Ignored, "ignored: the content is taken as it is"},
	{"/volumes", Honoured, "a custom volume each; no edit and no removed file deletes one"},
	{"/volumes.*.driver", Differs, "local, which is the default; others are refused"},
	{"/volumes.*.driver_opts", Differs, "size; type none with o: bind, a directory of the host, and nfs, nfs4 or cifs, a share that the host has mounted, are mounted as they are, without the files an image has there; a tmpfs is each instance's own; other types are refused"},
	{"/volumes.*.external", Honoured, "the volume exists already: it is used, and never made or deleted"},
	{"/volumes.*.labels", Honoured, "kept as user.label.* keys of the volume"},
	{"/volumes.*.name", Honoured, "the volume's name in Incus"},
	{"/volumes.*.x-incus", Honoured, "keys of the volume, verbatim"},
	{"/volumes.*.x-incus-compose", Honoured, "pool: the storage pool"},
}
