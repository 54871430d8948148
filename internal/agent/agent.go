// Package agent is ic-agent's composition root: it says who runs, who hears whom, and in which order they stop.
// It decides nothing itself.
//
//	watch ──snapshot──▶ stacks ──▶ one apply.Loop per stack ──▶ incus, state, image, compose (child)
//	incus ──hint──────▶ stacks        │ view
//	                                  ▼
//	          zone ──▶ dns.Server    forwards ──▶ publish    status ──▶ systemd, api
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/dns"
	"github.com/incus-compose/ic-agent/internal/files"
	"github.com/incus-compose/ic-agent/internal/hostdir"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/publish"
	"github.com/incus-compose/ic-agent/internal/state"
	"github.com/incus-compose/ic-agent/internal/watch"
)

// Config is everything an agent is made from. Tests and the dev mode fill it; cmd/ic-agent fills it from flags.
type Config struct {
	// Settings are those of agent.toml.
	Settings Settings
	// StateDir holds the ledger; it must exist.
	StateDir string
	// APISocket is the path of the API socket.
	APISocket string
	// Files is the directory of the configs and secrets of instances, on a tmpfs; it must exist, and only the agent
	// may enter it. Empty means that no instance can have any.
	Files string
	// Chown gives a file away; nil means chown(2), which takes CAP_CHOWN.
	Chown func(path string, uid, gid int) error
	// Vaults are the directories of external secrets and configs.
	Vaults []string
	// Executable is this program, run again as "parse" and "dbcheck"; empty does both in this process.
	Executable string
	// Version is shown to users.
	Version string
	// DNSPort is the port the DNS server listens on; 0 means 53.
	DNSPort uint16
	// DNSAddrs replaces the networks' gateway addresses as the places to listen at; nil means those.
	DNSAddrs []netip.Addr
	// Dial opens connections to Incus instead of its socket; nil means the socket.
	Dial func(ctx context.Context) (net.Conn, error)
	// Registry carries the requests to registries; nil means the network.
	Registry http.RoundTripper
	// Notify tells systemd; nil means sd_notify(3).
	Notify func(state string)
	// Inherited are the sockets of the agent before this one (see Inherited); nil when there are none.
	Inherited []*os.File
	// Watchdog is the time systemd allows between signs of life; 0 means none.
	Watchdog time.Duration
	Log      *slog.Logger
}

// Agent is a running agent.
type Agent struct {
	conf   Config
	log    *slog.Logger
	since  time.Time
	aside  string // says that the ledger is a copy in memory, and why; empty when it is not
	db     *state.DB
	incus  *incus.Client
	images *supplied
	builds *builds
	dns    *dns.Server
	watch  *watch.Watcher
	stacks *stacks
	ports  *ports
	local  publish.Forwarder
	seal   []byte                   // the host's key for hashes of secrets
	zone   atomic.Pointer[dns.Zone] // what the DNS server answers from; nil before the first
	zoning *zoning
	begun  atomic.Bool // the directories were read, and every stack has its loop
	store  *store      // nil without systemd
	known  []string

	resolved *dns.Resolved // nil when the host is not to be told
	// Who has which address on the networks, beside what the loops see.
	guests     *guests
	leases     *leases
	neighbours *neighbours

	publish chan struct{} // holds one token when a view has changed
	shown   chan struct{} // holds one token when what systemd is told may be other
	server  serverState
	snap    snapshotBox
}

// New opens the ledger and wires the parts; nothing runs until Run. Its errors are state.ErrLocked and those that
// keep an agent from working at all: an unreadable machine id, a state directory that cannot be written.
func New(ctx context.Context, conf Config) (*Agent, error) {
	a := &Agent{conf: conf, log: conf.Log, since: time.Now(), publish: make(chan struct{}, 1), shown: make(chan struct{}, 1), server: serverState{woken: make(chan struct{}, 1)}}
	owner := conf.Settings.Owner
	if owner == "" {
		id, err := ownerID("/etc/machine-id")
		if err != nil {
			return nil, err
		}

		owner = id
	}

	err := a.openLedger(ctx)
	if err != nil {
		return nil, err
	}

	a.seal, err = sealKey(conf.StateDir)
	if err != nil {
		return nil, err
	}

	a.images = &supplied{log: a.log, changed: a.changed}
	a.incus = incus.New(incus.Options{Socket: conf.Settings.Incus.Socket, Dial: conf.Dial, Log: a.log, Progress: a.images.progress})
	a.images.Client, a.images.images = a.incus, a.resolver()
	a.builds = newBuilds(a.images.images, conf.Settings.buildAuth(), a.log)
	names, err := conf.Settings.DNS.read()
	if err != nil {
		return nil, err
	}

	a.store = newStore(conf.Inherited)
	names.options.Log, names.options.Files, names.options.Changed = a.log, a.local.Adopt(conf.Inherited), a.show
	a.dns = dns.New(names.options)
	if names.host {
		a.resolved = dns.NewResolved(a.log)
	}

	host, err := a.host(owner)
	if err != nil {
		return nil, err
	}

	a.stacks = newStacks(host, a.log, a.inherit)
	host.Claim, host.After, host.Builds = a.stacks.claim, a.stacks.after, a.builds
	known, ledgers, err := a.seed(host)
	if err != nil {
		return nil, err
	}

	a.guests = &guests{list: a.incus.Instances, changed: a.changed, owner: owner, log: a.log, woken: make(chan struct{}, 1)}
	a.leases = newLeases("/var/lib/incus/networks", a.changed, a.log)
	a.neighbours = &neighbours{changed: a.changed, log: a.log, all: map[int]map[string]netip.Addr{}}
	a.zoning = newZoning(a.log, conf.Settings.domain(), names, ledgers)

	a.watch = watch.New(watch.Options{Dirs: conf.Settings.directories(), Known: known, Log: a.log})
	host.Refer = a.watch.Refer

	return a, nil
}

func (a *Agent) openLedger(ctx context.Context) error {
	check := state.Check
	if a.conf.Executable != "" {
		check = state.CheckChild(a.conf.Executable, "dbcheck")
	}

	path := filepath.Join(a.conf.StateDir, "state.db")
	a.bringBack(ctx, path, check)

	db, rebuilt, err := state.OpenOrRebuild(ctx, path, check, a.log)
	if errors.Is(err, syscall.EROFS) {
		db, rebuilt, err = a.openAside(ctx, path, check)
	}

	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}

	a.db = db
	if rebuilt {
		a.log.WarnContext(ctx, "the ledger was damaged and is rebuilt from Incus; nothing is restarted")
	}

	return nil
}

// host gathers what the loops share.
func (a *Agent) host(owner string) (*apply.Host, error) {
	pool, err := a.conf.Settings.pool()
	if err != nil {
		return nil, err
	}

	a.local.Log = a.log
	a.ports = newPorts(a.probePort)

	return &apply.Host{
		Server: files.Host{Server: a.images, Store: files.Store{Dir: a.conf.Files, Chown: a.conf.Chown}, Make: hostdir.Maker{}.Make}, FilesDir: a.conf.Files, Look: look, Mounted: shareOf, Within: a.incus.Within,
		Ledger: a.db, Subnets: a.db, Load: a.loader(), Ports: a.ports.claim, FreePort: a.ports.free,
		Images: finder{a.images.images, a.incus, a.conf.Settings.remotes()},
		Exit:   a.exit, Publish: a.changed, HostPrefixes: hostPrefixes, Temporary: temporary, Away: away, Blame: incus.Blame,
		Refused: refused, Rootless: rootless, Boot: bootID(), History: a.db, ReadFile: readFile, Author: author,
		Owner: owner, Self: selfName(), Pool: pool, Pool6: pool6(owner), Domain: a.conf.Settings.domain(), Log: a.log,
	}, nil
}

// resolver asks registries as the settings say.
func (a *Agent) resolver() *image.Resolver {
	s := a.conf.Settings

	return image.New(image.Options{
		Transport: a.conf.Registry, AuthFiles: s.authFiles(), Mirrors: s.Registry.Mirrors, Insecure: s.Registry.Insecure,
		CertDirs: []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}, Log: a.log,
	})
}

// temporary tells outages from mistakes: what a registry or a file says stays so until somebody changes it.
func temporary(err error) bool {
	for _, lasting := range []error{image.ErrNotFound, image.ErrInvalid, image.ErrPlatform, image.ErrFormat, image.ErrUser} {
		if errors.Is(err, lasting) {
			return false
		}
	}

	return true
}

func away(err error) bool { return errors.Is(err, incus.ErrUnavailable) }

// seed reads the ledgers: their addresses are taken, their projects claimed. It returns the main file and the ledger
// of each stack.
func (a *Agent) seed(host *apply.Host) (map[string]string, map[string]plan.Ledger, error) {
	names, err := a.db.Stacks()
	if err != nil {
		return nil, nil, fmt.Errorf("read ledger: %w", err)
	}

	ledgers := map[string]plan.Ledger{}
	known := map[string]string{}
	for _, name := range names {
		l, lerr := a.db.Load(name)
		if lerr != nil {
			return nil, nil, fmt.Errorf("read ledger: %w", lerr)
		}

		ledgers[name] = l
		a.ports.keep(l)
		a.known = append(a.known, name)
		if l.Project != nil {
			a.stacks.seed(name, l.Project.Incus)
			if l.RemovedAt.IsZero() {
				known[name] = l.Project.Source
			}
		}
	}

	host.Prepare(slices.Collect(maps.Values(ledgers)))

	return known, ledgers, nil
}

// inherit makes what is known of a stack another one's, under which its project goes on.
func (a *Agent) inherit(stack, heir string) {
	a.ports.release(stack)
	a.stacks.host.Release(stack)
	err := a.db.Move(stack, heir)
	if err != nil {
		a.log.Error("history of the stack's former name not kept", "stack", heir, "was", stack, "err", err)
	}
}

// changed notes that a view changed; the zone and the status follow.
func (a *Agent) changed() {
	select {
	case a.publish <- struct{}{}:
	default:
	}
}

// Run runs the agent until ctx ends, then stops its parts within seconds. Operations under way in Incus go on
// by themselves.
func (a *Agent) Run(ctx context.Context) error {
	defer a.db.Close()

	listener, err := api.Listen(a.conf.APISocket)
	if err != nil {
		return err
	}

	answered := a.answer(ctx)
	defer answered()

	group, ctx := errgroup.WithContext(ctx)
	a.stacks.ctx, a.builds.ctx = ctx, ctx
	ready := make(chan struct{})
	server := api.NewServer(a, a.log)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(a.dns)
	server.Metrics(metrics)
	group.Go(func() error { return server.Serve(ctx, listener) })
	group.Go(func() error { return a.follow(ctx) })
	group.Go(func() error { return a.guests.Run(ctx) })
	group.Go(func() error { return a.leases.Run(ctx) })
	group.Go(func() error { return a.neighbours.Run(ctx) })
	group.Go(func() error { return a.probe(ctx) })
	group.Go(func() error { return a.prune(ctx) })
	group.Go(func() error { return a.ports.watch(ctx, a.stacks.dirty) })
	group.Go(func() error { return a.notify(ctx, ready) })
	group.Go(func() error { return a.orphans(ctx, ready) })
	group.Go(func() error {
		first := true
		return a.watch.Run(ctx, func(s watch.Snapshot) {
			a.snapshot(ctx, s, first)
			if first {
				first = false
				close(ready)
			}
		})
	})
	group.Go(func() error {
		return a.incus.Hints(ctx, func(h incus.Hint) {
			if h.Resync {
				a.server.answered()
			}

			a.stacks.hint(h, a.stacks.host.Self)
			a.guests.hint(h, a.stacks.claimed)
		})
	})

	err = group.Wait()
	a.local.Close()
	a.stacks.wg.Wait()
	a.builds.wg.Wait()
	_ = os.Remove(a.conf.APISocket)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}

	return nil
}

// snapshot carries what the directories say into the loops.
func (a *Agent) snapshot(ctx context.Context, s watch.Snapshot, first bool) {
	var known []string
	if first {
		known = a.known
	}

	for _, p := range a.snap.swap(s) {
		a.log.WarnContext(ctx, "directory problem", "condition", p.Condition, "text", p.String())
	}

	a.stacks.take(s, known)
	a.begun.Store(true)
	a.changed()
}

// portRetry is the time between attempts to listen at a port that somebody else has.
const portRetry = time.Second
