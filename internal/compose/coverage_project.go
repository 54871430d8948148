package compose

// coverProject is what becomes of the rest of a file.
var coverProject = []line{
	{"/include", Honoured, "read as if it stood here; the files must lie in the stack's directory"},
	{"/jobs", Ignored, "not supported yet: nothing runs; write a service with restart: \"no\""},
	{"/models", Ignored, "ignored: there is no model runner here; run it as a service"},
	{"/name", Honoured, "the project's name; the stack's name by default"},
	{"/version", Ignored, "obsolete and ignored: remove it"},
}

// coverExtensions is what becomes of our extensions; other x- keys are the user's own and have no effect.
var coverExtensions = []line{
	{"/x-ic-agent", Honoured, "how the agent treats the stack: see x-ic-agent.md"},
	{"/x-incus", Honoured, "keys of the Incus project, verbatim"},
	{"/x-incus-compose", Differs, "healthd is ignored with a warning: the host's own ic-healthd watches"},
	{"x-ic-agent", Honoured, "how the agent treats the service: see x-ic-agent.md"},
	{"x-incus", Honoured, "keys of the instance, verbatim, the last word"},
	{"x-incus-compose", Honoured, "devices: devices of the instance, verbatim"},
}
