package apply

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// ErrBuilding says that the image is being made of its sources.
var ErrBuilding = errors.New("is being built")

// lookAtSources is how often the sources of builds are looked at.
const lookAtSources = time.Minute

// environment caches what a loop learned from outside Incus for the project in force.
type environment struct {
	// generation is the one that refreshed is about; a new one asks again.
	generation uint64
	refreshed  map[string]bool
	// tried is when a registry was last asked in vain about an image that is known.
	tried map[string]time.Time
}

// newEnvironment has nothing asked yet for a generation.
func newEnvironment(generation uint64) environment {
	return environment{generation: generation, refreshed: map[string]bool{}, tried: map[string]time.Time{}}
}

// tryAgain is the time between two such questions.
const tryAgain = time.Minute

// ask is what a stack wants to know of one reference.
type ask struct {
	ref    plan.ImageRef
	names  bool
	update plan.UpdatePolicy
}

// builds tells whether the image is made here rather than fetched.
func (a ask) builds() bool {
	return a.ref.Build != nil && a.ref.Pull != "always" && a.ref.Pull != "missing"
}

func (l *Loop) asked(p plan.Project) map[string]ask {
	out := map[string]ask{}
	for _, s := range p.Services {
		a, again := out[s.Image.Ref]
		build := a.ref.Build
		if !again || s.Image.Build != nil {
			a.ref = s.Image
		}

		a.ref.Build = cmp.Or(a.ref.Build, build)
		a.names = a.names || plan.NeedsNames(s.Process.User) || plan.NamesGroups(s.Sandbox.Groups) ||
			slices.ContainsFunc(slices.Concat(s.PostStart, s.PreStop), func(h plan.Hook) bool { return plan.NeedsNames(h.User) })
		a.update = s.ServiceExtension.Update.Over(a.update)
		out[s.Image.Ref] = a
	}

	for _, s := range p.Services {
		for _, m := range s.Mounts {
			_, again := out[m.Source]
			if m.Type == plan.MountImage && !again {
				out[m.Source] = ask{ref: plan.ImageRef{Ref: m.Source, At: m.At}}
			}
		}
	}

	return out
}

// found is what is known of the images of a stack, written by several goroutines.
type found struct {
	mu      sync.Mutex
	known   map[string]plan.Image
	missing map[string]plan.Blocked
	blocked []plan.Blocked
}

// images finds the images of a stack. A reference stays what it was first found to be until the file changes it, asks
// for "pull_policy: always" in a new generation, or an update policy lets a newer one in. What it cannot find is
// missing; blocked says why an image that is there is not the one that is wanted.
func (l *Loop) images(ctx context.Context, p plan.Project, have plan.Observed) (map[string]plan.Image, map[string]plan.Blocked, []plan.Blocked) {
	if l.env.generation != l.led.Generation {
		l.env = newEnvironment(l.led.Generation)
	}

	all := l.asked(p)
	asked := maps.Clone(all)
	newer := l.checkUpdates(ctx, asked)
	f := &found{known: map[string]plan.Image{}, missing: map[string]plan.Blocked{}}
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()

	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	maps.DeleteFunc(asked, func(key string, a ask) bool {
		settled := !a.builds() && !l.stale(key, a, newer[key])
		if settled {
			f.known[key] = l.led.Images[key]
		}

		return settled
	})

	for key, a := range asked {
		old := l.led.Images[key]
		group.Go(func() error {
			if a.builds() {
				l.built(gctx, f, p.Name, key, a, old, have)
			} else {
				l.resolved(gctx, f, p.Name, key, a, old, have)
			}

			return nil
		})
	}

	_ = group.Wait() // the functions return no errors
	l.neverPulled(f, all, have)
	distinguish(f.known, have)
	if len(f.missing) == 0 && !maps.EqualFunc(f.known, l.led.Images, func(a, b plan.Image) bool { return a.Fingerprint == b.Fingerprint }) {
		l.led.Earlier = l.led.Images
	}

	l.led.Images = f.known
	l.taken()
	slices.SortFunc(f.blocked, func(a, b plan.Blocked) int { return cmp.Compare(a.On.Name, b.On.Name) })

	return f.known, f.missing, f.blocked
}

// stale tells whether a registry has to be asked about an image.
func (l *Loop) stale(key string, a ask, newer bool) bool {
	old, known := l.led.Images[key]
	if !known || a.names && old.Users == nil {
		return true
	}

	wanted := newer || old.BuildKey != "" || a.ref.Pull == "always" && !l.env.refreshed[key]

	return wanted && time.Since(l.env.tried[key]) >= tryAgain
}

// resolved asks the registry, and has the image built where it has none and the file says how.
func (l *Loop) resolved(ctx context.Context, f *found, project, key string, a ask, old plan.Image, have plan.Observed) {
	if a.ref.Pull == "never" && old.Ref == "" {
		return
	}

	img, err := l.host.Images.Resolve(ctx, a.ref, a.names)
	temporary := err != nil && (l.host.Temporary == nil || l.host.Temporary(err))
	if err != nil && !temporary && a.ref.Build != nil {
		l.built(ctx, f, project, key, a, old, have)
		return
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	switch {
	case err == nil:
		f.known[key] = img
		l.env.refreshed[key] = true
	case old.Ref != "" && !(a.names && old.Users == nil):
		f.known[key] = old
		l.env.tried[key] = time.Now()
		l.atLatest(time.Now().Add(tryAgain))
	default:
		f.missing[key] = plan.Blocked{Reason: err.Error(), Temporary: temporary}
	}
}

// built asks for the image of what the sources are now. While it is being made, or cannot be, the old one stays.
func (l *Loop) built(ctx context.Context, f *found, project, key string, a ask, old plan.Image, have plan.Observed) {
	img, err := plan.Image{}, errors.New("this agent builds no images: name one that is in a registry")
	_, here := have.Images[old.Fingerprint]
	if l.host.Builds != nil {
		img, err = l.host.Builds.Image(ctx, Sources{
			Stack: l.stack, Project: project, Ref: a.ref, Names: a.names, Old: old, Here: here, Again: l.asking, Ready: l.Dirty,
		})
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	l.atLatest(time.Now().Add(lookAtSources))
	if err == nil {
		f.known[key] = img
		return
	}

	building := errors.Is(err, ErrBuilding)
	b := plan.Blocked{Reason: err.Error(), At: a.ref.Build.At, Waits: building, Temporary: !building}
	if old.Ref == "" || !here || a.names && old.Users == nil {
		f.missing[key] = b
		return
	}

	f.known[key] = old
	b.On = plan.ID{Kind: plan.KindImage, Name: key}
	b.Reason += "; what runs stays as it is"
	f.blocked = append(f.blocked, b)
}

// neverPulled takes out what would have to be fetched although the file forbids it.
func (l *Loop) neverPulled(f *found, asked map[string]ask, have plan.Observed) {
	for key, a := range asked {
		if a.ref.Pull != "never" || a.builds() {
			continue
		}

		_, here := have.Images[f.known[key].Fingerprint]
		if here {
			continue
		}

		delete(f.known, key)
		f.missing[key] = plan.Blocked{
			Reason: "the image " + key + " is not on this host, and pull_policy never forbids to fetch it: fetch it once with pull_policy missing",
		}
	}
}

// distinguish gives fingerprints of their own to images that have the same layers as another one, of Incus or of the
// same stack, and another config.
func distinguish(known map[string]plan.Image, have plan.Observed) {
	configs := map[string]string{} // by fingerprint
	for fp, img := range have.Images {
		configs[fp] = img.Config
	}

	for _, key := range slices.Sorted(maps.Keys(known)) {
		img := distinct(known[key], configs[known[key].Fingerprint], have)
		known[key] = img
		configs[img.Fingerprint] = img.Config
	}
}

// distinct is the image under a fingerprint of its own where another one with the same layers has another config.
// What runs already goes on under the name it has.
func distinct(img plan.Image, other string, have plan.Observed) plan.Image {
	if img.Marked || other == "" || img.Config == "" || other == img.Config || img.MarkedFingerprint == "" {
		return img
	}

	for _, inst := range have.Instances {
		if inst.Fingerprint == img.Fingerprint && inst.Config[plan.KeyImage] == plan.Pinned(img) {
			return img
		}
	}

	img.Marked, img.Fingerprint = true, img.MarkedFingerprint

	return img
}

// atLatest has the loop look again at that time, if nothing wakes it before.
func (l *Loop) atLatest(t time.Time) {
	if l.checkAt.IsZero() || t.Before(l.checkAt) {
		l.checkAt = t
	}
}

// taken forgets the updates that have been taken, and those of references that are gone.
func (l *Loop) taken() {
	maps.DeleteFunc(l.led.Updates, func(key string, _ plan.Update) bool {
		_, wanted := l.led.Images[key]
		return !wanted
	})
	for key, u := range l.led.Updates {
		if u.Digest != "" && u.Digest == l.led.Images[key].Digest {
			u.Digest, u.Seen = "", time.Time{}
			l.led.Updates[key] = u
		}
	}
}
