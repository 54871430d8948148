package apply_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/files"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// crowd counts how many do something slow at once.
type crowd struct {
	mu         sync.Mutex
	busy, most int
}

func (c *crowd) enter() {
	c.mu.Lock()
	c.busy++
	c.most = max(c.most, c.busy)
	c.mu.Unlock()
	time.Sleep(time.Second)
	c.mu.Lock()
	c.busy--
	c.mu.Unlock()
}

// slowServer takes a second for each look.
type slowServer struct {
	apply.Server

	looks *crowd
}

func (s slowServer) Observe(ctx context.Context, project string) (plan.Observed, error) {
	s.looks.enter()

	return s.Server.Observe(ctx, project)
}

// TestManyStacksTakeTurns: forty stacks that look and read their files at once, as after a boot, are no more than a few
// at a time for Incus and for the host; all come to their turn.
func TestManyStacksTakeTurns(t *testing.T) {
	inBubble(t, func(b *bench) {
		const stacks = 40
		var looks, loads crowd
		host := &apply.Host{
			Server: slowServer{files.Host{Server: b.client, Store: files.Store{Dir: b.placed, Chown: giveAway}}, &looks},
			Ledger: b.db, Subnets: b.db, Images: b.images, Owner: owner, Domain: "incus", History: b.db,
			Pool: netip.MustParsePrefix("10.202.0.0/16"), Log: slog.New(slog.DiscardHandler),
			Load: func(_ context.Context, src apply.Source) (plan.Project, error) {
				loads.enter()
				p := blog(src.Hash)
				p.Stack, p.Name, p.Incus, p.Services = src.Stack, src.Stack, src.Stack, p.Services[1:]
				p.Services[0].DependsOn, p.Services[0].Files, p.Networks[0].Incus = nil, nil, src.Stack+"-default"

				return p, nil
			},
		}
		host.Prepare(nil)
		ctx, cancel := context.WithCancel(b.t.Context())
		var wg sync.WaitGroup
		var loops []*apply.Loop
		for i := range stacks {
			name := fmt.Sprintf("s%d", i)
			l := apply.New(host, name)
			wg.Go(func() { _ = l.Run(ctx) })
			l.Changed(apply.Source{Stack: name, Files: []string{name + ".yaml"}, Hash: "1"}, nil)
			loops = append(loops, l)
		}

		b.pass(10 * time.Minute)
		for i, l := range loops {
			if v := l.View(); v.State != apply.InSync {
				b.t.Errorf("s%d is %s: %v", i, v.State, v.Ledger.Conditions)
			}
		}

		cancel()
		wg.Wait()
		if looks.most > 4 || loads.most > 4 || looks.most < 2 || loads.most < 2 {
			b.t.Errorf("%d looks and %d readings at once", looks.most, loads.most)
		}
	})
}
