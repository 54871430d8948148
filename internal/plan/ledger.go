package plan

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Ledger is what the agent remembers of one stack between passes and over restarts. Everything in it can be
// rebuilt from Incus and the files; losing it costs time, never data.
type Ledger struct {
	// Stack names it.
	Stack string
	// Project is the last good project; nil before the first.
	Project *Project
	// Generation counts the projects accepted, from 1.
	Generation uint64
	// Images holds what registries said, by the reference as written: first-seen digests, so that a
	// converged service never needs its registry again.
	Images map[string]Image
	// Earlier holds the images that were in force before those of Images: they are kept on the host.
	Earlier map[string]Image
	// Updates is what is known of newer images, by the reference as written.
	Updates map[string]Update
	// Addresses are the addresses handed out, by Incus network (V6 of it for IPv6) and instance.
	Addresses map[string]map[string]netip.Addr
	// Ports are the host ports chosen by the agent, by PortKey.
	Ports map[string]uint16
	// Started holds, by instance, the boot hash (KeyBoot) it was last started with by us or by Incus's
	// autostart: an instance that is stopped although it was started with the wanted hash stopped by itself
	// or by a user's word, and is left so.
	Started map[string]string
	// Exits holds, by instance, how it ended when it last ended by itself.
	Exits map[string]Exit
	// Rootless holds, by instance, what is known to be wrong with its root filesystem.
	Rootless map[string]Root
	// Stops remembers, by instance, who stopped it by hand; empty when running.
	Stops map[string]Stop
	// Good holds, by service, the version it last did well with: what a failed update goes back to.
	Good map[string]Version
	// Rollouts are the updates under way or given up, by service.
	Rollouts map[string]Rollout
	// Host names the run of the host (boot id) that the Rollouts were watched in.
	Host string
	// Hurried are the services whose change does not wait for the window, with the generation of which somebody said
	// so; "" is all of them.
	Hurried map[string]uint64
	// Snapshots are those that we took of volumes and have not deleted.
	Snapshots []Snapshot
	// Released says that somebody gave the stack out of our hands: its file is left alone until it is adopted.
	Released bool
	// Pin says that somebody went back to an earlier generation; nil while the file is followed.
	Pin *Pin
	// Last holds, by instance, the last step that was done to it.
	Last map[string]Intent
	// Intent is the step begun and not known to have ended, by object ("instance/web-1").
	Intents map[string]Intent
	// Conditions say what is wrong, sorted by Type and Object; empty when all is well.
	Conditions []Condition
	// RemovedAt is when the stack's file was found gone; zero while it is there.
	RemovedAt time.Time
	// Orphan says that the stack was found in Incus, with neither a file nor a ledger.
	Orphan bool
	// Parked says, by instance, for how long what is wanted no more has been parked; CountedAt is when that was
	// last counted.
	Parked    map[string]Kept
	CountedAt time.Time
	// Expired are those that have been parked for as long as they are kept.
	Expired map[string]bool `json:"-"`
	// Confirmed are the services whose removal was confirmed although they are protected; "" is the whole stack.
	Confirmed map[string]bool
	// Unsettled names, by object, the keys that Incus did not keep when they were written. It is forgotten
	// when the agent ends, so that each start tries once more.
	Unsettled map[string][]string `json:"-"`
	// AppliedAt is when the last plan with steps ended well.
	AppliedAt time.Time
}

// Snapshot is the ledger as it is now, whatever is written to l later. Shared is only what is replaced as a whole:
// the project, images, versions, and the pin.
func (l Ledger) Snapshot() Ledger {
	l.Images, l.Earlier, l.Updates = maps.Clone(l.Images), maps.Clone(l.Earlier), maps.Clone(l.Updates)
	l.Ports, l.Started, l.Exits, l.Stops = maps.Clone(l.Ports), maps.Clone(l.Started), maps.Clone(l.Exits), maps.Clone(l.Stops)
	l.Good, l.Last, l.Intents = maps.Clone(l.Good), maps.Clone(l.Last), maps.Clone(l.Intents)
	l.Rootless, l.Hurried = maps.Clone(l.Rootless), maps.Clone(l.Hurried)
	l.Parked, l.Expired, l.Confirmed = maps.Clone(l.Parked), maps.Clone(l.Expired), maps.Clone(l.Confirmed)
	l.Conditions, l.Snapshots = slices.Clone(l.Conditions), slices.Clone(l.Snapshots)
	l.Addresses = maps.Clone(l.Addresses)
	for network, addrs := range l.Addresses {
		l.Addresses[network] = maps.Clone(addrs)
	}

	l.Unsettled = maps.Clone(l.Unsettled)
	for object, keys := range l.Unsettled {
		l.Unsettled[object] = slices.Clone(keys)
	}

	l.Rollouts = maps.Clone(l.Rollouts)
	for service, ro := range l.Rollouts {
		ro.Trials, ro.Returns = maps.Clone(ro.Trials), maps.Clone(ro.Returns)
		if ro.Surge != nil {
			surge := *ro.Surge
			ro.Surge = &surge
		}

		l.Rollouts[service] = ro
	}

	return l
}

// SetAddress remembers an address handed out.
func (l *Ledger) SetAddress(network, instance string, addr netip.Addr) {
	if l.Addresses == nil {
		l.Addresses = map[string]map[string]netip.Addr{}
	}

	if l.Addresses[network] == nil {
		l.Addresses[network] = map[string]netip.Addr{}
	}

	l.Addresses[network][instance] = addr
}

// Exit is how a run of an instance ended.
type Exit struct {
	// Run is when the run began (ObservedInstance.LastUsed): an exit of another run says nothing.
	Run time.Time
	// Code is the exit code, 128 and the number of the signal where one ended it; Known is false where nobody
	// can tell.
	Code  int
	Known bool
}

// Kept is how long an instance has been parked.
type Kept struct {
	// Since is when it was first seen parked, For the time counted since, which a jump of the clock does not
	// change.
	Since time.Time
	For   time.Duration
}

// Pin is an earlier generation that is wanted instead of what the file says.
type Pin struct {
	Generation uint64
	// File is the hash of the file's project then: another one ends the pin.
	File string
	By   string
	At   time.Time
}

// Stop is a stop that somebody asked for.
type Stop struct {
	By string
	At time.Time
}

// Intent is a step that was begun.
type Intent struct {
	// Text is the step as the plan prints it.
	Text string
	At   time.Time
}

// Condition is something that keeps a stack, or one object of it, from being what its file says.
type Condition struct {
	// Type is one word: Invalid, Blocked, Conflict, Failed, Unsettled, RemovalHeld, SourceUnavailable,
	// IncusUnavailable, Hold.
	Type string
	// Object is "instance/web-1" or empty for the whole stack.
	Object string
	// Text says what is wrong, where, and what to do.
	Text string
	// Since is when it began.
	Since time.Time
}
