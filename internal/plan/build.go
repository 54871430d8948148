package plan

// Build is how the image of a service is made (compose-spec build.md). Paths are absolute.
type Build struct {
	// Context is a directory, or a URL that the builder fetches.
	Context string
	// Dockerfile is a path; empty means Context/Dockerfile. Inline is its content instead.
	Dockerfile, Inline string
	// Target is the stage to build; empty means the last.
	Target string
	// Args are the build arguments.
	Args map[string]string
	// Secrets are files that RUN --mount=type=secret sees, SSH what --mount=type=ssh does ("default", or
	// "id=path").
	Secrets []BuildSecret
	SSH     []string
	// Labels are added to the image, CacheFrom are images whose layers may be taken.
	Labels    map[string]string
	CacheFrom []string
	// NoCache builds every step anew, Pull asks for newer bases, Privileged runs the steps without limits.
	NoCache, Pull, Privileged bool
	// Network is what RUN sees: "none", "host", or empty for the builder's default.
	Network string
	// ExtraHosts are "name:address" lines, Ulimits "name=soft:hard".
	ExtraHosts, Ulimits []string
	// Contexts are the additional contexts by name: directories, or what the builder fetches.
	Contexts map[string]string
	// ShmSize is the size of /dev/shm in bytes; 0 means the builder's default.
	ShmSize int64
	// Tags are further names of the image, in the builder's own store.
	Tags []string
	// At is the line of the build key.
	At Place
}

// BuildSecret is a secret file by its id.
type BuildSecret struct{ ID, File string }
