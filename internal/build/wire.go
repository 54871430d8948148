package build

import "github.com/incus-compose/ic-agent/internal/plan"

// Request asks the helper for one image. It is a line of JSON.
type Request struct {
	// Key is the build's, Name what the image is called in the builder's store.
	Key  string     `json:"key"`
	Name string     `json:"name"`
	Spec plan.Build `json:"spec"`
	// Platform is what it is built for; empty means this host's.
	Platform string `json:"platform,omitempty"`
	// AuthFile holds logins for the registries of the bases; one that is not there holds none.
	AuthFile string `json:"auth_file,omitempty"`
}

// Reply is a line of JSON from the helper: one of the three.
type Reply struct {
	// Line is a line of the builder's output.
	Line string `json:"line,omitempty"`
	// Dir is where the image is, the last reply of a build that went well.
	Dir string `json:"dir,omitempty"`
	// Error says why there is none, the last reply of one that did not.
	Error string `json:"error,omitempty"`
}
