package plan

import (
	"maps"
	"strings"
)

func startReason(stopped bool, cause string) string {
	if stopped {
		return "stopped for the change"
	}

	return cause
}

func startCause(led Ledger, w DesiredInstance, have ObservedInstance) string {
	if have.Status == Error {
		return "it is in an error state"
	}

	if led.Started[w.Name] == "" {
		return "it has not been started yet"
	}

	return "it was stopped for a change"
}

// changeCause puts the most telling difference first.
func (d *differ) changeCause(w DesiredInstance, have ObservedInstance, c changes) string {
	var parts []string
	if d.rootless(w, have) {
		parts = append(parts, "its root filesystem is lost or half made: it is made anew; its volumes and addresses stay")
	}

	if have.Config[KeyAdopted] != "" && (c.restart || len(c.devices) > 0) {
		return "adopted, and not as the file says: " + strings.Join(Disagreements(w, have), "; ")
	}

	if have.Config[KeyParked] != "" {
		parts = append(parts, "it is wanted again")
	}

	if old, now := have.Config[KeyImage], w.Config[KeyImage]; have.Fingerprint != w.Image.Fingerprint || old != now && old != "" {
		parts = append(parts, "image changed: "+shortRef(old)+" → "+shortRef(now))
	}

	if c.files {
		parts = append(parts, "files changed")
	}

	if what := filesCause(w, have, c); what != "" {
		parts = append(parts, what)
	}

	rest := maps.Clone(c.config)
	if have.Config[KeyParked] != "" {
		return strings.Join(parts, "; ") // what parking changed says nothing
	}

	for k := range rest {
		if strings.HasPrefix(k, "image.") || k == KeyImageAlias {
			delete(rest, k)
		}
	}

	devices := maps.Clone(c.devices)
	maps.DeleteFunc(devices, func(name string, _ Device) bool { return len(parts) > 0 && isFileDevice(name) })
	keys := causeOf(rest, devices)
	if keys != "bookkeeping" || len(parts) == 0 {
		parts = append(parts, keys)
	}

	return strings.Join(parts, "; ")
}

// shortRef shortens "docker.io/library/nginx:1.27@sha256:0123…" to "nginx:1.27@0123456789ab".
func shortRef(s string) string {
	ref, digest, _ := strings.Cut(s, "@")
	ref = strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
	_, hash, _ := strings.Cut(digest, ":")
	if len(hash) >= 12 {
		return ref + "@" + hash[:12]
	}

	return ref
}
