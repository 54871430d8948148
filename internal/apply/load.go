package apply

import (
	"context"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// load parses the files when they changed; a project that cannot be loaded leaves the last good one in force.
func (l *Loop) load(ctx context.Context, found *findings) {
	src := l.src
	l.turn.Hash = src.Hash
	switch {
	case src.Problem != "":
		found.add("Invalid", plan.ID{}, src.Problem)
		return
	case src.Stack == "":
		return
	case src.Hash != "" && src.Hash == l.loaded:
		return
	}

	err := l.host.loads.Acquire(ctx, 1)
	if err != nil {
		return // the agent ends
	}

	p, err := l.host.Load(ctx, src)
	l.host.loads.Release(1)
	if err != nil {
		if ctx.Err() == nil {
			found.add("Invalid", plan.ID{}, err.Error())
		}

		return
	}

	if l.host.Refer != nil {
		l.host.Refer(l.stack, p.Files)
	}

	old := l.led.Project
	if old != nil && old.Incus != p.Incus {
		found.add("Invalid", plan.ID{}, "the project's name changed from "+old.Name+" to "+p.Name+
			", which would leave what runs as "+old.Name+" behind: put \"name: "+old.Name+"\" at the top, or take the file away until "+
			old.Name+" has stopped and give it another file name then")
		return
	}

	l.loaded = src.Hash

	if l.led.Pin != nil && l.led.Pin.File == p.Hash {
		// It was read to know what it refers to, and its secrets; what is wanted is what somebody went back to.
		pinned := l.led.Project.Unlocked(p)
		l.led.Project, l.turn.Project = &pinned, &pinned

		return
	}

	l.led.Pin = nil
	for _, s := range p.Services {
		delete(l.led.Confirmed, s.Name) // its removal was, and this is its return
	}

	if l.led.Project != nil && l.led.Project.Hash == p.Hash {
		l.led.Project, l.turn.Project = &p, &p
		l.led.Unsettled = nil

		return
	}

	l.accept(p, l.author(p), l.why())
}

// why is the cause of a generation that a file brought.
func (l *Loop) why() string {
	if l.led.Project == nil {
		return "new stack"
	}

	return "the file changed"
}

// author is who wrote the project's main file.
func (l *Loop) author(p plan.Project) string {
	if l.host.Author == nil {
		return ""
	}

	return l.host.Author(p.Source)
}

// inherit goes on with what is known of the stack under its former name: its file was renamed.
func (l *Loop) inherit(former string) {
	led, err := l.host.Ledger.Load(l.stack)
	if err != nil || led.Project == nil || led.Project.Incus != l.led.Project.Incus {
		return // Nothing is known of it: what it has is found again in Incus.
	}

	now := *l.led.Project
	l.led, l.lost, l.fresh, l.outcome = led, false, nil, ""
	l.led.RemovedAt, l.led.Orphan, l.led.Confirmed = time.Time{}, false, nil
	l.env = newEnvironment(led.Generation)
	for ref := range led.Images {
		l.env.refreshed[ref] = true // A new name is no reason to ask what is newer.
	}

	l.host.book.seed(l.led)
	switch {
	case led.Pin != nil && led.Pin.File == now.Hash:
		pinned := *led.Project
		pinned.Stack, pinned.Source = now.Stack, now.Source
		pinned.Unlock(now)
		l.led.Project = &pinned
	case led.Project.Hash == now.Hash:
		l.led.Project = &now
	default:
		l.accept(now, l.author(now), "the file was renamed, from "+former+", and changed")
	}

	l.turn.Project = l.led.Project
	l.log.Info("file renamed", "was", former, "generation", l.led.Generation)
}
