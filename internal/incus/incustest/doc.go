// Package incustest is an Incus made of memory: an HTTP server that answers the real client as Incus 7.0.2
// would, over a pipe (also inside a synctest bubble), or on a unix socket (for child processes and for running
// the agent without an Incus host).
//
// It models what internal/incus calls, with Incus's codes, texts, locks, operations and events, and refuses
// anything else with 501 and an entry in Violations. It runs no program: an instance is a status, and what its
// app does is told by App and Exit. The conformance suite beside it runs against a real Incus too, so that the
// two cannot drift apart.
//
// A test scripts faults by method and path (Fail), takes the server down and up, or restarts it, and reads what
// was asked (Calls, Writes) and what became of it (Instance, Network and so on, all copies).
package incustest
