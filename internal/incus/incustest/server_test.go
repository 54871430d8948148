package incustest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/incus"
	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// ask makes a raw request and returns the status and the error or metadata as JSON.
func ask(t *testing.T, dial func(context.Context) (net.Conn, error), method, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://incus"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	var answer struct {
		Error    string
		Metadata json.RawMessage
	}
	err = json.Unmarshal(b, &answer)
	if err != nil {
		return resp.StatusCode, string(b)
	}
	return resp.StatusCode, answer.Error + string(answer.Metadata)
}

func TestWhatIsNotModelledFailsLoudly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		defer srv.Close()
		for _, call := range []struct{ method, path string }{
			{"GET", "/1.0/warnings"},
			{"POST", "/1.0/instances/web/console"},
			{"GET", "/1.0/instances?recursion=2"},
			{"GET", "/1.0/instances"},
			{"PATCH", "/1.0/networks/br"},
			{"GET", "/1.0/events?type=operation"},
		} {
			status, text := ask(t, srv.Dial, call.method, call.path, "")
			if status != http.StatusNotImplemented || !strings.Contains(text, call.method+" "+call.path) {
				t.Errorf("%s %s: %d %s", call.method, call.path, status, text)
			}
			if !slices.Contains(srv.Violations(), call.method+" "+call.path) {
				t.Errorf("%s %s is not among %v", call.method, call.path, srv.Violations())
			}
		}
	})
}

func TestFaultsHitTheCallsTheyName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		defer srv.Close()
		srv.Fail(incustest.Fault{Method: "GET", Path: "/1.0/projects/*", Nth: 2, Times: 2, Status: 503, Message: "not now"})
		var got []int
		for range 5 {
			status, _ := ask(t, srv.Dial, "GET", "/1.0/projects/default", "")
			got = append(got, status)
		}
		if d := cmp.Diff([]int{200, 503, 503, 200, 200}, got); d != "" {
			t.Error(d)
		}
		srv.Fail(incustest.Fault{Path: "/1.0", Delay: time.Minute})
		began := time.Now()
		status, _ := ask(t, srv.Dial, "GET", "/1.0", "")
		if status != 200 || time.Since(began) != time.Minute {
			t.Errorf("%d after %s", status, time.Since(began))
		}
		srv.Fail(incustest.Fault{Method: "POST", Project: "blog", DropAnswer: true})
		status, _ = ask(t, srv.Dial, "POST", "/1.0/projects?project=blog", `{"name":"p1"}`)
		_, made := srv.Project("p1")
		if status != 0 || !made {
			t.Errorf("answered %d, made: %v", status, made)
		}
		srv.Fail(incustest.Fault{Method: "POST", Drop: true})
		_, _ = ask(t, srv.Dial, "POST", "/1.0/projects", `{"name":"p2"}`)
		if _, made = srv.Project("p2"); made {
			t.Error("a dropped call was carried out")
		}
		srv.Fail(incustest.Fault{Times: -1, Status: 500})
		srv.Mend()
		status, _ = ask(t, srv.Dial, "GET", "/1.0", "")
		if status != 200 {
			t.Errorf("mended, yet %d", status)
		}
	})
}

func TestCallsAreRecordedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		defer srv.Close()
		ask(t, srv.Dial, "GET", "/1.0", "")
		ask(t, srv.Dial, "POST", "/1.0/projects?project=x", `{"name":"p1"}`)
		got := fmt.Sprint(srv.Calls(), srv.Writes(), srv.Writes()[0].Project)
		if want := "[GET /1.0 POST /1.0/projects] [POST /1.0/projects]x"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		srv.ForgetCalls()
		if len(srv.Calls()) > 0 {
			t.Error("they were not forgotten")
		}
	})
}

func TestAFinishedOperationIsForgottenAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		defer srv.Close()
		srv.AddImage("https://docker.io", "library/busybox", incustest.Image{Fingerprint: "f"})
		_, text := ask(t, srv.Dial, "POST", "/1.0/images", `{"source":{"type":"image","mode":"pull","protocol":"oci","server":"https://docker.io","alias":"library/busybox"}}`)
		var op struct{ ID string }
		err := json.Unmarshal([]byte(text), &op)
		if err != nil {
			t.Fatal(err, text)
		}
		status, text := ask(t, srv.Dial, "GET", "/1.0/operations/"+op.ID+"/wait?timeout=1", "")
		if status != 200 || !strings.Contains(text, `"fingerprint":"f"`) {
			t.Errorf("%d %s", status, text)
		}
		time.Sleep(6 * time.Second)
		status, text = ask(t, srv.Dial, "GET", "/1.0/operations/"+op.ID, "")
		if status != 404 || text != "Operation not found" && !strings.HasPrefix(text, "Operation not found") {
			t.Errorf("%d %s", status, text)
		}
	})
}

func TestARestartKeepsTheWorldAndForgetsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{Delays: incustest.Delays{Start: time.Minute}})
		defer srv.Close()
		srv.StoreImage("default", incustest.Image{Fingerprint: "f"}, false)
		c := incus.New(incus.Options{Dial: srv.Dial})
		err := c.Do(t.Context(), "default", plan.CreateInstance{Name: "web", Fingerprint: "f", Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}}})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = c.Do(t.Context(), "default", plan.StartInstance{Name: "web"}) }()
		time.Sleep(time.Second)
		status, text := ask(t, srv.Dial, "PATCH", "/1.0/instances/web", `{"config":{"user.a":"1"}}`)
		if status != 500 || !strings.Contains(text, `Instance is busy running a "start" operation`) {
			t.Errorf("%d %s", status, text)
		}
		srv.Restart()
		status, text = ask(t, srv.Dial, "PATCH", "/1.0/instances/web", `{"config":{"user.a":"1"}}`)
		if status != 200 {
			t.Errorf("%d %s", status, text)
		}
		time.Sleep(2 * time.Minute)
		i, found := srv.Instance("default", "web")
		if !found || i.Status != "Stopped" || i.Config["user.a"] != "1" {
			t.Errorf("found %v, %s, %v", found, i.Status, i.Config)
		}
	})
}

func TestAccessorsGiveCopies(t *testing.T) {
	srv := incustest.New(incustest.Options{})
	defer srv.Close()
	n, found := srv.Network("incusbr0")
	if !found {
		t.Fatal("no incusbr0")
	}
	n.Config["ipv4.nat"] = "changed"
	p, _ := srv.Project("default")
	p.Config["features.images"] = "changed"
	n, _ = srv.Network("incusbr0")
	p, _ = srv.Project("default")
	if n.Config["ipv4.nat"] == "changed" || p.Config["features.images"] == "changed" {
		t.Error("the world can be changed from outside")
	}
}

func TestItServesAUnixSocket(t *testing.T) {
	srv := incustest.New(incustest.Options{})
	path := t.TempDir() + "/unix.socket"
	err := srv.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	c := incus.New(incus.Options{Socket: path})
	got, err := c.Server(t.Context())
	if err != nil || got.Version != "7.0.2" {
		t.Errorf("got %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan incus.Hint, 1)
	done := make(chan error)
	go func() { done <- c.Hints(ctx, func(h incus.Hint) { first <- h }) }()
	if h := <-first; !h.Resync {
		t.Errorf("the first hint is %+v", h)
	}
	cancel()
	err = <-done
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Hints ended with %v", err)
	}
	srv.Close()
	_, err = c.Server(t.Context())
	if err == nil {
		t.Error("a closed server answers")
	}
}

func TestAStoppedAppThatNobodyWaitsForIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := incustest.New(incustest.Options{})
		defer srv.Close()
		srv.StoreImage("default", incustest.Image{Fingerprint: "f"}, false)
		srv.SetApp("default", "web", incustest.App{StopsAfter: 5 * time.Second})
		c := incus.New(incus.Options{Dial: srv.Dial})
		err := c.Do(t.Context(), "default", plan.CreateInstance{Name: "web", Fingerprint: "f", Start: true, Devices: map[string]plan.Device{"root": {"type": "disk", "path": "/", "pool": "default"}}})
		if err != nil {
			t.Fatal(err)
		}
		_, text := ask(t, srv.Dial, "PUT", "/1.0/instances/web/state", `{"action":"stop","timeout":1}`)
		if !strings.Contains(text, `"status":"Running"`) {
			t.Fatal(text)
		}
		time.Sleep(2 * time.Second)
		status, _ := ask(t, srv.Dial, "PATCH", "/1.0/instances/web", `{"config":{"user.a":"1"}}`)
		if status != 500 {
			t.Errorf("the lock of a timed-out stop is gone: %d", status)
		}
		time.Sleep(10 * time.Second)
		i, _ := srv.Instance("default", "web")
		status, _ = ask(t, srv.Dial, "PATCH", "/1.0/instances/web", `{"config":{"user.a":"1"}}`)
		if i.Status != "Stopped" || status != 200 {
			t.Errorf("%s, then %d", i.Status, status)
		}
	})
}
