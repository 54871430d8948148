// Package health decides and keeps what ic-healthd does: it probes instances, tells in one key of each whether it
// is healthy, and starts again what ended.
//
// The core is pure. Spec is what the keys of an instance ask for, Machine is one instance: Step takes what
// happened and the time and answers with what to do. It knows no clock, no network and no randomness of its own.
//
// The Runner is the shell around the machines: one goroutine owns them all, a heap holds their times, a bounded
// number of workers carries out what they ask, and results that have become stale are dropped. It sees Incus
// through Instances, Hands and Prober.
//
// The package follows the healthcheck and restart sections of the compose specification (05-services.md,
// deploy.md) and the key protocol of lxc/incus-compose. It writes KeyStatus and KeyDetail of an instance, and
// those only when the verdict changes.
//
// The rule above all others: what the host, Incus or the connection does wrong is nobody's bad health. Such a
// probe says nothing, changes no status and restarts nothing.
package health
