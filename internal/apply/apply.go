// Package apply runs one loop per stack: load the files, observe Incus, diff, execute, record, observe again.
//
// It is the shell around internal/plan: it decides nothing about what a stack should look like, and knows Incus,
// the ledger, the registries and the files only through the small interfaces below. Everything is level-triggered:
// whatever wakes a loop (a changed file, an event, a timer, a user), it looks at both sides afresh and does what
// is missing. A pass over a stack that is as it should be reads and writes nothing.
//
// A loop keeps the last project that could be loaded, deletes nothing because something was unreadable, and
// never restarts or stops an instance unless the plan says why.
package apply

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Server is Incus as a loop needs it.
type Server interface {
	// Observe reads everything about one Incus project.
	Observe(ctx context.Context, project string) (plan.Observed, error)
	// Do makes one call.
	Do(ctx context.Context, project string, op plan.Op) error
	// LastWords reads what an instance's program last wrote.
	LastWords(ctx context.Context, project, instance string) (string, error)
}

// Ledger remembers stacks over restarts.
type Ledger interface {
	Load(stack string) (plan.Ledger, error)
	Save(l plan.Ledger) error
	Forget(stack string) error
}

// Subnets remembers which network has which subnet; Reserve is atomic over all stacks.
type Subnets interface {
	Reserve(network string, pick func(taken map[string]netip.Prefix) (netip.Prefix, error)) (netip.Prefix, error)
	Release(network string) error
}

// Images asks registries.
type Images interface {
	Resolve(ctx context.Context, ref plan.ImageRef, names bool) (plan.Image, error)
	// Digest asks for no more than the digest, as cheaply as can be.
	Digest(ctx context.Context, ref plan.ImageRef) (string, error)
}

// Builds makes images of sources.
type Builds interface {
	// Image returns the image of what the sources are now. It does not wait for a build: the error is ErrBuilding
	// while one runs, or says why the last one failed.
	Image(ctx context.Context, s Sources) (plan.Image, error)
}

// Sources is what an image is made of, for whom.
type Sources struct {
	Stack, Project string
	Ref            plan.ImageRef
	// Names asks for the image's users and groups.
	Names bool
	// Old is the image in force; Here says that Incus has it.
	Old  plan.Image
	Here bool
	// Again tries at once what failed before: somebody asks for it.
	Again bool
	// Ready is called when a build has ended.
	Ready func()
}

// Loader turns a stack's files into its project. Its error tells the user what, where and what to do.
type Loader func(ctx context.Context, src Source) (plan.Project, error)

// Source is where a stack's files are.
type Source struct {
	Stack string
	// Dir is where relative paths start.
	Dir string
	// Files are the compose files in merge order, Env the .env files.
	Files, Env []string
	// Hash changes when any of them, or anything they refer to, changes.
	Hash string
	// Hold keeps the stack as it is.
	Hold bool
	// Problem refuses the source (its permissions, its kind, its size) in words for the user.
	Problem string
}

// Host is what all loops of an agent share.
type Host struct {
	Server  Server
	Ledger  Ledger
	Subnets Subnets
	Images  Images
	// Builds makes the images of services with a build section; nil refuses them.
	Builds Builds
	Load   Loader
	// Refer is told all files a loaded project was read from; nil is allowed.
	Refer func(stack string, files []string)
	// Publish is called after every change of a loop's view; nil is allowed.
	Publish func()
	// Ports notes all host ports a stack publishes and reports, of them, those that somebody else holds, and
	// who; fresh are those the stack does not have yet. Nil means that every port is free.
	Ports func(ctx context.Context, stack string, all, fresh []plan.Listen) map[plan.Listen]string
	// FreePort chooses a port of the host that is free at all of these listeners (their own number aside) and
	// keeps it for the stack; 0 means that there is none. Nil means that none is.
	FreePort func(ctx context.Context, stack, key string, at []plan.Listen) uint16
	// HostPrefixes are the networks the host is on or routes to; nil means none.
	HostPrefixes func() []netip.Prefix
	// Temporary reports whether an error will pass by itself (an outage), so that it is waited out; nil means
	// that every error may.
	Temporary func(error) bool
	// Exit asks how an instance ended that is stopped; known is false where nobody can tell. Nil means nowhere.
	Exit func(ctx context.Context, project, instance string) (code int, known bool, err error)
	// Away reports whether an error says that Incus cannot be reached.
	Away func(error) bool
	// Blame finds out which config key or device of an instance an error is about; nil means that none is known.
	Blame func(err error, config map[string]string, devices map[string]plan.Device) (key, device string)
	// Refused reports whether an error says that Incus refuses what was asked, or that a program cannot be run,
	// which trying again does not mend; nil means never.
	Refused func(error) bool
	// Rootless reports whether an error says that an instance has no whole root filesystem; nil means never.
	Rootless func(error) bool
	// History keeps generations; nil keeps none.
	History History
	// ReadFile reads a file that a project was made from; nil means that its content is not kept. Author tells who
	// wrote it; nil means that nobody knows.
	ReadFile func(path string) ([]byte, error)
	Author   func(path string) string
	// Boot names the present run of the host (boot id).
	Boot string
	// After says which of the named stacks keeps this one's first work waiting, and why; comes says that nothing is
	// wrong with it. "" when none does; nil means that none ever does.
	After func(stack string, names []string) (reason string, comes bool)
	// Claim reports whether the stack may have the Incus project, and else which stack has it; nil means yes.
	Claim func(stack, project string) (holder string, ok bool)

	// Look tells what the host has at a path; nil means that it is not known.
	Look func(path string) plan.HostPath
	// Mounted tells where the host has mounted a share, "" for nowhere; nil means that it has none.
	Mounted func(plan.Share) string
	// Within tells whether a custom volume has something at a path; nil means that it is not known.
	Within func(ctx context.Context, project, pool, volume, path string) (bool, error)
	// FilesDir is where Server places the files of instances (plan.PlaceFiles); empty means nowhere.
	FilesDir string
	// Owner is the agent's id, Self the user name Incus knows the agent by.
	Owner, Self string
	// Pool is where subnets of networks that name none come from, Pool6 the same for IPv6.
	Pool, Pool6 netip.Prefix
	// Domain is the DNS zone.
	Domain string
	Log    *slog.Logger

	book book
	// starts, stops and pulls bound the calls in flight over all stacks: Incus is fastest with four creates
	// and starts at a time and eight stops (measured on two CPUs).
	starts, stops, pulls, others *semaphore.Weighted
	// looks bounds the observations, and loads the parsers: a hundred at once would each be too late to be believed.
	looks, loads *semaphore.Weighted
}

// Timing of the loops.
const (
	// Resync is the time between two looks at a stack that nothing else woke.
	Resync = 10 * time.Minute
	// settle gathers events that come together.
	settle = 50 * time.Millisecond
	// firstRetry doubles up to lastRetry, each with full jitter.
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	// DefaultGrace is how long services run on after their file is gone.
	DefaultGrace = time.Minute
	// Keep is how long the parked instances of a removed stack or service are kept.
	Keep = 7 * 24 * time.Hour
	// resolveTime bounds the questions to registries in one pass.
	resolveTime = 2 * time.Minute
	// lateAnswer is how long Incus may take to say what it has, and still be believed to say it in time.
	lateAnswer = 2 * time.Second
	// doubt is for how long after a failed start an instance that seems to run is not believed, unless it was started
	// anew: a busy Incus shows for many seconds as running what never ran.
	doubt = time.Minute
	// unwrittenRetry is the time between two tries to write a ledger that could not be written.
	unwrittenRetry = time.Minute
	// rounds bounds the plans of one pass: what does not settle in so many is named and left.
	rounds = 4
)

// Prepare readies h for its first loop; addresses known to the ledgers are held from then on.
func (h *Host) Prepare(ledgers []plan.Ledger) {
	h.starts = semaphore.NewWeighted(4)
	h.stops = semaphore.NewWeighted(8)
	h.pulls = semaphore.NewWeighted(4)
	h.others = semaphore.NewWeighted(8)
	h.looks = semaphore.NewWeighted(4)
	h.loads = semaphore.NewWeighted(4)
	for _, l := range ledgers {
		h.book.seed(l)
	}
}

// Release forgets the addresses of a stack whose instances go on under another one.
func (h *Host) Release(stack string) { h.book.release(stack) }
