package incus

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/lxc/incus/v6/shared/api"
)

const (
	// silentFor is how long an event stream may say nothing at all before it counts as dead: Incus pings
	// every 10 s.
	silentFor = 60 * time.Second
	// settleAfter is how long after connecting everything counts as unread at the latest.
	settleAfter = time.Second
	// maxHints is how many distinct hints are kept for a slow reader; more become one Resync.
	maxHints = 1024
	// steady is how long a connection has to last to count as a good one.
	steady = 10 * time.Second
)

// Hint says that something may have changed: look again. Hints may be missing, doubled or out of order.
type Hint struct {
	// Resync means that anything may have changed; the other fields are empty.
	Resync bool
	// Project is the Incus project, Kind the object's kind in Incus's words ("instance", "network",
	// "project", "storage-volume", "image", …), Name its name.
	Project, Kind, Name string
	// Action is what happened in Incus's words: "instance-shutdown".
	Action string
	// User is who asked for it ("root"); empty when nobody did: the app ended by itself, or the change
	// came by PATCH.
	User string
}

// Hints calls on for every hint until ctx ends, then returns its error. Each new connection begins with a
// Resync, and a lost one is taken up again after 0.1 s growing to 5 s. Calls come one at a time; while one lasts,
// equal hints are merged and too many become a Resync.
func (c *Client) Hints(ctx context.Context, on func(Hint)) error {
	q := &queue{wake: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() { q.deliver(ctx, on) })
	defer wg.Wait()
	lost := false
	for try := 1; ctx.Err() == nil; try++ {
		began := time.Now()
		connected, err := c.listen(ctx, q, lost)
		if ctx.Err() != nil {
			break
		}
		if connected || !lost {
			c.log.WarnContext(ctx, "event stream lost, reconnecting", "err", err)
		}
		lost = true
		if connected && time.Since(began) > steady {
			try = 1
		}
		_ = pause(ctx, jitter(min(100*time.Millisecond<<min(try-1, 10), 5*time.Second)))
	}
	return ctx.Err()
}

// listen connects once and reads until the connection ends.
func (c *Client) listen(ctx context.Context, q *queue, again bool) (connected bool, err error) {
	dialer := websocket.Dialer{
		NetDialContext:   func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		HandshakeTimeout: c.opt.ReadTimeout,
	}
	v := url.Values{"type": {api.EventTypeLifecycle}, "all-projects": {"true"}}
	conn, resp, err := dialer.DialContext(ctx, "ws://custom.socket/1.0/events?"+v.Encode(), http.Header{"User-Agent": {"ic-agent"}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return false, classify(ctx, err, false)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c.forget() // the server may be another one now
	if again {
		c.log.InfoContext(ctx, "event stream back")
	}
	return true, read(conn, q)
}

// read turns frames into hints until the connection ends or falls silent.
func read(conn *websocket.Conn, q *queue) error {
	// Incus registers a listener just after the handshake, then pings: only from then on is nothing missed.
	resync := sync.OnceFunc(func() { q.push(Hint{Resync: true}) })
	late := time.AfterFunc(settleAfter, resync)
	defer late.Stop()
	alive := func() error { return conn.SetReadDeadline(time.Now().Add(silentFor)) }
	conn.SetReadLimit(1 << 20)
	conn.SetPingHandler(func(data string) error {
		resync()
		err := conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(slack))
		if err != nil {
			return err
		}
		return alive()
	})
	for {
		err := alive()
		if err != nil {
			return err
		}
		_, data, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		h, ok := parseHint(data)
		if ok {
			q.push(h)
		}
	}
}

// parseHint reads an event; ok is false for what tells of no change.
func parseHint(data []byte) (h Hint, ok bool) {
	var e api.Event
	err := json.Unmarshal(data, &e)
	if err != nil || e.Type != api.EventTypeLifecycle {
		return h, false
	}
	var l api.EventLifecycle
	err = json.Unmarshal(e.Metadata, &l)
	if err != nil || reading(l.Action) {
		return h, false
	}
	h = Hint{Project: l.Project, Name: l.Name, Action: l.Action, Kind: kindOfAction(l.Action)}
	if h.Project == "" {
		h.Project = e.Project
	}
	if h.Name == "" {
		h.Name = nameOf(l.Source) // only instances carry their name
	}
	if l.Requestor != nil {
		h.User = l.Requestor.Username
	}
	return h, true
}

// reading tells of actions that change nothing we look at; some are caused by looking.
func reading(action string) bool {
	return strings.HasSuffix(action, "-retrieved") || action == "instance-exec" || action == "instance-console"
}

// kindOfAction returns "storage-volume" of "storage-volume-created" and "instance" of "instance-shutdown".
func kindOfAction(action string) string {
	for _, kind := range []string{"storage-pool", "storage-volume", "storage-bucket", "image-alias", "network-acl", "network-forward", "network-zone", "network-peer", "cluster-group", "cluster-member", "certificate"} {
		if strings.HasPrefix(action, kind+"-") {
			return kind
		}
	}
	kind, _, _ := strings.Cut(action, "-")
	return kind
}

// nameOf returns the last element of a source URL.
func nameOf(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.Path[strings.LastIndex(u.Path, "/")+1:]
}

// queue hands hints from the connection to a slower reader.
type queue struct {
	wake chan struct{} // of size one

	mu   sync.Mutex
	list []Hint
	seen map[Hint]bool
}

func (q *queue) push(h Hint) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.seen[h] {
		return
	}
	if len(q.list) >= maxHints {
		h = Hint{Resync: true}
		q.list, q.seen = nil, nil
	}
	if q.seen == nil {
		q.seen = map[Hint]bool{}
	}
	q.seen[h] = true
	q.list = append(q.list, h)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) take() []Hint {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.list
	q.list, q.seen = nil, nil
	return list
}

func (q *queue) deliver(ctx context.Context, on func(Hint)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
		}
		for _, h := range q.take() {
			if ctx.Err() != nil {
				return
			}
			on(h)
		}
	}
}
