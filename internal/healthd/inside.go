package healthd

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
	"github.com/incus-compose/ic-agent/internal/incus"
)

// inside makes a probe from within the instance's network, through Incus: for a daemon that has no network, and for an
// instance without an address that the host could connect to. It costs a process on the host, as a command does. What
// Incus does not bring about says nothing: only what answers, or that nobody listens, is the instance's.
func (p prober) inside(ctx context.Context, i health.Instance, probe health.Probe, timeout time.Duration) health.Result {
	leave, err := p.gate.enter(ctx)
	if err != nil {
		return health.Result{Verdict: health.NoAnswer, Output: "called off"}
	}

	defer leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addr, err := addressOf(i.Devices, probe.Device)
	at := addr.String()
	if err != nil {
		at = "127.0.0.1"
	}

	patience := time.AfterFunc(startBudget, cancel)
	first, err := p.c.Forward(ctx, i.ID.Project, i.ID.Name, at, probe.At())
	patience.Stop()
	leave()
	switch {
	case errors.Is(err, incus.ErrNoListener):
		return health.Result{Verdict: health.Failed, Code: 1, Output: err.Error()}
	case err != nil:
		return health.Result{Verdict: health.NoAnswer, Output: err.Error()}
	}

	defer func() { _ = first.Close() }()
	used := false
	through := way(func(ctx context.Context, _, address string) (net.Conn, error) {
		if !used {
			used = true
			return first, nil
		}

		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}

		n, err := strconv.Atoi(port)
		if err != nil {
			return nil, err
		}

		return p.c.Forward(ctx, i.ID.Project, i.ID.Name, host, n)
	})

	return through.dial(ctx, at, probe, timeout)
}
