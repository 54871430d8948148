package compose

// coverMounts is what becomes of the files and volumes of a service.
var coverMounts = []line{
	{"configs", Honoured, "files put into the instance before it starts, and again when they change"},
	{"secrets", Ignored, "not supported yet: the service starts without them; use configs for files that are not secret"},
	{"tmpfs", Honoured, "a tmpfs in memory, empty at each start"},
	{"volume_driver", Ignored, "ignored: choose a storage pool with x-incus-compose.pool on the volume"},
	{"volumes", Honoured, "volumes, directories of the host and tmpfs, mounted as disk devices"},
	{"volumes.[].bind.propagation", Ignored, "not supported yet: the mount is private; x-incus-compose.devices takes a device with propagation"},
	{"volumes.[].bind.recursive", Ignored, "not supported yet: mounts below the source are not included"},
	{"volumes.[].bind.selinux", Ignored, "ignored: Incus does not label files"},
	{"volumes.[].consistency", Ignored, "ignored: the mount is always consistent"},
	{"volumes.[].image", Ignored, "not supported: images are not mounted"},
	{"volumes.[].volume.labels", Ignored, "not supported yet: write labels on a named volume"},
	{"volumes.[].volume.nocopy", Ignored, "ignored: the image's files are never copied into a volume"},
	{"volumes.[].x-incus", Honoured, "keys of the volume that is made for this mount, verbatim"},
	{"volumes.[].x-incus-compose", Differs, "seed is ignored: the directory is mounted as it is"},
	{"volumes_from", Ignored, "not supported yet: name the same volumes in both services"},
}

// coverStorage is what becomes of the volumes, configs and secrets of a stack.
var coverStorage = []line{
	{"/configs", Honoured, "a file, a text or a variable that services mount"},
	{"/configs.*.external", Refused, "configs kept elsewhere are not supported yet: use file:, content: or environment:"},
	{"/configs.*.labels", Ignored, "ignored: the file has no labels"},
	{"/configs.*.name", Differs, "a note: there is no store of configs"},
	{"/configs.*.template_driver", Ignored, "ignored: the content is taken as it is"},
	{"/secrets", Ignored, "not supported yet: the services start without them"},
	{"/volumes", Honoured, "a custom volume each; no edit and no removed file deletes one"},
	{"/volumes.*.driver", Differs, "local, which is the default; others are refused"},
	{"/volumes.*.driver_opts", Differs, "size; others give a warning"},
	{"/volumes.*.external", Honoured, "the volume exists already: it is used, and never made or deleted"},
	{"/volumes.*.labels", Honoured, "kept as user.label.* keys of the volume"},
	{"/volumes.*.name", Honoured, "the volume's name in Incus"},
	{"/volumes.*.x-incus", Honoured, "keys of the volume, verbatim"},
	{"/volumes.*.x-incus-compose", Honoured, "pool: the storage pool"},
}
