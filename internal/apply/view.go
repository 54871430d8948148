package apply

import (
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// State is a stack's state in one word.
type State string

// The states, worst last for those that say that something is wrong.
const (
	InSync   State = "in sync"
	Applying State = "applying"
	// Scheduled: what is left to do waits for the stack's window.
	Scheduled State = "scheduled"
	Held      State = "held"
	Removed   State = "removed"
	Parked    State = "parked"
	Orphaned  State = "orphaned"
	// Released: it was given out of our hands.
	Released State = "released"
	Waiting  State = "waiting"
	Blocked  State = "blocked"
	Invalid  State = "invalid"
)

// Stopping is the status a View shows of an instance that is being stopped by the loop: it still runs, and nobody
// should be sent to it any more.
const Stopping plan.Status = "Stopping"

// View is what a loop lets others see: an immutable snapshot.
type View struct {
	Stack string
	// Owner is the agent's id.
	Owner string
	State State
	// Project is the project in force: the last that could be loaded; nil before the first.
	Project *plan.Project
	// Desired is it, spelled out; the zero Desired before the first pass.
	Desired plan.Desired
	// Observed is what Incus had when last asked, with what has been done since.
	Observed plan.Observed
	// Segments are the managed networks' subnets by Incus name.
	Segments map[string]plan.Segment
	Ledger   plan.Ledger
	// Plan is what is left to do: empty when all is well.
	Plan plan.Plan
	// Stops are the instances that the steps being carried out stop; nil when none are.
	Stops map[string]bool
	// Notes say what is to be known of an instance's update, by name.
	Notes map[string]string
	// Next is when the loop looks again by itself.
	Next time.Time
	// Turned is when the loop last finished a pass.
	Turned time.Time
	// Hash is the Source.Hash that the last pass was about.
	Hash string
}
