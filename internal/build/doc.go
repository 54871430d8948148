// Package build makes images from sources, with the first of buildah, podman and docker that the host has.
//
// It has two halves. In the agent, a Client knows the key of a build, which is a hash over everything that goes into
// it (the context without what .dockerignore leaves out, the Dockerfile, the arguments), and asks for the image of a
// key that has none yet. A build needs what the agent's sandbox does not give (root, mounts, namespaces), so it runs
// outside of it: systemd starts ic-agent-build@.service for each connection to ic-agent-build.socket, with Helper in
// it, which ends with its connection. What comes out is a directory in containers-image's "dir" format, which the agent
// reads and hands to Incus; there is no registry in between.
//
// A secret of a build is named by its file in all of this. Its content is never read here.
package build
