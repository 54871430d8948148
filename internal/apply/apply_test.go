package apply_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/files"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
	"github.com/incus-compose/ic-agent/internal/state"
)

const owner = "0123456789abcdef"

// bench is a host with an Incus made of memory, one ledger file, and one loop, inside a synctest bubble.
type bench struct {
	t      *testing.T
	server *incustest.Server
	client *incus.Client
	images *registry
	path   string
	boot   string
	placed string
	log    *slog.Logger // nil for the test's own output
	files  sync.Map     // stack → func() (plan.Project, error)

	db   *state.DB
	host *apply.Host
	loop *apply.Loop
	stop func()
	deaf func()
}

// registry answers for every image; it can be away.
type registry struct {
	mu   sync.Mutex
	err  error
	asks int
	// manifests is the error of Resolve alone, as of a registry that limits what may be fetched.
	manifests error
	// revision makes every image another one.
	revision string
}

func (r *registry) Digest(_ context.Context, ref plan.ImageRef) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	img, err := r.answer(ref)
	return img.Digest, err
}

func (r *registry) Resolve(_ context.Context, ref plan.ImageRef, _ bool) (plan.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	img, err := r.answer(ref)

	return img, errors.Join(err, r.manifests)
}

func (r *registry) answer(ref plan.ImageRef) (plan.Image, error) {
	r.asks++
	if r.err != nil {
		return plan.Image{}, r.err
	}

	name := strings.ReplaceAll(ref.Ref, ":", "") + r.revision

	return plan.Image{
		Ref: "docker.io/library/" + ref.Ref, Digest: "sha256:" + name, Fingerprint: fingerprint(ref.Ref + r.revision),
		Server: "https://docker.io", Alias: "library/" + ref.Ref + r.revision, Cmd: []string{"serve"},
	}, nil
}

func (r *registry) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.err = err
}

func fingerprint(ref string) string { return strings.Repeat("0", 64-2*len(ref)) + hexOf(ref) }

func hexOf(s string) string {
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := range len(s) {
		b.WriteByte(digits[s[i]>>4])
		b.WriteByte(digits[s[i]&15])
	}

	return b.String()
}

// inBubble runs a test on a host of its own.
func inBubble(t *testing.T, test func(*bench)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, images: &registry{}, path: filepath.Join(dir, "state.db"), placed: filepath.Join(dir, "files")}
		b.server = incustest.New(incustest.Options{
			Delays: incustest.Delays{Create: 100 * time.Millisecond, Start: 200 * time.Millisecond, Stop: 100 * time.Millisecond, Pull: time.Second},
			Resolve: func(_, alias string) (incustest.Image, error) {
				return incustest.Image{Fingerprint: fingerprint(strings.TrimPrefix(alias, "library/"))}, nil
			},
		})
		b.client = incus.New(incus.Options{Dial: b.server.Dial})
		defer func() {
			b.server.Close()
			if v := b.server.Violations(); len(v) > 0 {
				t.Errorf("calls Incus does not have: %v", v)
			}
		}()
		b.begin()
		defer b.end() // after a Fatal too: goroutines left in a bubble end the whole test binary
		test(b)
	})
}

// begin starts the agent's part: the ledger is opened anew, as after a start of the process.
func (b *bench) begin() {
	b.t.Helper()
	db, err := state.Open(b.path, slog.New(slog.DiscardHandler))
	if err != nil {
		b.t.Fatal(err)
	}

	b.db = db
	led, err := db.Load("blog")
	if err != nil {
		b.t.Fatal(err)
	}

	b.host = &apply.Host{
		Server: files.Host{Server: b.client, Store: files.Store{Dir: b.placed, Chown: giveAway}}, FilesDir: b.placed, Ledger: db, Subnets: db, Images: b.images, Owner: owner, Domain: "incus",
		Pool: netip.MustParsePrefix("10.201.0.0/16"), Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
		Away:      func(err error) bool { return errors.Is(err, incus.ErrUnavailable) },
		Temporary: func(err error) bool { return errors.Is(err, image.ErrUnavailable) },
		Blame:     incus.Blame,
		Refused:   func(err error) bool { return errors.Is(err, incus.ErrRefused) },
		Rootless:  func(err error) bool { return errors.Is(err, incus.ErrRootless) },
		Boot:      b.boot,
		History:   db,
		ReadFile:  func(path string) ([]byte, error) { return []byte("what " + path + " says"), nil },
		Author:    func(string) string { return "alice" },
		Exit: func(ctx context.Context, project, name string) (int, bool, error) {
			e, err := b.client.ExitOf(ctx, project, name)
			return e.Code, e.Known, err
		},
		Load: func(_ context.Context, src apply.Source) (plan.Project, error) {
			load, ok := b.files.Load(src.Hash)
			if !ok {
				return plan.Project{}, errors.New("blog.yaml:1: broken")
			}

			return load.(plan.Project), nil
		},
	}
	if b.log != nil {
		b.host.Log = b.log
	}

	b.host.Prepare([]plan.Ledger{led})
	b.loop = apply.New(b.host, "blog")
	ctx, cancel := context.WithCancel(b.t.Context())

	var wg sync.WaitGroup
	hearing, deaf := context.WithCancel(ctx)
	b.deaf = deaf
	wg.Go(func() { _ = b.loop.Run(ctx) })
	wg.Go(func() {
		_ = b.client.Hints(hearing, func(h incus.Hint) {
			if h.Resync || h.Project == "blog" {
				b.loop.Dirty()
			}
		})
	})

	b.stop = func() {
		cancel()
		wg.Wait()
	}
}

// giveAway is a chown that needs no rights.
func giveAway(string, int, int) error { return nil }

// end stops it, as SIGTERM does.
func (b *bench) end() {
	b.t.Helper()
	b.stop()
	err := b.db.Close()
	if err != nil {
		b.t.Error(err)
	}
}

// quiet ends the event stream.
func (b *bench) quiet() {
	b.deaf()
	synctest.Wait()
}

// edit hands the loop a new version of the files and waits until it has acted on it.
func (b *bench) edit(p plan.Project) {
	b.t.Helper()
	b.files.Store(p.Hash, p)
	b.see(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash})
}

func (b *bench) see(src apply.Source) {
	b.t.Helper()
	done := make(chan struct{})
	b.loop.Changed(src, done)
	select {
	case <-done:
	case <-time.After(10 * time.Minute):
		b.t.Fatal("no pass within ten minutes")
	}

	time.Sleep(time.Second) // in a bubble: the passes that our own events cause
	synctest.Wait()
}

// mustBe checks the stack's state.
func (b *bench) mustBe(want apply.State) {
	b.t.Helper()
	v := b.loop.View()
	if v.State != want {
		b.t.Fatalf("the stack is %q, want %q: %v\n%s", v.State, want, v.Ledger.Conditions, v.Plan)
	}
}

// mustRun checks that exactly these instances run.
func (b *bench) mustRun(names ...string) {
	b.t.Helper()
	var got []string
	for _, n := range b.server.Instances("blog") {
		i, _ := b.server.Instance("blog", n)
		if i.Status == "Running" {
			got = append(got, n)
		}
	}

	if strings.Join(got, " ") != strings.Join(names, " ") {
		b.t.Fatalf("running: %v, want %v", got, names)
	}
}

// writes lists the calls that changed something since the last time.
func (b *bench) writes() []string {
	var out []string
	for _, c := range b.server.Writes() {
		out = append(out, c.Method+" "+c.Path)
	}

	b.server.ForgetCalls()

	return out
}

// blog is a stack of a database with a volume and a web server behind it.
func blog(hash string, change ...func(*plan.Project)) plan.Project {
	p := plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog", Source: "/etc/incus-compose.d/blog.yaml", Hash: hash,
		Networks: []plan.Network{{Name: "default", Incus: "blog-default"}},
		Volumes:  []plan.Volume{{Name: "data", Incus: "vol-data"}},
		Services: []plan.Service{
			{
				Name: "db", Image: plan.ImageRef{Ref: "pg:1"}, Replicas: 1, Networks: []plan.Attachment{{Network: "default"}},
				Mounts: []plan.Mount{{Type: plan.MountVolume, Source: "data", Target: "/data"}},
			},
			{
				Name: "web", Image: plan.ImageRef{Ref: "web:1"}, Replicas: 2, Networks: []plan.Attachment{{Network: "default"}},
				Environment: map[string]string{"MODE": "a"},
				DependsOn:   []plan.Dependency{{Service: "db", Condition: "service_started"}},
				Files:       []plan.File{{Target: "/conf", Content: []byte("a"), UID: -1, GID: -1}},
			},
		},
	}
	for _, c := range change {
		c(&p)
	}

	return p
}

func mode(v string) func(*plan.Project) {
	return func(p *plan.Project) { p.Services[1].Environment = map[string]string{"MODE": v} }
}
