package health

import (
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Status is the verdict on an instance, in the words of lxc/incus-compose. The empty one is none yet.
type Status string

// The statuses. Starting lasts from a start to the first verdict.
const (
	Unknown   Status = "unknown"
	Starting  Status = "starting"
	Healthy   Status = "healthy"
	Unhealthy Status = "unhealthy"
	Stopped   Status = "stopped"
)

// State is what an instance is at, as far as it matters here.
type State string

// The states. Between is anything on the way from one to another.
const (
	StateRunning State = "running"
	StateFrozen  State = "frozen"
	StateStopped State = "stopped"
	StateBetween State = "between"
)

// Verdict is what a probe found.
type Verdict string

// The verdicts. NoAnswer means that the probe could not be made, for reasons that are not the instance's; NoAgent
// that the agent in a virtual machine is not there (yet).
const (
	Passed   Verdict = "passed"
	Failed   Verdict = "failed"
	TimedOut Verdict = "timed out"
	NoAnswer Verdict = "no answer"
	NoAgent  Verdict = "no agent"
)

// Result is the end of a probe.
type Result struct {
	Verdict Verdict `json:"verdict"`
	// Code is the exit code of a command: 0 passed, 126 and 127 not there, -1 timed out; for other probes 0
	// or 1.
	Code int `json:"code"`
	// Output is what it said, at most 4096 bytes and "...", always valid UTF-8.
	Output string `json:"output,omitempty"`
	// At is when it began, Took how long it ran.
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took_ns"`
}

// missing tells of a command that could not be run at all.
func (r Result) missing() bool { return r.Verdict == Failed && (r.Code == 126 || r.Code == 127) }

// Exit is how the program of an instance ended.
type Exit struct {
	// Known is false where nothing tells the exit code.
	Known bool
	// Code is the exit code, 128 and the number for a signal.
	Code int
	// Signal is the signal's name or number when it was killed; empty otherwise.
	Signal string
	// Kills is how many of its processes the kernel killed for want of memory, first or not; 0 where nobody counts them.
	Kills int
}

// String says it in words: "exit code 3", "killed by signal 9; 1 kill for want of memory in this run".
func (e Exit) String() string {
	text := "exit code " + plan.ExitWords(e.Code)
	switch {
	case !e.Known:
		return "exit code unknown"
	case e.Signal != "":
		text = "killed by signal " + e.Signal
	}

	if e.Kills > 0 && e.Code != 0 { // which of them was the first process, or whether one was, the kernel does not tell
		text += "; " + plan.Count(e.Kills, "kill") + " for want of memory in this run"
	}

	return text
}

// Event is something that happened to an instance: Seen, Probed, Freed, Restarted or Tick.
type Event interface{ event() }

// Seen is the instance as Incus showed it.
type Seen struct {
	Spec  Spec
	State State
	// Started is when it was last started, by the wall clock.
	Started time.Time
	// Told is set when an event told that the instance stopped, and By is who asked for it: empty when it
	// ended by itself. Ours is set when that was us.
	Told bool
	By   string
	Ours bool
	// Exit is how it ended, for a stopped one.
	Exit Exit
	// Marked is set by KeyStopped, the sign of lxc/incus-compose for a stop on purpose.
	Marked bool
	// Autorestart is set when Incus itself restarts it (boot.autorestart).
	Autorestart bool
	// Powered is set on a stopped instance that was not stopped: the host went down under it.
	Powered bool
	// Status is what KeyStatus holds.
	Status Status
}

// Probed is the end of the probe of a RunProbe with the same Gen.
type Probed struct {
	Gen    uint64
	Result Result
	// Starved is set when the host was too busy for a timeout to mean anything.
	Starved bool
}

// Freed says that nothing remains of the probe with this Gen.
type Freed struct{ Gen uint64 }

// Restarted is the end of a Restart with the same Gen.
type Restarted struct {
	Gen uint64
	// Moot is set when nothing was done: the instance was not, or no longer, as it should have been. Held is
	// set when nothing was done because the host is in no state for it: again later.
	Moot, Held bool
	// Powered is set when nothing was done because Incus stopped it to go down itself, and will start it.
	Powered bool
	// Err is why it failed; empty when it did not. Infra is set when that was not the instance's fault.
	Err   string
	Infra bool
}

// Tick says that the time Next named has come.
type Tick struct{}

func (Seen) event()      {}
func (Probed) event()    {}
func (Freed) event()     {}
func (Restarted) event() {}
func (Tick) event()      {}

// Action is something to do: RunProbe, CancelProbe, SetStatus, Restart, CancelRestart, StopIt or Note.
type Action interface{ action() }

// RunProbe asks for a probe; Probed and Freed answer it.
type RunProbe struct {
	Gen  uint64
	Spec Spec
	// Due is when it should begin.
	Due time.Time
}

// CancelProbe ends the probe at work; its result is not wanted.
type CancelProbe struct{}

// SetStatus writes a new verdict.
type SetStatus struct {
	Status, From Status
	// Reason says in words why.
	Reason string
	Detail Detail
	// Brief says that the agent stopped it, to change it: another verdict follows soon.
	Brief bool
}

// Restart starts the instance; Restarted answers it.
type Restart struct {
	Gen uint64
	// Stop is set for a running instance, which is stopped first; it must still be the run that began at Run.
	Stop bool
	Run  time.Time
	// Patient is set when Incus had its time to start what ran when it went down.
	Patient bool
	// Kind is "ended" or "unhealthy", Reason says it in words.
	Kind, Reason string
}

// CancelRestart keeps a Restart from going on to the start.
type CancelRestart struct{}

// StopIt stops the instance for good.
type StopIt struct{ Reason string }

// Note is something an operator wants to know.
type Note struct {
	Warn bool
	Text string
}

func (RunProbe) action()      {}
func (CancelProbe) action()   {}
func (SetStatus) action()     {}
func (Restart) action()       {}
func (CancelRestart) action() {}
func (StopIt) action()        {}
func (Note) action()          {}

// Detail is the JSON of KeyDetail.
type Detail struct {
	// Since is when the status became what it is.
	Since time.Time `json:"since"`
	// Streak is the number of failures in a row.
	Streak int `json:"streak,omitempty"`
	// Exit is the last known exit code of the instance's program; nil when there is none.
	Exit *int `json:"exit,omitempty"`
	// Output is the first line of what the last probe said.
	Output string `json:"output,omitempty"`
	// Unwell is when it last became unhealthy, over the restarts for that; zero once it is healthy, or somebody else
	// has started it.
	Unwell time.Time `json:"unwell,omitzero"`
}
