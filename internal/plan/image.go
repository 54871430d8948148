package plan

import "time"

// Image is what a registry says about an image, resolved by us.
type Image struct {
	// Ref is the fully qualified reference, "docker.io/library/nginx:alpine".
	Ref string
	// Digest is the manifest's digest, "sha256:…".
	Digest string
	// Fingerprint is Incus's name of it: sha256 over the concatenated layer digests. Images that differ
	// only in their config share it.
	Fingerprint string
	// Marked says that Fingerprint is MarkedFingerprint: that of the same image with an empty layer on top
	// which tells it apart from others with the same layers.
	Marked            bool
	MarkedFingerprint string
	// Native says that it is an image of Incus's own kind: a whole system with an init.
	Native bool
	// Config is the digest of its config, by which images with one Fingerprint are told apart; empty when it
	// is not known.
	Config string
	// BuildKey is the key of the build it was made by; empty for images of registries.
	BuildKey string
	// Size is the sum of its layers as they are transferred, in bytes; 0 when not known.
	Size int64
	// Server and Alias are what Incus is told to pull: "https://docker.io" and
	// "library/nginx:alpine@sha256:…", the very manifest that was read.
	Server, Alias string
	// Entrypoint and Cmd are the image's ENTRYPOINT and CMD.
	Entrypoint, Cmd []string
	// Env holds the image's ENV.
	Env map[string]string
	// Cwd is the image's WORKDIR; empty means "/".
	Cwd string
	// User is USER as written; UID and GID are its numbers.
	User     string
	UID, GID uint32
	// Users and Groups map the names of the image's passwd and group files; filled only when a name has
	// to be resolved.
	Users  map[string]UserEntry
	Groups map[string]uint32
	// StopSignal is STOPSIGNAL; empty means SIGTERM.
	StopSignal string
	// Volumes are the VOLUME paths, Ports the EXPOSE entries ("80/tcp"), sorted.
	Volumes, Ports []string
	// Healthcheck is HEALTHCHECK; nil when the image has none. It is an extension of Docker's: images
	// pushed in the OCI format usually lost it.
	Healthcheck *Healthcheck
}

// Healthcheck is an image's HEALTHCHECK, in the units of the image's config (moby's image
// specification v1.2, "Healthcheck"). A zero duration or count means the default of whoever probes.
type Healthcheck struct {
	// Test is ["NONE"] (no check), ["CMD", argv…] or ["CMD-SHELL", line]; empty inherits nothing.
	Test []string
	// Interval, Timeout, StartPeriod and StartInterval are those of the Dockerfile's instruction.
	Interval, Timeout, StartPeriod, StartInterval time.Duration
	// Retries is how many failures in a row make it unhealthy.
	Retries int
}

// UserEntry is a line of a passwd file.
type UserEntry struct{ UID, GID uint32 }
