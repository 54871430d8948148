package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/api"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// supplied is Incus as the loops see it: each pull gets its image from where it must come from, happens once
// however many stacks ask for it, and can be watched.
type supplied struct {
	*incus.Client
	images *image.Resolver
	log    *slog.Logger
	// changed is told when there is something new to see.
	changed func()

	mu    sync.Mutex
	pulls map[string]*pull // by fingerprint
}

// pull is one that is under way.
type pull struct {
	op     plan.PullImage
	since  time.Time
	supply image.Supply
	stage  string
	done   chan struct{}
	err    error // when done is closed
}

// Do implements apply.Server.
func (s *supplied) Do(ctx context.Context, project string, op plan.Op) error {
	asked, ok := op.(plan.PullImage)
	if !ok {
		return s.Client.Do(ctx, project, op)
	}

	s.mu.Lock()
	p, underway := s.pulls[asked.Want]
	if !underway {
		p = &pull{op: asked, since: time.Now(), done: make(chan struct{})}
		if s.pulls == nil {
			s.pulls = map[string]*pull{}
		}

		s.pulls[asked.Want] = p
	}
	s.mu.Unlock()
	if !underway {
		p.err = s.pull(ctx, project, p)
		s.mu.Lock()
		delete(s.pulls, asked.Want)
		s.mu.Unlock()
		close(p.done)
		s.changed()
	}

	select {
	case <-p.done:
		if underway && p.err == nil && p.op.Config != asked.Config {
			return s.Client.Do(ctx, project, asked) // which says that the image that came is another one
		}

		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *supplied) pull(ctx context.Context, project string, p *pull) error {
	supply, err := s.images.Supply(ctx, p.op)
	if err != nil {
		return fmt.Errorf("pull %w", err)
	}

	defer supply.Close()

	s.mu.Lock()
	p.supply = supply
	s.mu.Unlock()
	s.log.InfoContext(ctx, "pulling image", "image", p.op.Ref, "bytes", p.op.Size, "through_agent", supply.Relayed)
	s.changed()

	op := p.op
	op.Server, op.Alias = supply.Server, supply.Alias
	err = s.Client.Do(ctx, project, op)
	if err != nil && supply.Relayed && strings.Contains(err.Error(), "no such host") {
		return fmt.Errorf("%w: Incus does not find the agent's relay: is /etc/containers/registries.conf.d/ic-agent.conf of the package there?", err)
	}

	return err
}

// progress notes at which stage a pull is, in Incus's words.
func (s *supplied) progress(fingerprint, stage string) {
	stage, _, _ = strings.Cut(stage, ":") // "Generating rootfs tarball: 12MB (3MB/s)"

	s.mu.Lock()
	p := s.pulls[fingerprint]
	news := p != nil && p.stage != stage
	if news {
		p.stage = stage
	}
	s.mu.Unlock()
	if news {
		s.log.Info("pulling image", "image", p.op.Ref, "stage", stage)
		s.changed()
	}
}

// underway lists the pulls, the oldest first.
func (s *supplied) underway() []api.Pull {
	s.mu.Lock()
	defer s.mu.Unlock()

	var out []api.Pull
	for _, p := range s.pulls {
		out = append(out, api.Pull{Image: p.op.Ref, Stage: p.stage, Sent: p.supply.Sent(), Size: p.op.Size, Since: p.since})
	}

	slices.SortFunc(out, func(a, b api.Pull) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Image, b.Image))
	})

	return out
}
