package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

const certificate = "-----BEGIN IT-----\n'it' \"is\" \\n $HOME `ls`\r\n-----END IT-----\n"

// TestVariablesWithLineBreaksComeThroughTheLauncher because Incus refuses them in its keys.
func TestVariablesWithLineBreaksComeThroughTheLauncher(t *testing.T) {
	edit := func(s *plan.Service) {
		s.Environment = map[string]string{"PLAIN": "1", "CERT": certificate, "a.b": "x\n"}
		s.Process.User, s.Process.Entrypoint, s.Sandbox.Umask = "1000:7", []string{"serve", "it's"}, "0027"
		s.PostStart = []plan.Hook{{Command: []string{"warm"}}}
	}
	d := rendered(t, edit)
	if strings.Contains(strings.Join(slices.Collect(values(d.Config)), " "), "BEGIN") || d.Config["environment.PLAIN"] != "1" {
		t.Errorf("config %v", d.Config)
	}

	if !strings.HasPrefix(d.Config["raw.lxc"], "lxc.execute.cmd =\nlxc.init.cmd = /.ic-agent/launch\n") || d.Config["oci.entrypoint"] != "/.ic-agent/launch" {
		t.Errorf("it runs %q, %q", d.Config["raw.lxc"], d.Config["oci.entrypoint"])
	}

	if len(d.Files) != 0 || len(d.Placed) != 1 {
		t.Fatalf("pushed %v, placed %v", d.Files, d.Placed)
	}

	f := d.Placed[0]
	if f.Target != plan.LaunchFile || f.UID != 1000 || f.GID != 7 || f.Mode != 0o400 {
		t.Errorf("%s is %d:%d %o", f.Target, f.UID, f.GID, f.Mode)
	}

	got, err := plan.ReadLaunch(f.Content)
	want := plan.Launch{Env: map[string]string{"CERT": certificate, "a.b": "x\n"}, Umask: "0027", Argv: []string{"serve", "it's"}}
	diff := cmp.Diff(want, got)
	if err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}

	diff = cmp.Diff(plan.Device{"type": "disk", "source": plan.LauncherSource, "path": plan.LauncherPath, "readonly": "true"}, d.Devices["launch"])
	if diff != "" || !slices.Contains(d.Targets, plan.Target{Path: plan.LauncherPath}) {
		t.Errorf("(-want +got)\n%s\n%v", diff, d.Targets)
	}

	if d.Config[plan.KeyLauncher] != plan.LauncherPath || !strings.Contains(d.Config[plan.KeyPostStart], `"Argv":["/.ic-agent/launch","warm"]`) {
		t.Errorf("beside it: %q, %q", d.Config[plan.KeyLauncher], d.Config[plan.KeyPostStart])
	}

	other := rendered(t, func(s *plan.Service) {
		edit(s)
		s.Environment["CERT"] = certificate + "\n"
		s.PostStart[0].User = "1001"
	})
	if other.Config["raw.lxc"] == d.Config["raw.lxc"] || other.Placed[0].Mode != 0o444 {
		t.Errorf("with another value %q, and with a hook of another user %o", other.Config["raw.lxc"], other.Placed[0].Mode)
	}
}

func values(m map[string]string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestAnotherValueWithLineBreaksRestarts, whatever on-change says: it is no config.
func TestAnotherValueWithLineBreaksRestarts(t *testing.T) {
	w, led := newWorld(), newLedger()
	p := blog()
	web(func(s *plan.Service) { s.Environment, s.OnChange = map[string]string{"A": "1\n2"}, "none" })(&p)
	_, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	web(func(s *plan.Service) { s.Environment = map[string]string{"A": "1\n3"} })(&p)
	made, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []string{"stop instance/web-1", "place", "start instance/web-1"} {
		if !strings.Contains(made.String(), want) {
			t.Errorf("no %q in\n%s", want, made)
		}
	}

	web(func(s *plan.Service) { s.Environment = map[string]string{"A": "1"} })(&p)
	_, err = w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	have := w.Instances["web-1"]
	if have.Config[plan.KeyLauncher] != "" || have.Devices["launch"] != nil || strings.Contains(have.Config["raw.lxc"], "environment") {
		t.Errorf("without line breaks it still has %v, %v", have.Config, have.Devices)
	}
}

// TestLaunchFilesAreThereAtBoot, as configs and secrets are.
func TestLaunchFilesAreThereAtBoot(t *testing.T) {
	p := blog()
	web(func(s *plan.Service) { s.Environment = map[string]string{"A": "1\n2"} })(&p)
	w, led := newWorld(), newLedger()
	led.Images = input(p, w.Observed, led).Images
	got := plan.Placements(p, *led)
	if len(got) != 1 || got[0].Instance != "web-1" || len(got[0].Files) != 1 || got[0].Files[0].Target != plan.LaunchFile {
		t.Errorf("placed: %+v", got)
	}
}

// TestBrokenLaunchFilesAreRefused instead of half done.
func TestBrokenLaunchFilesAreRefused(t *testing.T) {
	for _, text := range []string{"eA=1", "eA\x00", "\x00", "zA\x00", "aserve\x00\x00"} {
		_, err := plan.ReadLaunch([]byte(text))
		if err == nil {
			t.Errorf("%q is read", text)
		}
	}
}
