package plan

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// RolloutPolicy says how a running service is changed, or goes back (compose-spec "deploy", update_config and
// rollback_config). The zero value is the default of each field.
type RolloutPolicy struct {
	// Parallelism is how many instances change at a time; 0 means one, negative means all.
	Parallelism int
	// Delay is between one group's end and the next one's begin.
	Delay time.Duration
	// Monitor is for how long an instance has to be well after its change; 0 means 10 s from healthy on, or 30 s
	// from its start where there is no check, and, on the way back, not at all.
	Monitor time.Duration
	// Action is what follows when it is not: "rollback" (also when empty), "pause" or "continue"; on the way back
	// "pause" (also when empty) or "continue".
	Action string
	// MaxFailureRatio is the share of instances that may fail, 0 to 1.
	MaxFailureRatio float64
	// Order is "start-first", "stop-first", or empty: start-first where nothing forbids it.
	Order string
}

// The words of RolloutPolicy.
const (
	ActionPause    = "pause"
	ActionContinue = "continue"
	StopFirst      = "stop-first"
	StartFirst     = "start-first"
)

// Version is what a service is made from, kept so that the service can go back to it with neither its files nor a
// registry.
type Version struct {
	// Generation, Hash and Digest name it: the stack's generation, the files' hash, the image's digest.
	Generation uint64
	Hash       string
	Digest     string
	Service    Service
	Image      Image
	// Networks and Volumes are those the service uses.
	Networks []Network
	Volumes  []Volume
	// Addresses are those its instances had, by Incus network and instance.
	Addresses map[string]map[string]netip.Addr
}

// Phase is how far an update has come.
type Phase string

// The phases of an update. The empty one is on its way.
const (
	// GoingBack: it failed, and its instances return to the version before.
	GoingBack Phase = "going back"
	// HeldBack: they have, and it is not tried again.
	HeldBack Phase = "held"
	// Paused: it failed, and everything stays as it is.
	Paused Phase = "paused"
)

// Rollout is an update of a service that is under way, or was given up.
type Rollout struct {
	// Hash and Digest name the version: the files' hash and the image's digest. When one changes it is another
	// update.
	Hash, Digest string
	Generation   uint64
	Phase        Phase
	Since        time.Time
	// Trials are the instances that were changed, by name; Returns those that went back.
	Trials, Returns map[string]Trial
	// Surge is the candidate that is started before any of them changes; nil where none is.
	Surge *Trial
	// NotBefore is when the next instance may change (delay).
	NotBefore time.Time
	// Unsaved says why the snapshot before it could not be taken; until NotBefore, the version before runs on.
	Unsaved string
	// Reason says what went wrong; empty while nothing has.
	Reason string
	// Evidence is what the failed instance last wrote and what its probe said.
	Evidence string
}

// Trial is an instance after its change.
type Trial struct {
	// Boot is the spec (KeyBoot) it is tried with.
	Boot string
	// Moved is when it was changed; Start is its start as Incus tells it, zero before it was seen.
	Moved, Start time.Time
	Passed       bool
	// Tries counts how often it was started again on its way back.
	Tries int
	// Failed says why it is no good; empty when it is.
	Failed string
}

func (t Trial) ended() bool { return t.Passed || t.Failed != "" }

// Widen returns the project with everything that the good versions of its services need beside what it has itself, so
// that addresses and networks of both are at hand.
func Widen(p Project, good map[string]Version) Project {
	wide := p
	wide.Services = slices.Clone(p.Services)
	for i, s := range p.Services {
		v, known := good[s.Name]
		if !known || v.Hash == p.Hash {
			continue
		}

		for _, n := range v.Networks {
			if !slices.ContainsFunc(wide.Networks, func(o Network) bool { return o.Name == n.Name }) {
				wide.Networks = append(slices.Clip(wide.Networks), n)
			}
		}

		for _, vol := range v.Volumes {
			if !slices.ContainsFunc(wide.Volumes, func(o Volume) bool { return o.Name == vol.Name }) {
				wide.Volumes = append(slices.Clip(wide.Volumes), vol)
			}
		}

		for _, a := range v.Service.Networks {
			if !slices.ContainsFunc(s.Networks, func(o Attachment) bool { return o.Network == a.Network }) {
				wide.Services[i].Networks = append(slices.Clip(wide.Services[i].Networks), a)
			}
		}
	}

	return wide
}

// Unlocked is Unlock for a project that others see: it changes a copy.
func (p Project) Unlocked(now Project) Project {
	p.Services = slices.Clone(p.Services)
	for i := range p.Services {
		p.Services[i].Files = slices.Clone(p.Services[i].Files)
	}

	p.Unlock(now)

	return p
}

// Before spells out the services that are not the version they last did well with, as that version. wide is the
// widened project, in what its present version is rendered with.
func Before(wide Project, good map[string]Version, in Input) Desired {
	before, differs := wide, map[string]bool{}
	before.Services = slices.Clone(wide.Services)
	in.Images, in.Addresses = maps.Clone(in.Images), maps.Clone(in.Addresses)
	for i, s := range wide.Services {
		v, known := good[s.Name]
		if !known || v.Hash == wide.Hash && v.Digest == in.Images[s.Image.Ref].Digest {
			continue
		}

		differs[s.Name] = true
		old := v.Service
		old.Replicas = s.Replicas
		old.Image.Ref = goodRef + s.Name
		in.Images[old.Image.Ref] = v.Image
		before.Services[i] = old
		for network, addrs := range v.Addresses {
			in.Addresses[network] = maps.Clone(in.Addresses[network])
			if in.Addresses[network] == nil {
				in.Addresses[network] = map[string]netip.Addr{}
			}

			maps.Copy(in.Addresses[network], addrs)
		}
	}

	if len(differs) == 0 {
		return Desired{}
	}

	before = before.Unlocked(wide)
	d := Render(before, in)
	d.Instances = slices.DeleteFunc(d.Instances, func(w DesiredInstance) bool { return !differs[w.Service] })

	return d
}

// goodRef begins the reference under which a good version's image is looked up: the reference as written may mean
// another image by now.
const goodRef = "good:"

// versionOf is what a service is made from now.
func versionOf(p Project, s Service, in []DesiredInstance, generation uint64, addresses map[string]map[string]netip.Addr) Version {
	v := Version{
		Generation: generation, Hash: p.Hash, Digest: in[0].Image.Digest, Service: s, Image: in[0].Image,
		Addresses: map[string]map[string]netip.Addr{},
	}
	for _, n := range p.Networks {
		if !slices.ContainsFunc(s.Networks, func(a Attachment) bool { return a.Network == n.Name }) {
			continue
		}

		v.Networks = append(v.Networks, n)
		for _, w := range in {
			addr, ok := addresses[n.Incus][w.Name]
			if !ok {
				continue
			}

			if v.Addresses[n.Incus] == nil {
				v.Addresses[n.Incus] = map[string]netip.Addr{}
			}

			v.Addresses[n.Incus][w.Name] = addr
		}
	}

	for _, vol := range p.Volumes {
		if slices.ContainsFunc(s.Mounts, func(m Mount) bool { return m.Type == MountVolume && m.Source == vol.Name }) {
			v.Volumes = append(v.Volumes, vol)
		}
	}

	return v
}
