//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	incusapi "github.com/lxc/incus/v6/client"
	"github.com/lxc/incus/v6/shared/api"
)

// edited is ten services of which the first two have a variable and end at once: how long an application takes to end is
// not what is measured. Only the first one's is the value; the second is the hand's.
func edited(value int) string {
	text := tenYAML()
	for _, v := range []string{strconv.Itoa(value), "same"} {
		text = strings.Replace(text, "command: [sleep, inf]\n", "command: [\"sleep\", inf]\n    stop_signal: SIGKILL\n    environment: {ROUND: "+v+"}\n", 1)
	}

	return text
}

// threeCalls makes by hand what an edit of one variable needs: stop, patch, start.
func threeCalls(t *testing.T, c incusapi.InstanceServer, value int) time.Duration {
	t.Helper()
	p := c.UseProject("ten")
	begin := time.Now()
	state := func(action string) {
		op, err := p.UpdateInstanceState("s1-1", api.InstanceStatePut{Action: action, Timeout: 10}, "")
		if err == nil {
			err = op.Wait()
		}

		if err != nil {
			t.Fatal(err)
		}
	}

	state("stop")
	body := strings.NewReader(fmt.Sprintf(`{"config": {"environment.HAND": "%d"}}`, value))
	_, _, err := c.RawQuery(http.MethodPatch, "/1.0/instances/s1-1?project=ten", body, "")
	if err != nil {
		t.Fatal(err)
	}

	state("start")

	return time.Since(begin)
}

// startOf returns when an instance of the stack was started next, by Incus's own event.
func startOf(t *testing.T, c incusapi.InstanceServer, name string, act func()) time.Time {
	t.Helper()
	l, err := c.GetEventsAllProjectsByType([]string{"lifecycle"})
	if err != nil {
		t.Fatal(err)
	}

	defer l.Disconnect()
	started := make(chan time.Time, 8)
	_, err = l.AddHandler(nil, func(e api.Event) {
		var life api.EventLifecycle
		if json.Unmarshal(e.Metadata, &life) == nil && life.Action == "instance-started" && strings.Contains(life.Source, "/"+name+"?project=ten") {
			started <- e.Timestamp
		}
	})
	if err != nil {
		t.Fatal(err)
	}

	act()
	select {
	case at := <-started:
		return at
	case <-time.After(time.Minute):
		t.Fatalf("%s was not started within a minute", name)
	}

	return time.Time{}
}

// TestEdit compares an edit of one service's environment in a stack of ten with the same three calls by hand.
func TestEdit(t *testing.T) {
	c := connect(t)
	base := root(t)
	ctx, stop := context.WithCancel(t.Context())
	events, err := watchEvents(ctx, connect(t), "ten", services)
	if err != nil {
		t.Fatal(err)
	}

	rename(t, base, "ten", edited(0))
	events.last(t)
	stop()
	defer forgetTen(t, c)

	var agent, hand []time.Duration
	for i := range rounds {
		sh(t, "ic-agent reload --wait")
		hand = append(hand, threeCalls(t, c, i))
		sh(t, "ic-agent reload --wait") // it takes away what the hand wrote, and is quiet then
		var begin time.Time
		end := startOf(t, connect(t), "s0-1", func() { begin = rename(t, base, "ten", edited(i+1)) })
		agent = append(agent, end.Sub(begin))
	}

	fmt.Printf("\none variable of one service in a stack of ten, medians of %d rounds in turn\n", rounds)
	fmt.Printf("  %-44s %8s\n", "stop, patch, start by hand", median(hand).Round(time.Millisecond))
	fmt.Printf("  %-44s %8s\n", "ic-agent, from the file's rename", median(agent).Round(time.Millisecond))
	fmt.Printf("  %-44s %8.2f   (goal 1.30)\n", "ratio", float64(median(agent))/float64(median(hand)))
}
