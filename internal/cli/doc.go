// Package cli is the command line of ic-agent: its verbs, their flags and what they print. "run" is handed in,
// because only cmd may know the agent; "parse" and "dbcheck" are the agent's children; "check" works offline on
// files; the others are clients of the API socket.
//
// What is printed is short and aligned, coloured only on a terminal, and for programs there is --json. The
// package decides nothing about stacks.
package cli
