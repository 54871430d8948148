// Package compose turns a stack's files into a plan.Project: it is the only place that knows compose-go.
//
// The way of a file:
//
//	files      every byte comes through a reader bound to the stack's directory: regular files, 1 MiB at most
//	scan       YAML that could hurt (depth, aliases, tags, nested variables) is refused before it is parsed
//	refs       include and extends are followed first by us, so that compose-go opens nothing we have not seen
//	compose-go interpolates, merges, extends, includes and validates
//	check      what compose-go does not check, or reports without a line
//	rows       one small function for each compose key
//	keys       every key of the user's files that no row honours becomes a warning
//
// Load does it in this process; Child does it in a disposable one with limits on memory, CPU and time, which
// is how the agent reads files; Main is that child's body.
//
// The package never sees the host's environment, never goes to the network, never reads outside the stack's
// directory and never talks to Incus.
package compose
