package compose

// coverImage is what becomes of the image keys of a service.
var coverImage = []line{
	{"build", Honoured, "built on this host by buildah, podman or docker, whichever is there, and handed to Incus with its whole config; built anew when the context, the Dockerfile or the arguments change"},
	{"build.cache_to", Ignored, "ignored: the builder keeps its layers here"},
	{"build.entitlements", Ignored, "ignored: write privileged"},
	{"build.isolation", Ignored, "ignored, a Windows key: remove it"},
	{"build.no_cache_filter", Ignored, "ignored: no_cache builds every step anew"},
	{"build.provenance", Ignored, "ignored: no attestation is made"},
	{"build.sbom", Ignored, "ignored: no attestation is made"},
	{"build.secrets.[].gid", Ignored, "ignored: RUN --mount says it"},
	{"build.secrets.[].mode", Ignored, "ignored: RUN --mount says it"},
	{"build.secrets.[].uid", Ignored, "ignored: RUN --mount says it"},
	{"dockerfile", Ignored, "ignored: write build.dockerfile"},
	{"image", Honoured, "resolved to a digest by the agent and pulled by Incus once; the instance is made from exactly that image"},
	{"platform", Honoured, "the image of that platform, when this host can run it"},
	{"pull_policy", Honoured, "missing, always (once for each edit), never, build, and daily, weekly, every_<time>: then a newer image is taken"},
	{"pull_refresh_after", Ignored, "ignored: write pull_policy daily, weekly or every_<time>"},
}
