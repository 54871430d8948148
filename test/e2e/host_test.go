//go:build e2e

// Package e2e shows, on a real Incus 7.0.2 host, what ic-agent promises: each test is one sentence of behaviour.
// The host is a lab of test/lab with the Debian package of this tree installed in it, as a user would.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is how long anything may take that is waited for. It is no measure of speed: a machine with two busy
// cores keeps it with ease.
const patience = 2 * time.Minute

// lab is the tests' own host; the demo's and a developer's are others. IC_E2E_LAB names another one.
var lab = cmp.Or(os.Getenv("IC_E2E_LAB"), "e2e")

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}

	os.Exit(code)
}

// runAll boots a fresh lab with the package installed, runs the tests, and takes it down again unless
// IC_E2E_KEEP is set.
func runAll(m *testing.M) (int, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return 1, err
	}

	err = os.Chdir(root)
	if err != nil {
		return 1, err
	}

	debs, err := filepath.Glob("dist/ic-agent_*.deb")
	if err != nil || len(debs) != 1 {
		return 1, fmt.Errorf("want one package in dist, found %d: run \"make package\"", len(debs))
	}

	out, err := exec.Command("test/lab/lab", "reset", lab).CombinedOutput()
	if err != nil {
		return 1, fmt.Errorf("boot the lab: %w\n%s", err, out)
	}

	if os.Getenv("IC_E2E_KEEP") == "" {
		defer func() { _ = exec.Command("test/lab/lab", "down", lab).Run() }()
	}

	for _, c := range [][]string{
		{"put", lab, debs[0], "/root/ic-agent.deb"},
		{"run", lab, "--", "dpkg", "-i", "/root/ic-agent.deb"},
	} {
		out, err = exec.Command("test/lab/lab", c...).CombinedOutput()
		if err != nil {
			return 1, fmt.Errorf("install the package: %w\n%s", err, out)
		}
	}

	return m.Run(), nil
}

// try runs a shell command in the lab. One that hangs, as a call to an instance whose monitor does not answer, is given
// up after two patiences.
func try(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()

	cmd := exec.CommandContext(ctx, "test/lab/lab", "run", lab, "--", "sh", "-c", command)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(stderr.String()+stdout.String()))
	}

	return stdout.String(), nil
}

// run is try for commands that must succeed.
func run(t *testing.T, command string) string {
	t.Helper()
	out, err := try(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}

	return strings.TrimRight(out, "\n")
}

// put writes a file in the lab as a careful user does: under another name first, then renamed.
func put(t *testing.T, path, content string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "test/lab/lab", "run", lab, "--", "sh", "-c",
		fmt.Sprintf("mkdir -p '%s' && cat > '%s.tmp' && mv '%s.tmp' '%s'", filepath.Dir(path), path, path, path))
	cmd.Stdin = strings.NewReader(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("write %s: %v: %s", path, err, out)
	}
}

const directory = "/etc/incus-compose.d/"

// drop puts a stack into the directory and takes it out again, with all it made, at the end of the test.
func drop(t *testing.T, stack, content string) {
	t.Helper()
	put(t, directory+stack+".yaml", content)
	t.Cleanup(func() { forget(t, stack) })
}

// forget removes a stack and everything of it without its graces: the agent is stopped, and forgets too. What other
// stacks there are it finds again in Incus, which is part of what these tests show.
func forget(t *testing.T, stack string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()

	if t.Failed() {
		out, _ := try(ctx, fmt.Sprintf("cat %s%s.yaml; ic-agent status %s; ic-agent plan %s; incus list --project %s; journalctl -u ic-agent -u ic-healthd -n 100 -o short-precise --no-pager", directory, stack, stack, stack, stack))
		t.Logf("what was there at the end:\n%s", out)
	}

	_, err := try(ctx, fmt.Sprintf(`rm -f %[1]s%[2]s.yaml %[1]s%[2]s.*; systemctl stop ic-agent
		# An instance is busy while ic-healthd writes its status.
		for try in 1 2 3 4 5; do
			left=$(incus list --project %[2]s -f csv -c n 2>/dev/null)
			[ -n "$left" ] || break
			for i in $left; do incus delete -f --project %[2]s $i; done
		done
		for v in $(incus storage volume list default --project %[2]s -f csv -c tn 2>/dev/null | sed -n 's/^custom,//p'); do incus storage volume delete default --project %[2]s $v; done
		incus project delete %[2]s 2>/dev/null
		for n in $(incus network list -f csv | cut -d, -f1 | grep '^%[2]s-'); do incus network delete $n; done
		rm -f /var/lib/ic-agent/state.db; systemctl start ic-agent; true`, directory, stack))
	if err != nil {
		t.Logf("clean up %s: %v", stack, err)
	}
}

// eventually asks until there is no complaint.
func eventually(t *testing.T, what string, ask func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	for {
		err := ask(ctx)
		if err == nil {
			return
		}

		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-tick.C:
		}
	}
}

// instance is what Incus says of one.
type instance struct {
	Name    string                       `json:"name"`
	Status  string                       `json:"status"`
	Config  map[string]string            `json:"config"`
	Devices map[string]map[string]string `json:"devices"`
	State   struct {
		PID       int       `json:"pid"`
		StartedAt time.Time `json:"started_at"`
	} `json:"state"`
}

// instances asks Incus, not the agent.
func instances(ctx context.Context, project string) (map[string]instance, error) {
	out, err := try(ctx, "incus query '/1.0/instances?recursion=2&project="+project+"'")
	if err != nil {
		return nil, err
	}

	var list []instance
	err = json.Unmarshal([]byte(out), &list)
	if err != nil {
		return nil, err
	}

	found := map[string]instance{}
	for _, i := range list {
		found[i.Name] = i
	}

	return found, nil
}

// running waits until exactly these instances of a project run, and returns them.
func running(t *testing.T, project string, names ...string) map[string]instance {
	t.Helper()
	var found map[string]instance
	eventually(t, fmt.Sprintf("%s: %v running", project, names), func(ctx context.Context) error {
		var err error
		found, err = instances(ctx, project)
		if err != nil {
			return err
		}

		if len(found) != len(names) {
			return fmt.Errorf("there are %d instances", len(found))
		}

		for _, n := range names {
			if found[n].Status != "Running" {
				return fmt.Errorf("%s is %q", n, found[n].Status)
			}
		}

		return nil
	})

	return found
}

// settled waits until the agent says that the stack is in sync, and returns the generation it is at.
func settled(t *testing.T, stack string) {
	t.Helper()
	eventually(t, stack+" in sync", func(ctx context.Context) error { return inState(ctx, stack, "in sync") })
}

func inState(ctx context.Context, stack, want string) error {
	s, err := status(ctx, stack)
	if err != nil {
		return err
	}

	if s.State != want {
		return fmt.Errorf("the state of %s is %q: %v", stack, s.State, s.Conditions)
	}

	return nil
}

// stackStatus is what "ic-agent status --json" says of a stack, as far as the tests look.
type stackStatus struct {
	Name       string `json:"name"`
	State      string `json:"state"`
	Generation uint64 `json:"generation"`
	Conditions []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	} `json:"conditions"`
}

func status(ctx context.Context, stack string) (stackStatus, error) {
	out, err := try(ctx, "ic-agent status --json; true") // a stack that is ill is no failure here
	if err != nil {
		return stackStatus{}, err
	}

	var all struct {
		Stacks []stackStatus `json:"stacks"`
	}
	err = json.Unmarshal([]byte(out), &all)
	if err != nil {
		return stackStatus{}, err
	}

	for _, s := range all.Stacks {
		if s.Name == stack {
			return s, nil
		}
	}

	return stackStatus{}, errors.New("the agent does not know " + stack)
}

// condition waits until the agent says something about a stack, and returns it.
func condition(t *testing.T, stack, kind, contains string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %s %q", stack, kind, contains), func(ctx context.Context) error {
		s, err := status(ctx, stack)
		if err != nil {
			return err
		}

		for _, c := range s.Conditions {
			if c.Type == kind && strings.Contains(c.Text, contains) {
				return nil
			}
		}

		return fmt.Errorf("its conditions are %v", s.Conditions)
	})
}

// restarted names the instances that are not the process they were.
func restarted(before, after map[string]instance) []string {
	var out []string
	for n, b := range before {
		if after[n].State.PID != b.State.PID {
			out = append(out, n)
		}
	}

	return out
}

// command runs a verb of the lab on the tests' host.
func command(t *testing.T, verb string) ([]byte, error) {
	t.Helper()

	return exec.CommandContext(t.Context(), "test/lab/lab", verb, lab).CombinedOutput()
}
