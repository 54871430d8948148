package api

import "time"

// Status is the whole of what the agent knows about itself and its stacks.
type Status struct {
	// Version is the agent's.
	Version string `json:"version"`
	// Owner is the id that the agent's objects in Incus carry.
	Owner string `json:"owner,omitempty"`
	// Since is when the agent was started.
	Since time.Time `json:"since,omitzero"`
	Incus Incus     `json:"incus"`
	DNS   DNS       `json:"dns"`
	// Stacks are sorted by name.
	Stacks []Stack `json:"stacks"`
	// Pulls are the images that are being fetched, the oldest first.
	Pulls []Pull `json:"pulls,omitempty"`
	// Problems are sentences about what is wrong beside the stacks: directories, files that make no stack,
	// listeners. Each says what to do.
	Problems []string `json:"problems,omitempty"`
}

// Pull is an image that is being fetched.
type Pull struct {
	Image string `json:"image"`
	// Stage is Incus's word for what it does; empty before its first.
	Stage string `json:"stage,omitempty"`
	// Sent and Size are in bytes of layers. Sent stays 0 where Incus fetches the image by itself; Size is 0
	// when it is not known.
	Sent  int64     `json:"sent,omitempty"`
	Size  int64     `json:"size,omitempty"`
	Since time.Time `json:"since"`
}

// Incus is what is known of the Incus server.
type Incus struct {
	// OK says that it answered when last asked.
	OK bool `json:"ok"`
	// Version is its version, "7.0.2"; empty before its first answer.
	Version string `json:"version,omitempty"`
	// Error says why it does not answer; empty when OK, or when it was not asked yet.
	Error string `json:"error,omitempty"`
}

// DNS is the state of the DNS server.
type DNS struct {
	// Listeners are the addresses answered at, "10.201.3.1:53".
	Listeners []string `json:"listeners"`
	// Failed says why others are not, by address.
	Failed map[string]string `json:"failed,omitempty"`
	// Names is how many names are answered.
	Names int `json:"names"`
	// Host says how this host itself finds them: "by systemd-resolved", or why it does not; empty when not known.
	Host string `json:"host,omitempty"`
}

// State is a stack's state in a word or two.
type State string

// The states of a stack.
const (
	// InSync: Incus has what the files say.
	InSync State = "in sync"
	// Applying: a plan is being carried out.
	Applying State = "applying"
	// Scheduled: what is left to do waits for its window.
	Scheduled State = "scheduled"
	// Blocked: something of it cannot be done; the rest is.
	Blocked State = "blocked"
	// Invalid: its files are refused; the last good version runs on.
	Invalid State = "invalid"
	// Held: NAME.hold lies beside it, so nothing is changed.
	Held State = "held"
	// Skipped: NAME.skip lies beside it, so it is as if it were not there.
	Skipped State = "skipped"
	// Removed: its file is gone and its grace is running.
	Removed State = "removed"
	// Parked: its file is gone and it is stopped; its volumes are kept.
	Parked State = "parked"
	// Orphaned: it was found in Incus, with neither a file nor a memory of it; what runs of it runs on.
	Orphaned State = "orphaned"
	// Released: it was given out of the agent's hands.
	Released State = "released"
	// Waiting: Incus is away.
	Waiting State = "waiting"
)

// Stack is the state of one stack.
type Stack struct {
	// Name is that of the directory's entry, Project the Incus project's; empty before the first good load.
	Name    string `json:"name"`
	Project string `json:"project,omitempty"`
	// Source is the path of the stack's main file.
	Source string `json:"source,omitempty"`
	State  State  `json:"state"`
	// Generation counts the versions accepted, from 1; 0 before the first.
	Generation uint64 `json:"generation"`
	// LastApplied is when the last plan with steps ended well; zero before the first.
	LastApplied time.Time `json:"last_applied,omitzero"`
	// Next is when the agent looks again by itself; zero when it waits for a change.
	Next       time.Time   `json:"next,omitzero"`
	Conditions []Condition `json:"conditions,omitempty"`
	Warnings   []Warning   `json:"warnings,omitempty"`
	// Services are in the order of their names.
	Services []Service `json:"services,omitempty"`
	// Parked are the stopped instances of what the file no longer has.
	Parked []Leftover `json:"parked,omitempty"`
	// Volumes are those the stack has in Incus, "pool/name"; only for a stack whose file is gone.
	Volumes []string `json:"volumes,omitempty"`
	// Unused are those of its volumes, "pool/name", that its file does not ask for and no instance mounts: they stay until
	// somebody deletes them.
	Unused []string `json:"unused,omitempty"`
	// Plan is what is left to do, as the plan prints it; empty when all is done.
	Plan string `json:"plan,omitempty"`
}

// Leftover is a stopped instance that is wanted no more.
type Leftover struct {
	Name    string `json:"name"`
	Service string `json:"service,omitempty"`
	// Since is when it was first seen parked.
	Since time.Time `json:"since,omitzero"`
	// Left is for how many seconds it is kept still.
	Left int64 `json:"left"`
}

// Condition is something that keeps a stack, or one object of it, from being what its file says.
type Condition struct {
	// Type is one word, such as Invalid, Blocked, Conflict or Failed.
	Type string `json:"type"`
	// Object is "instance/web-1"; empty for the whole stack.
	Object string `json:"object,omitempty"`
	// Text says what is wrong, where, and what to do.
	Text string `json:"text"`
	// Since is when it began.
	Since time.Time `json:"since,omitzero"`
}

// Warning is something a user should know about a file.
type Warning struct {
	// File and Line say where; empty and 0 when not known.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Key is the dotted path of the compose key.
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
}

// Service is a compose service.
type Service struct {
	Name string `json:"name"`
	// Image is the reference as written.
	Image string `json:"image,omitempty"`
	// Want is how many instances there shall be, Running how many run.
	Want    int `json:"want"`
	Running int `json:"running"`
	// Update says what is known of a newer image; empty when there is none, or nobody asked.
	Update string `json:"update,omitempty"`
	// Ports are the published ones, "8080 → 80/tcp".
	Ports []string `json:"ports,omitempty"`
	// Instances are those wanted and those that exist, by name.
	Instances []Instance `json:"instances,omitempty"`
}

// Instance is one instance of a service.
type Instance struct {
	Name string `json:"name"`
	// Status is Incus's word ("Running"), or empty when the instance does not exist yet.
	Status string `json:"status,omitempty"`
	// Since is when it got that status; zero when not known.
	Since time.Time `json:"since,omitzero"`
	// Addresses are those it has, in NIC order.
	Addresses []string `json:"addresses,omitempty"`
	// Health is "starting", "healthy" or "unhealthy"; empty without a health check.
	Health string `json:"health,omitempty"`
	// Note says what else is to be known: who stopped it, what it waits for.
	Note string `json:"note,omitempty"`
}

// PlanReply is what is left to do for one stack.
type PlanReply struct {
	Stack string `json:"stack"`
	// Text is the plan as it is printed everywhere.
	Text  string `json:"text"`
	Steps []Step `json:"steps"`
	// Blocked and Warnings are lines of Text.
	Blocked  []string `json:"blocked,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Step is one call to Incus.
type Step struct {
	// N counts from 1; After are the steps that have to be done before.
	N     int   `json:"n"`
	After []int `json:"after,omitempty"`
	// On is the object, "instance/web-1".
	On string `json:"on"`
	// Text is the step's line in the plan, Cause why it is needed.
	Text  string `json:"text"`
	Cause string `json:"cause"`
	// Interrupts says that the service is not running for a moment because of it.
	Interrupts bool `json:"interrupts,omitempty"`
}

// ReloadReply is what a look at the directories found.
type ReloadReply struct {
	// Stacks are those that changed; empty when nobody waited for them.
	Stacks []ReloadResult `json:"stacks"`
	// Problems are sentences about files that make no stack.
	Problems []string `json:"problems,omitempty"`
}

// ReloadResult is what became of one stack.
type ReloadResult struct {
	Stack string `json:"stack"`
	State State  `json:"state"`
	// Error says why its files were refused; empty when they were accepted.
	Error string `json:"error,omitempty"`
}

// AdoptRequest asks for the objects that have a stack's names and no owner to become the stack's.
type AdoptRequest struct {
	Stack string `json:"stack"`
	// Networks takes the networks out of the hands of dnsmasq, too.
	Networks bool `json:"networks,omitempty"`
	// Yes does it although something is left to do then; Dry only says what would be done.
	Yes bool `json:"yes,omitempty"`
	Dry bool `json:"dry,omitempty"`
}

// AdoptReply is what an adoption comes to.
type AdoptReply struct {
	// Objects are those that become ours, "instance/web-1".
	Objects []string `json:"objects,omitempty"`
	// Conflicts say what belongs to another agent.
	Conflicts []string `json:"conflicts,omitempty"`
	// Left is how many steps are left to do then, Plan their text.
	Left int    `json:"left"`
	Plan string `json:"plan,omitempty"`
	// Done says that it was done.
	Done bool `json:"done"`
}

// DestroyRequest asks for the end of a stack whose file is gone.
type DestroyRequest struct {
	Stack string `json:"stack"`
	// Volumes deletes its volumes, too.
	Volumes bool `json:"volumes,omitempty"`
	// Dry only says what would be deleted.
	Dry bool `json:"dry,omitempty"`
}

// DestroyReply is what was, or would be, deleted.
type DestroyReply struct {
	Instances []string `json:"instances,omitempty"`
	Networks  []string `json:"networks,omitempty"`
	Volumes   []string `json:"volumes,omitempty"`
	// Kept are the volumes that stay, "pool/name".
	Kept []string `json:"kept,omitempty"`
	// Plan is all of it as a plan.
	Plan string `json:"plan"`
}

// ConfirmRequest names the stacks, and "stack/service" for protected services, whose removal is meant; none means all
// stacks that are held because they vanished together.
type ConfirmRequest struct {
	Stacks []string `json:"stacks,omitempty"`
}

// ConfirmReply names the stacks that are removed now.
type ConfirmReply struct {
	Removed []string `json:"removed"`
}

// Generation is a version of a stack that was accepted.
type Generation struct {
	// Number counts from 1.
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
	// Who is behind it, Why what happened.
	Who string `json:"who,omitempty"`
	Why string `json:"why"`
	// Outcome says what became of it, OutcomeAt since when; empty while it is open.
	Outcome   string    `json:"outcome,omitempty"`
	OutcomeAt time.Time `json:"outcome_at,omitzero"`
	// Evidence is what failed instances last wrote, and what their probes said.
	Evidence string `json:"evidence,omitempty"`
	// Digests are the images' by reference as written.
	Digests map[string]string `json:"digests,omitempty"`
	// Plan is the first plan made for it.
	Plan string `json:"plan,omitempty"`
	// Snapshots are those taken of volumes before its update, "pool/volume/snapshot".
	Snapshots []string `json:"snapshots,omitempty"`
	// Left are those of what volumes held when it was given up together with its data.
	Left []string `json:"left,omitempty"`
	// Current says that it is the one in force.
	Current bool `json:"current,omitempty"`
	// Documents are its files, and what they mean in Incus as one more; only of a single generation.
	Documents []Document `json:"documents,omitempty"`
}

// Document is a text of a generation.
type Document struct {
	// Name is a path, or "Incus".
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
	// Omitted says why there is no text.
	Omitted string `json:"omitted,omitempty"`
}

// RollbackRequest asks for an earlier generation; 0 means the last other one that did well.
type RollbackRequest struct {
	Stack      string `json:"stack"`
	Generation uint64 `json:"generation,omitempty"`
	// Data brings back, too, what the volumes held when that generation was given up, from their snapshots.
	Data bool `json:"data,omitempty"`
}

// RetryRequest asks to try what was given up: of one service, or, without one, the whole stack and its file.
type RetryRequest struct {
	Stack   string `json:"stack"`
	Service string `json:"service,omitempty"`
}

// ApplyRequest asks for a look at a stack; with Now, what waits for its window, of one service or, without one, of all,
// waits no more.
type ApplyRequest struct {
	Stack   string `json:"stack"`
	Service string `json:"service,omitempty"`
	Now     bool   `json:"now,omitempty"`
}

// ReleaseRequest asks for the end of our hand on a stack; with Dry it is only said what that comes to.
type ReleaseRequest struct {
	Stack string `json:"stack"`
	Dry   bool   `json:"dry,omitempty"`
}

// ReleaseReply is what a release comes to.
type ReleaseReply struct {
	// Objects are those that are ours no more, "instance/web-1".
	Objects []string `json:"objects,omitempty"`
	// Notes say what ends with it: names, forwarded ports.
	Notes []string `json:"notes,omitempty"`
	// Source is the stack's file; empty when it is gone.
	Source string `json:"source,omitempty"`
}

// ActionReply tells what was done.
type ActionReply struct {
	Text string `json:"text"`
}
