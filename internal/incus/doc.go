// Package incus is the one package that knows the Incus API: it reads a project as plan.Observed, carries out
// one plan.Op at a time, and turns lifecycle events into hints.
//
// What it absorbs, so that nobody else has to know:
//
//   - The client library keeps one context for all users of a connection; every call here works on a copy of
//     its own, with a deadline of its own.
//   - Operations are polled by us. Ending the context never cancels what Incus is doing, and an operation that
//     Incus forgot (it restarted) is judged by the object's state.
//   - A stop with a zero timeout is a kill, and a graceful stop that times out holds the instance's lock until
//     the app ends; so the grace is always sent and a timeout is always followed by a forced stop.
//   - A second operation on an instance fails at once with "busy"; it is repeated for a few seconds.
//   - Events are lost, doubled and reordered; they are handed on as hints, and every new connection says that
//     everything has to be read again.
//   - Failed operations carry no code, only text; errors.go is the only place that matches it.
//
// The package owns nothing in Incus by itself and never decides: it does what an Op says, once, and tells how
// it ended. Package incustest holds a server that behaves like Incus for tests and for trying things out.
package incus
