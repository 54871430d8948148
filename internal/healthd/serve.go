package healthd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// listen opens the status socket for root, our own user and the group incus-admin. One that a crash left is
// replaced.
func listen(path string) (net.Listener, error) {
	conn, err := net.Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open the status socket: another ic-healthd serves %s", path)
	}

	fi, err := os.Lstat(path)
	if err == nil && fi.Mode().Type() == fs.ModeSocket {
		err = os.Remove(path)
	}

	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the status socket: %w", err)
	}

	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the status socket: %w", err)
	}

	g, err := user.LookupGroup("incus-admin")
	if err == nil {
		gid, _ := strconv.Atoi(g.Gid)
		_ = os.Chown(path, -1, gid) // not one of our groups: it stays with ours
	}

	err = os.Chmod(path, 0o660)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the status socket: %w", err), l.Close())
	}

	return l, nil
}

// viewer is what the socket shows.
type viewer interface {
	View(ctx context.Context) (health.View, error)
	Late(now time.Time) time.Duration
}

// stalled is how long the loop may be at one thing, or turn too late, before it counts as dead.
const stalled = 10 * time.Second

// serve answers GET /status with a health.View, /metrics for Prometheus, /health (the loop turns) and /ready (everything was read once)
// with 200 or 503, until ctx ends.
func serve(ctx context.Context, l net.Listener, v viewer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		view, err := v.View(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}

		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view)
	})
	mux.Handle("GET /metrics", metrics{v}.handler())
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		late := v.Late(time.Now())
		if late > stalled {
			http.Error(w, "the loop has not turned for "+late.String(), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		view, err := v.View(r.Context())
		if err != nil || !view.Summary.Ready || view.Summary.Away {
			http.Error(w, "Incus has not been read", http.StatusServiceUnavailable)
		}
	})
	srv := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}

	return err
}

// ask reads the status of the daemon at a socket.
func askStatus(ctx context.Context, path string) (health.View, error) {
	var v health.View
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ic-healthd/status", nil)
	if err != nil {
		return v, err
	}

	resp, err := c.Do(req)
	if err != nil {
		return v, fmt.Errorf("ask ic-healthd at %s: %w (is it running? systemctl status ic-healthd)", path, errors.Unwrap(err))
	}

	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("ask ic-healthd at %s: %s", path, resp.Status)
	}

	err = json.NewDecoder(resp.Body).Decode(&v)
	if err != nil {
		return v, fmt.Errorf("read the answer of ic-healthd: %w", err)
	}

	return v, nil
}
