package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/build"
	"github.com/incus-compose/ic-agent/internal/image"
	"github.com/incus-compose/ic-agent/internal/plan"
)

const (
	// buildTime bounds one build.
	buildTime = 2 * time.Hour
	// firstRebuild doubles up to lastRebuild: a build that failed for want of a network is tried again, one that
	// failed because of its Dockerfile costs no more than this.
	firstRebuild = time.Minute
	lastRebuild  = 6 * time.Hour
	// shownLines are those of a failed build that its condition shows, keptLines those that are kept.
	shownLines = 8
	keptLines  = 400
)

// builds makes images of sources in the background, one at a time, and remembers what became of them.
type builds struct {
	keys     build.Keys
	client   build.Client
	images   *image.Resolver
	authFile string
	log      *slog.Logger
	one      chan struct{} // holds a token while a build runs

	mu  sync.Mutex
	ctx context.Context //nolint:containedctx // the builds' common life, set once by run
	wg  sync.WaitGroup
	// byKey are those that are being made or failed; done are the directories of those that were made.
	byKey map[string]*job
	done  map[string]string
}

// job is one build.
type job struct {
	since    time.Time
	running  bool
	lines    []string
	err      error
	failures int
	retryAt  time.Time
	ready    []func()
}

func newBuilds(images *image.Resolver, authFile string, log *slog.Logger) *builds {
	return &builds{
		client: build.Client{Path: build.Socket}, images: images, authFile: authFile, log: log, one: make(chan struct{}, 1),
		byKey: map[string]*job{}, done: map[string]string{},
	}
}

// Image implements apply.Builds.
func (b *builds) Image(_ context.Context, s apply.Sources) (plan.Image, error) {
	service := strings.TrimPrefix(s.Ref.Ref, s.Project+"-")
	key, _, err := b.keys.Key(s.Project, service, *s.Ref.Build)
	if err != nil {
		return plan.Image{}, err
	}

	if s.Old.BuildKey == key && s.Here && !(s.Names && s.Old.Users == nil) {
		return s.Old, nil
	}

	b.mu.Lock()
	dir := b.done[key]
	b.mu.Unlock()
	if dir == "" {
		dir = build.Out(build.Cache, key) // made before this agent was started
	}

	img, err := b.images.Directory(dir, s.Ref.Ref, s.Names)
	switch {
	case err == nil:
		img.BuildKey = key
		return img, nil
	case !errors.Is(err, image.ErrGone):
		return plan.Image{}, err
	}

	return plan.Image{}, b.begin(key, s)
}

// begin starts a build, or says how the one of this key goes.
func (b *builds) begin(key string, s apply.Sources) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	j := b.byKey[key]
	now := time.Now()
	switch {
	case j == nil:
		j = &job{}
		b.byKey[key] = j
	case j.running:
		j.ready = append(j.ready, s.Ready)
		return fmt.Errorf("its image %w, since %s", apply.ErrBuilding, j.since.Format(time.TimeOnly))
	case now.Before(j.retryAt) && !s.Again:
		return fmt.Errorf("its build failed: %w\n  %s", j.err, strings.Join(last(j.lines, shownLines), "\n  "))
	}

	j.running, j.since, j.lines, j.ready = true, now, nil, []func(){s.Ready}
	req := build.Request{Key: key, Name: s.Ref.Ref, Spec: *s.Ref.Build, Platform: s.Ref.Platform, AuthFile: b.authFile}
	b.wg.Go(func() { b.make(j, req, s.Stack) })

	return fmt.Errorf("its image %w, since %s", apply.ErrBuilding, now.Format(time.TimeOnly))
}

// make runs one build to its end.
func (b *builds) make(j *job, req build.Request, stack string) {
	ctx, cancel := context.WithTimeout(b.ctx, buildTime)
	defer cancel()

	dir, err := "", error(nil)
	select {
	case b.one <- struct{}{}:
		b.log.InfoContext(ctx, "building image", "stack", stack, "image", req.Name, "key", req.Key[:12])
		dir, err = b.client.Build(ctx, req, func(line string) { b.said(ctx, j, stack, req.Name, line) })
		<-b.one
	case <-ctx.Done():
		err = ctx.Err()
	}

	b.mu.Lock()
	took := time.Since(j.since).Round(time.Millisecond)
	j.running, j.err = false, err
	ready := j.ready
	j.ready = nil
	if err == nil {
		b.done[req.Key] = dir
		delete(b.byKey, req.Key)
	} else {
		wait := min(firstRebuild<<min(j.failures, 10), lastRebuild)
		j.failures++
		j.retryAt = time.Now().Add(wait - rand.N(wait/4))
	}
	b.mu.Unlock()

	if b.ctx.Err() != nil {
		return
	}

	if err == nil {
		b.log.InfoContext(ctx, "image built", "stack", stack, "image", req.Name, "took", took)
	} else {
		b.log.WarnContext(ctx, "build failed", "stack", stack, "image", req.Name, "took", took, "err", err)
	}

	for _, f := range ready {
		f()
	}
}

// said notes a line of a builder's output.
func (b *builds) said(ctx context.Context, j *job, stack, name, line string) {
	b.log.DebugContext(ctx, "build", "stack", stack, "image", name, "line", line)
	b.mu.Lock()
	defer b.mu.Unlock()

	j.lines = last(append(j.lines, line), keptLines)
}

func last(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }
