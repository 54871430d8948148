//go:build bench

package apply_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/apply"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// hardTimes are edits, kills of the agent, ends of programs, verdicts and failures of Incus and of the registry, in an
// order that a number stands for.
type hardTimes struct {
	*bench
	roll    *rand.Rand
	version int
	last    plan.Project
	story   []string
	stopped []string // by hand
}

func (h *hardTimes) say(format string, args ...any) {
	h.story = append(h.story, fmt.Sprintf(format, args...))
}

// next is another version of the stack, which may be a bad one (its web ends at once).
func (h *hardTimes) next(bad bool) plan.Project {
	h.version++
	m := fmt.Sprint("v", h.version)
	if bad {
		m = fmt.Sprint("bad", h.version)
	}

	change := []func(*plan.Project){mode(m)}
	switch h.roll.IntN(4) {
	case 0:
		change = append(change, check)
	case 1:
		change = append(change, first)
	case 2:
		change = append(change, policy(func(s *plan.Service) { s.Replicas = 1 + h.roll.IntN(3) }))
	}

	h.last = blog(strconv.Itoa(h.version), change...)
	h.say("edit %s, %d replicas", m, h.last.Services[1].Replicas)

	return h.last
}

func (h *hardTimes) post(p plan.Project) {
	h.files.Store(p.Hash, p)
	h.loop.Changed(apply.Source{Stack: "blog", Files: []string{p.Source}, Hash: p.Hash}, nil)
}

func (h *hardTimes) step() {
	switch h.roll.IntN(11) {
	case 0, 1:
		h.post(h.next(h.roll.IntN(3) == 0))
	case 2:
		h.say("killed")
		h.end()
		h.begin()
		if h.last.Hash != "" {
			h.post(h.last)
		}
	case 3:
		faults := []incustest.Fault{
			{Status: http.StatusInternalServerError},
			{Status: http.StatusServiceUnavailable},
			{Status: http.StatusConflict, Message: "in use"},
			{Status: http.StatusPreconditionFailed, Message: "ETag doesn't match"},
			{Drop: true},
			{DropAnswer: true},
			{Garbage: true},
			{Delay: 3 * time.Second},
		}
		f := faults[h.roll.IntN(len(faults))]
		f.Method = []string{"", "GET", "PUT", "PATCH", "POST"}[h.roll.IntN(5)]
		f.Path, f.Nth, f.Times = "/1.0/*", 1+h.roll.IntN(6), 1+h.roll.IntN(4)
		h.say("%+v", f)
		h.server.Fail(f)
	case 4:
		names := h.server.Instances("blog")
		if len(names) > 0 {
			name := names[h.roll.IntN(len(names))]
			code := h.roll.IntN(2)
			if name == "theirs" {
				return
			}

			err := h.server.Exit("blog", name, code)
			h.say("%s ends with %d: %v", name, code, err)
		}
	case 5, 6:
		d := time.Duration(h.roll.IntN(40)) * time.Second
		h.say("%s pass", d)
		h.pass(d)
	case 7:
		h.say("mended")
		h.server.Mend()
	case 8:
		d := time.Duration(h.roll.IntN(200)) * time.Second
		h.say("the file is gone for %s", d)
		h.loop.Gone(nil)
		h.pass(d)
		if h.last.Hash != "" {
			h.post(h.last)
		} else {
			h.post(h.next(false))
		}
	case 9:
		names := h.server.Instances("blog")
		if len(names) == 0 {
			return
		}

		name := names[h.roll.IntN(len(names))]
		if name != "theirs" {
			h.say("%s stopped by hand", name)
			_ = h.client.Do(h.t.Context(), "blog", plan.StopInstance{Name: name, Grace: time.Second})
			h.loop.StoppedBy(name, "root", time.Now())
			h.stopped = append(h.stopped, name)
		}
	case 10:
		h.say("a call hangs until the agent is killed")
		h.server.Fail(incustest.Fault{Path: "/1.0/*", Nth: 1 + h.roll.IntN(12), Hang: true})
		h.post(h.next(h.roll.IntN(3) == 0))
		h.pass(time.Duration(h.roll.IntN(3000)) * time.Millisecond)
		h.end()
		h.server.Mend()
		h.begin()
		h.post(h.last)
	}

	h.pass(time.Duration(h.roll.IntN(700)) * time.Millisecond)
	h.judge()
}

// judge is the health daemon: what runs of a version that is not bad is healthy.
func (h *hardTimes) judge() {
	for _, n := range h.server.Instances("blog") {
		i, _ := h.server.Instance("blog", n)
		if !strings.HasPrefix(n, "web-") || i.Status != "Running" || i.Config["user.healthcheck.enabled"] != "true" {
			continue
		}

		status, detail := "healthy", fmt.Sprintf(`{"since":%q}`, time.Now().Format(time.RFC3339Nano))
		_ = h.client.Do(h.t.Context(), "blog", plan.UpdateInstance{Name: n, Config: map[string]string{plan.KeyHealthStatus: status, plan.KeyHealthDetail: detail}})
	}
}

// TestHardTimes: whatever comes, no volume is deleted, nothing of somebody else's is touched, no replica is lost, and in the
// end what the files last said runs, unmarked, and nothing is written any more. It is for long runs, by hand:
//
//	IC_SEEDS=1000 IC_FROM=1 go test -tags bench -timeout 1h -run TestHardTimes ./internal/apply
func TestHardTimes(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("IC_SEEDS"))
	from, _ := strconv.Atoi(os.Getenv("IC_FROM"))
	for seed := range max(n, 8) {
		hard(t, uint64(from+seed))
	}
}

func hard(t *testing.T, seed uint64) {
	inBubble(t, func(b *bench) {
		b.log = nil
		h := &hardTimes{bench: b, roll: rand.New(rand.NewPCG(seed, 1))}
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d: %s\n%s\n%v\n%s", seed, fmt.Sprintf(format, args...), strings.Join(h.story, "\n"), b.loop.View().Ledger.Conditions, b.loop.View().Plan)
		}
		for i := range 5 {
			b.server.SetApp("blog", fmt.Sprint("web-", i), incustest.App{Dies: func(c map[string]string) bool { return strings.HasPrefix(c["environment.MODE"], "bad") }})
		}

		b.good(blog("0"))
		b.must(plan.CreateVolume{Pool: "default", Name: "theirs", Config: map[string]string{"user.a": "b"}})
		b.must(plan.CreateInstance{
			Name: "theirs", Fingerprint: fingerprint("web:1"), Start: true, Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}},
		})
		theirs, _ := b.server.Instance("blog", "theirs")
		b.server.ForgetCalls()
		for range 25 {
			h.step()
		}

		b.server.Mend()
		for _, name := range h.stopped {
			_ = b.client.Do(b.t.Context(), "blog", plan.StartInstance{Name: name}) // one of a replica that is gone stays so
			b.loop.Touched(name)
		}

		h.post(h.next(false))
		for range 60 {
			b.pass(30 * time.Second)
			h.judge()
		}

		want := h.last.Services[1]
		for i := 1; i <= want.Replicas; i++ {
			inst, there := b.server.Instance("blog", fmt.Sprint("web-", i))
			if !there || inst.Status != "Running" || inst.Config["environment.MODE"] != want.Environment["MODE"] {
				fail("web-%d: there %v, %s, %s, want %s", i, there, inst.Status, inst.Config["environment.MODE"], want.Environment["MODE"])
			}

			if inst.Config[plan.KeySurge]+inst.Config[plan.KeyChanging]+inst.Config[plan.KeyParked]+inst.Config["user.healthcheck.stopped"] != "" {
				fail("web-%d is marked: %v", i, inst.Config)
			}
		}

		if s := b.loop.View().State; s != apply.InSync {
			fail("the stack is %s", s)
		}

		if after, there := b.server.Instance("blog", "theirs"); !there || !after.LastUsedAt.Equal(theirs.LastUsedAt) || after.Status != theirs.Status {
			fail("somebody else's instance is %v", after)
		}

		for _, c := range b.server.Writes() {
			if c.Method == "DELETE" && strings.Contains(c.Path, "volumes") || c.Method == "DELETE" && strings.HasSuffix(c.Path, "/web-1") {
				fail("%s %s", c.Method, c.Path)
			}

			if strings.Contains(c.Path, "theirs") {
				fail("%s %s", c.Method, c.Path)
			}
		}

		if _, there := b.server.Volume("blog", "default", "vol-data"); !there {
			fail("the data is gone")
		}

		b.server.ForgetCalls()
		b.pass(2 * time.Hour)
		if w := b.writes(); len(w) > 0 {
			fail("it does not rest: %v", w)
		}
	})
}
