package compose

// coverImage is what becomes of the image keys of a service.
var coverImage = []line{
	{"build", Ignored, "not supported yet: the image is taken from its registry"},
	{"dockerfile", Ignored, "ignored: write build.dockerfile"},
	{"image", Honoured, "resolved to a digest by the agent and pulled by Incus once; the instance is made from exactly that image"},
	{"platform", Honoured, "the image of that platform, when this host can run it"},
	{"pull_policy", Differs, "missing, always and never are honoured; the times of the others are not yet"},
	{"pull_refresh_after", Ignored, "not supported yet: the image is pulled once"},
}
