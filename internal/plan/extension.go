package plan

import (
	"cmp"
	"time"
)

// Extension is what x-ic-agent of a project says, beside RemoveGrace. Its zero value is what holds when the files
// say nothing.
type Extension struct {
	// After names the stacks that have to be in sync before this one does its first work, as written.
	After []string
	// Policy is how much a file may ask of the host: "strict", "standard" or "trusted"; empty means what the
	// agent's settings say.
	Policy string
	// Window is when running services may be interrupted; the zero Window is always.
	Window Window
	// Update says what is done about newer images; Service.Update is it with the service's own words over it.
	Update UpdatePolicy
	// Protect keeps the stack running when its file is gone, until the removal is confirmed.
	Protect bool
	// Drift is "revert" (also when empty) or "report": what is done about keys of ours changed by hand.
	Drift string
	// Keep is for how long a removed stack's stopped instances are kept; 0 means 7 days.
	Keep time.Duration
	// PlanOnly shows what would be done and does nothing (mode: plan-only).
	PlanOnly bool
	// Allow names what is not done unless it is allowed here: "network-recreate".
	Allow []string
}

// Window is a stretch of time that comes again and again.
type Window struct {
	// At is when it opens, a calendar expression of systemd.time(7); empty means that it is always open.
	At string
	// For is how long it stays open; 0 means an hour.
	For time.Duration
}

// UpdatePolicy says what is done about newer images of the references a file names.
type UpdatePolicy struct {
	// Check is when the registry is asked, a calendar expression of systemd.time(7); empty means never.
	Check string
	// Mode is "notify" (also when empty), which only says it, or "apply".
	Mode string
	// MinAge is how old an image has to be before it is taken; 0 means that any age will do.
	MinAge time.Duration
}

// Over is p where it says something, else base.
func (p UpdatePolicy) Over(base UpdatePolicy) UpdatePolicy {
	return UpdatePolicy{
		Check: cmp.Or(p.Check, base.Check), Mode: cmp.Or(p.Mode, base.Mode), MinAge: cmp.Or(p.MinAge, base.MinAge),
	}
}

// ServiceExtension is what x-ic-agent of a service says. Its zero value is what holds when the files say nothing.
type ServiceExtension struct {
	// Probe is a check made from the host instead of a command in the instance; nil means none.
	Probe *Probe
	// OnUnhealthy is "restart", "none", "stop" or "notify"; empty means restart where there is a restart policy,
	// else none.
	OnUnhealthy string
	// SuccessThreshold is how many checks in a row have to pass before an unhealthy instance is healthy again; 0
	// means one.
	SuccessThreshold int
	// Stretch is how many times longer the interval of a check that has passed for long may be while the host is
	// starved; 0 means not at all.
	Stretch int
	// OnChange is what is done when the content of a config or secret changed: "restart" (also when empty),
	// "signal", "push", "recreate" or "none".
	OnChange string
	// ChangeSignal is the signal for "signal" (SIGUSR1); empty means SIGHUP.
	ChangeSignal string
	// Update is the project's policy with the service's own words over it.
	Update UpdatePolicy
	// Snapshot asks for a snapshot of the service's volumes before an update.
	Snapshot bool
	// Protect keeps the service running when the file no longer has it, until the removal is confirmed.
	Protect bool
}

// Hook is a command run in an instance after its start or before its stop (compose-spec "post_start",
// "pre_stop").
type Hook struct {
	// Command is run as it is; a single text was split into words like a shell's.
	Command []string
	// User is "uid", "uid:gid", "name" or "name:group"; empty means the service's own user.
	User string
	// Cwd is the working directory; empty means the service's own.
	Cwd string
	// Environment is set over the service's own.
	Environment map[string]string
	// Privileged runs it as root of the instance.
	Privileged bool
	// At is the place in the file, for errors.
	At Place
}
