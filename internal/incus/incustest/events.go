package incustest

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/lxc/incus/v6/shared/api"
)

const (
	// pingEvery is how often Incus pings a listener.
	pingEvery = 10 * time.Second
	// lateBy is how late a reordered event is.
	lateBy = 50 * time.Millisecond
	// backlog is how far a listener may fall behind before it is cut off.
	backlog = 1000
)

// EventFaults make events go wrong with the given probabilities, from 0 to 1.
type EventFaults struct {
	Drop, Duplicate, Reorder float64
	// Seed makes the misfortune repeatable.
	Seed uint64
}

// streams are the open event streams. Server.mu guards it.
type streams struct {
	open   map[*stream]bool
	faults EventFaults
	rand   *rand.Rand
	// frozen streams say nothing and hear nothing, and look open.
	frozen bool
}

// stream is one listener.
type stream struct {
	ws       *websocket.Conn
	project  string // empty for all
	queue    chan []byte
	closed   chan struct{}
	isClosed bool
}

// FaultEvents makes events go wrong from now on; the zero value ends it.
func (s *Server) FaultEvents(f EventFaults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.faults = f
	s.events.rand = rand.New(rand.NewPCG(f.Seed, f.Seed))
}

// CutEvents closes all event streams, and nothing else.
func (s *Server) CutEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.events.open {
		s.drop(st)
	}
}

// FreezeEvents makes event streams half open: events are lost and pings unanswered, but no connection ends. New
// streams are refused until it is lifted.
func (s *Server) FreezeEvents(frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.frozen = frozen
}

// Listeners returns the number of open event streams.
func (s *Server) Listeners() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events.open)
}

// drop ends a stream; the caller holds the lock.
func (s *Server) drop(st *stream) {
	if !st.isClosed {
		st.isClosed = true
		close(st.closed)
	}
	delete(s.events.open, st)
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("type") != api.EventTypeLifecycle {
		s.violation(r)(w) // each exec would add operation events: nobody should ask for them
		return
	}
	st := &stream{queue: make(chan []byte, backlog), closed: make(chan struct{})}
	if q.Get("all-projects") != "true" {
		st.project = project(r)
	}
	s.mu.Lock()
	life, frozen := s.life, s.events.frozen
	s.mu.Unlock()
	if frozen {
		panic(http.ErrAbortHandler)
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	st.ws = ws
	s.mu.Lock()
	select {
	case <-life: // it restarted meanwhile
		s.mu.Unlock()
		_ = ws.Close()
		return
	default:
	}
	s.events.open[st] = true
	s.working.Add(2)
	s.mu.Unlock()
	go func() { defer s.working.Done(); s.hear(st) }()
	go func() { defer s.working.Done(); s.tell(st, life) }()
}

// hear answers pings and notices the end.
func (s *Server) hear(st *stream) {
	pong := st.ws.PingHandler()
	st.ws.SetPingHandler(func(data string) error {
		s.mu.Lock()
		frozen := s.events.frozen
		s.mu.Unlock()
		if frozen {
			return nil
		}
		return pong(data)
	})
	_, _, _ = st.ws.NextReader()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(st)
}

// tell writes events and pings, the first of them at once.
func (s *Server) tell(st *stream, life chan struct{}) {
	defer func() { _ = st.ws.Close() }()
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	err := st.ws.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(5*time.Second))
	for err == nil {
		select {
		case <-st.closed:
			return
		case <-life:
			return
		case <-t.C:
			s.mu.Lock()
			frozen := s.events.frozen
			s.mu.Unlock()
			if !frozen {
				err = st.ws.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(5*time.Second))
			}
		case b := <-st.queue:
			_ = st.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
			err = st.ws.WriteMessage(websocket.TextMessage, b)
		}
	}
}

// emit sends a lifecycle event; the caller holds the lock. Only instances' events carry a name.
func (s *Server) emit(project, action, source, name string, user *api.EventLifecycleRequestor, context map[string]any) {
	meta, err := json.Marshal(api.EventLifecycle{
		Action: action, Source: source, Context: context, Requestor: user, Name: name, Project: project,
	})
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(api.Event{Type: api.EventTypeLifecycle, Timestamp: time.Now(), Metadata: meta, Location: "none", Project: project})
	if err != nil {
		panic(err)
	}
	f, roll := s.events.faults, s.events.rand
	for st := range s.events.open {
		if s.events.frozen || st.project != "" && st.project != project || f.Drop > 0 && roll.Float64() < f.Drop {
			continue
		}
		times := 1
		if f.Duplicate > 0 && roll.Float64() < f.Duplicate {
			times = 2
		}
		for range times {
			if f.Reorder > 0 && roll.Float64() < f.Reorder {
				time.AfterFunc(lateBy, func() {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.send(st, b)
				})
				continue
			}
			s.send(st, b)
		}
	}
}

// send queues an event, or cuts off a listener that is too slow.
func (s *Server) send(st *stream, b []byte) {
	if st.isClosed {
		return
	}
	select {
	case st.queue <- b:
	default:
		s.drop(st)
	}
}

// Emit sends any lifecycle event, as of something this server does not model. The name is shown for instances
// only, as Incus does.
func (s *Server) Emit(project, action, source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := ""
	if strings.HasPrefix(action, "instance-") {
		name = source[strings.LastIndex(source, "/")+1:]
	}
	s.emit(project, action, source, name, s.requestor(), nil)
}
