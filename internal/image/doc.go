// Package image turns a reference ("nginx:alpine") into what the planner needs to know of the image: its
// digest, the fingerprint Incus will give it, and its whole config.
//
// It asks the registry itself, because Incus's own view is too small: Incus names an image after its layers
// only, so two images that differ in their ENTRYPOINT share a fingerprint, and it forgets HEALTHCHECK and
// STOPSIGNAL. Incus still does the pulling.
//
// A Resolver reads the manifest (of the index first, where there is one), the config, and, only when a user
// or group name has to become a number, the layers that hold /etc/passwd and /etc/group. It never writes,
// keeps no cache, and does not try again: the caller owns the retry and knows from the error's kind whether
// one can help.
package image
