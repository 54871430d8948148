package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// History keeps generations.
type History interface {
	// Record keeps one, and always those in keep.
	Record(stack string, g plan.Generation, keep ...uint64) error
	// Amend changes what is kept about one, but not its contents.
	Amend(stack string, number uint64, change func(*plan.Generation)) error
	// Generation returns one with its contents.
	Generation(stack string, number uint64) (plan.Generation, error)
}

// accept makes a project the wanted one, as a new generation.
func (l *Loop) accept(p plan.Project, who, why string) {
	l.led.Generation++
	l.led.Project = &p
	l.led.Unsettled = nil
	l.turn.Project = &p
	l.fresh = &plan.Generation{Number: l.led.Generation, At: time.Now(), Hash: p.Hash, Who: who, Why: why}
	l.outcome = ""
}

// renewed begins a generation where an image of the one in force has become another one, and says whether it did.
func (l *Loop) renewed(before, now map[string]plan.Image) bool {
	if l.fresh != nil {
		return false
	}

	var changed []string
	for _, ref := range slices.Sorted(maps.Keys(now)) {
		old, known := before[ref]
		if known && old.Digest != now[ref].Digest {
			changed = append(changed, fmt.Sprintf("%s is %.19s now", ref, now[ref].Digest))
		}
	}

	if len(changed) > 0 {
		l.accept(*l.led.Project, "ic-agent", "another image: "+strings.Join(changed, ", "))
		l.env.generation = l.led.Generation
	}

	return len(changed) > 0
}

// chronicle keeps the generation in force, once everything about it is known.
func (l *Loop) chronicle(ctx context.Context, images map[string]plan.Image, p plan.Plan) {
	if l.fresh == nil || l.host.History == nil {
		return
	}

	g := l.fresh
	g.Project, g.Images, g.Digests = l.led.Project, images, map[string]string{}
	for ref, img := range images {
		g.Digests[ref] = img.Digest
	}

	if !p.Empty() && g.Plan == "" {
		g.Plan = p.String()
	}

	if g.Files == nil {
		g.Files = l.contents(*l.led.Project)
	}

	var keep []uint64
	for _, v := range l.led.Good {
		keep = append(keep, v.Generation)
	}

	err := l.host.History.Record(l.stack, *g, keep...)
	if err != nil {
		l.log.ErrorContext(ctx, "generation not kept: going on without", "generation", g.Number, "err", err)
	}

	complete := !slices.ContainsFunc(g.Project.Services, func(s plan.Service) bool { return g.Digests[s.Image.Ref] == "" })
	if complete || err != nil {
		l.fresh = nil
	}
}

// contents reads the files a project was made from; those that hold a secret are only named.
func (l *Loop) contents(p plan.Project) []plan.KeptFile {
	var out []plan.KeptFile
	for _, path := range p.Files {
		f := plan.KeptFile{Path: path}
		switch {
		case slices.Contains(p.SecretFiles, path):
			f.Omitted = "it holds a secret"
		case l.host.ReadFile != nil:
			var err error
			f.Content, err = l.host.ReadFile(path)
			if err != nil {
				f.Omitted = err.Error()
			}
		}

		out = append(out, f)
	}

	return out
}

// shortest is the length from which a secret is taken out of texts: shorter ones would leave nothing to read.
const shortest = 4

// secretsOf lists the contents of a project's secrets, without the line break at their end.
func secretsOf(p plan.Project) []string {
	var out []string
	for _, f := range p.Secrets() {
		content := strings.TrimRight(string(f.Secret.Reveal()), "\r\n")
		if len(content) >= shortest {
			out = append(out, content)
		}
	}

	return out
}

// conclusion says what has become of the generation in force, "" while that is open.
func (l *Loop) conclusion() string {
	var wrong []string
	open := false
	for _, name := range slices.Sorted(maps.Keys(l.led.Rollouts)) {
		ro := l.led.Rollouts[name]
		switch ro.Phase {
		case plan.HeldBack:
			wrong = append(wrong, name+" went back: "+ro.Reason)
		case plan.Paused:
			wrong = append(wrong, name+" is paused: "+ro.Reason)
		default:
			open = true
		}
	}

	switch {
	case len(wrong) > 0:
		return strings.Join(wrong, "; ")
	case !open && l.turn.State == Scheduled:
		return "waits for the window"
	case open || l.turn.State != InSync && l.turn.State != Blocked:
		return ""
	case l.turn.State == Blocked:
		return "blocked"
	}

	for _, s := range l.led.Project.Services {
		if s.Replicas > 0 && l.led.Good[s.Name].Hash != l.led.Project.Hash {
			return "applied"
		}
	}

	return "did well"
}

// amend notes what has become of the generation in force, when that is new.
func (l *Loop) amend() {
	if l.led.Project == nil || l.host.History == nil {
		return
	}

	outcome := l.conclusion()
	var evidence []string
	for _, name := range slices.Sorted(maps.Keys(l.led.Rollouts)) {
		if e := l.led.Rollouts[name].Evidence; e != "" {
			evidence = append(evidence, e)
		}
	}

	if outcome == "" || outcome == l.outcome {
		return
	}

	err := l.host.History.Amend(l.stack, l.led.Generation, func(g *plan.Generation) {
		if g.Outcome != outcome {
			g.Outcome, g.OutcomeAt = outcome, time.Now()
		}

		if len(evidence) > 0 {
			g.Evidence = strings.Join(evidence, "\n")
		}
	})
	if err != nil {
		l.log.Error("outcome not kept: going on without", "err", err)
	}

	l.outcome = outcome
}

// Rollback makes an earlier generation the wanted one, until the file changes; by is who asks.
func (l *Loop) Rollback(generation uint64, by string, done chan<- struct{}) {
	l.post(func(m *mail) {
		m.rollback = &order{generation: generation, by: by}
		m.dirty = true
		if done != nil {
			m.waiters = append(m.waiters, done)
		}
	})
}

// goTo carries out a Rollback.
func (l *Loop) goTo(o order) {
	if l.led.Project == nil || l.host.History == nil {
		return
	}

	g, err := l.host.History.Generation(l.stack, o.generation)
	if err == nil && g.Project.Incus != l.led.Project.Incus {
		err = fmt.Errorf("it was the project %s", g.Project.Name)
	}

	if err != nil {
		l.log.Error("rollback refused", "generation", o.generation, "by", o.by, "err", err)
		return
	}

	file := l.led.Project.Hash
	if l.led.Pin != nil {
		file = l.led.Pin.File
	}

	l.led.Pin = &plan.Pin{Generation: o.generation, File: file, By: o.by, At: time.Now()}
	images := maps.Clone(l.led.Images)
	if images == nil {
		images = map[string]plan.Image{}
	}

	maps.Copy(images, g.Images)
	l.led.Images, l.led.Rollouts = images, nil
	l.hasten("")
	l.accept(g.Project.Unlocked(*l.led.Project), o.by, fmt.Sprintf("rollback to generation %d", o.generation))
	l.env = newEnvironment(l.led.Generation)
	for ref := range g.Images {
		l.env.refreshed[ref] = true // It is to be this very image, whatever the registry has by now.
	}

	l.notBefore, l.failures = time.Time{}, 0
	l.log.Info("rollback", "generation", o.generation, "by", o.by)
}

// pinned says, while a Rollback holds, that the file is another one than what runs.
func (l *Loop) pinned(found *findings) {
	pin := l.led.Pin
	if pin == nil {
		return
	}

	found.add("Pinned", plan.ID{}, fmt.Sprintf(
		"%s went back to generation %d: the file differs from what runs. Edit the file, or run \"ic-agent retry %s\", to go on with it; \"ic-agent diff %s\" shows the difference",
		pin.By, pin.Generation, l.stack, l.stack))
}
