package plan_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// withSecret is the blog whose web service has a secret of this content and reaction.
func withSecret(content, onChange string) plan.Project {
	p := blog()
	p.Hash = "hash of " + content
	p.Services[1].OnChange = onChange
	p.Services[1].Files = []plan.File{{
		Name: "pw", Target: "/run/secrets/pw", Confidential: true, Secret: plan.NewSecret([]byte(content)), UID: -1, GID: -1,
	}}
	p.Seal([]byte("the host's key"))

	return p
}

// A changed secret reaches its service as the file asks for, and no other way.
func TestChangedSecretIsReactedTo(t *testing.T) {
	for _, c := range []struct{ onChange, want string }{
		{"", `stack blog: 4 steps
[1] stop instance/web-1: configs or secrets changed
[2 after 1] place the files of instance/web-1: configs or secrets changed
[3 after 2] update instance/web-1: configs or secrets changed
[4 after 3] start instance/web-1: stopped for the change`},
		{"signal", `stack blog: 4 steps
[1] place the files of instance/web-1: configs or secrets changed
[2 after 1] update instance/web-1: configs or secrets changed
[3 after 2] send SIGHUP to instance/web-1: configs or secrets changed
[4 after 3] update instance/web-1: configs or secrets changed`},
		{"push", `stack blog: 2 steps
[1] place the files of instance/web-1: configs or secrets changed
[2 after 1] update instance/web-1: configs or secrets changed`},
		{"recreate", `stack blog: 6 steps
[1] stop instance/web-1: configs or secrets changed
[2 after 1] rebuild instance/web-1: configs or secrets changed
[3 after 2] place the files of instance/web-1: configs or secrets changed
[4 after 3] make the mount points of instance/web-1: configs or secrets changed
[5 after 4] update instance/web-1: configs or secrets changed
[6 after 5] start instance/web-1: stopped for the change`},
		{"none", `stack blog: nothing to do
warning services.web: the configs or secrets of web-1 changed, and on-change is none: it gets them when it is next started by the agent`},
	} {
		t.Run("on-change "+c.onChange, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			_, err := w.apply(withSecret("old", c.onChange), led)
			if err != nil {
				t.Fatal(err)
			}

			got, err := w.apply(withSecret("new", c.onChange), led)
			if err != nil {
				t.Fatal(err)
			}

			diff := cmp.Diff(c.want, strings.TrimSpace(got.String()))
			if diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}

			rest, err := w.apply(withSecret("new", c.onChange), led)
			if err != nil || !rest.Empty() {
				t.Errorf("left to do: %v\n%s", err, rest)
			}
		})
	}
}

// A signal that did not arrive is sent again.
func TestLostSignalIsSentAgain(t *testing.T) {
	w, led := newWorld(), newLedger()
	_, err := w.apply(withSecret("old", "signal"), led)
	if err != nil {
		t.Fatal(err)
	}

	p := withSecret("new", "signal")
	pl := plan.Diff(plan.Render(p, input(p, w.Observed, led)), w.Observed, *led)
	pl.Steps = pl.Steps[:2]
	err = w.run(pl)
	if err != nil {
		t.Fatal(err)
	}

	got, err := w.apply(p, led)
	if err != nil || !strings.Contains(got.String(), "send SIGHUP to instance/web-1") {
		t.Errorf("%v\n%s", err, got)
	}
}

// Files that the host has lost are placed again, and an instance that could not start without them is started; what
// runs is not touched.
func TestLostFilesAreReplaced(t *testing.T) {
	lose := func(w *world, status plan.Status, power string) {
		inst := w.Instances["web-1"]
		inst.Placed, inst.Status = "", status
		inst.Config["volatile.last_state.power"] = power
		w.Instances["web-1"], w.placed = inst, map[string]string{}
	}
	for _, c := range []struct {
		name   string
		status plan.Status
		power  string
		want   string
	}{
		{"running", plan.Running, "RUNNING", `stack blog: 1 step
[1] place the files of instance/web-1: its configs and secrets are not on the host`},
		{"not started at boot", plan.Stopped, "RUNNING", `stack blog: 2 steps
[1] place the files of instance/web-1: its configs and secrets are not on the host
[2 after 1] start instance/web-1: its configs and secrets are not on the host`},
		{"ended by itself", plan.Stopped, "STOPPED", `stack blog: 1 step
[1] place the files of instance/web-1: its configs and secrets are not on the host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			_, err := w.apply(withSecret("old", ""), led)
			if err != nil {
				t.Fatal(err)
			}

			lose(w, c.status, c.power)
			got, err := w.apply(withSecret("old", ""), led)
			diff := cmp.Diff(c.want, strings.TrimSpace(got.String()))
			if err != nil || diff != "" {
				t.Errorf("%v (-want +got)\n%s", err, diff)
			}
		})
	}
}

// A secret cannot be written down: not by an encoder, not by a log, not by a format; a project that went through an
// encoder still knows whether its secrets changed, and blocks only what would need their content.
func TestSecretIsNeverWrittenDown(t *testing.T) {
	const canary = "hunter2-canary"
	p := withSecret(canary, "")
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}

	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "project", p, "secret", p.Services[1].Files[0].Secret)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "project", p, "secret", p.Services[1].Files[0].Secret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb, p.Services[1].Files[0])
		fmt.Fprintf(&log, verb, p.Services[1].Files[0].Secret)
	}

	for _, text := range []string{string(b), log.String()} {
		for _, form := range []string{canary, fmt.Sprintf("%x", canary), strings.Trim(fmt.Sprint([]byte(canary)), "[]")} {
			if strings.Contains(text, form) {
				t.Errorf("the secret is in\n%s", text)
			}
		}
	}

	w, led := newWorld(), newLedger()
	_, err = w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	var again plan.Project
	err = json.Unmarshal(b, &again)
	if err != nil {
		t.Fatal(err)
	}

	got, err := w.apply(again, led)
	if err != nil || got.String() != "stack blog: nothing to do\n" {
		t.Errorf("%v\n%s", err, got)
	}

	inst := w.Instances["web-1"]
	inst.Placed = ""
	w.Instances["web-1"] = inst
	got, err = w.apply(again, led)
	want := "stack blog: nothing to do\nblocked instance/web-1: the content of the secret pw is not known: the stack's files could not be read since the agent started\n"
	if err != nil || got.String() != want {
		t.Errorf("%v\n%s", err, got)
	}

	again.Unlock(withSecret("of now", ""))
	if content, known := again.Services[1].Files[0].Bytes(); !known || string(content) != "of now" {
		t.Errorf("unlocked with %q, %t", content, known)
	}
}

// A volume's data never stays behind while an empty one is made in another pool: the file's wish is reported.
func TestVolumeStaysInThePoolThatHasItsData(t *testing.T) {
	w, led := newWorld(), newLedger()
	p := blog()
	_, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	before := len(w.Volumes)
	p.Volumes[0].Pool = "fast"
	in := input(p, w.Observed, led)
	in.Homes = plan.Homes(w.Observed, in.Owner)
	got := plan.Diff(plan.Render(p, in), w.Observed, *led)
	if !got.Empty() || len(w.Volumes) != before || !strings.Contains(got.String(), "the volume stays in the pool default, where its data is") {
		t.Errorf("the plan is\n%s", got)
	}

	in.Pool = "fast" // the host's own default changed
	p.Volumes[0].Pool = ""
	got = plan.Diff(plan.Render(p, in), w.Observed, *led)
	for _, s := range got.Steps {
		if s.On.Kind == plan.KindVolume {
			t.Errorf("a volume is touched: %s", s)
		}
	}
}
