package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestMain is the launcher itself when its file is named by the first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		code, err := become(os.Args[2], os.Args[3:])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(code)
	}

	os.Exit(m.Run())
}

// launched runs the launcher with the environment and nothing else.
func launched(t *testing.T, l plan.Launch, environ []string, command ...string) (out string, code int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "environment")
	err := os.WriteFile(file, l.Bytes(), 0o600)
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"launch", file}, command...)...)
	var stdout bytes.Buffer
	cmd.Env, cmd.Stdout = append([]string{"PATH=/usr/bin:/bin"}, environ...), &stdout
	_ = cmd.Run() // the code tells

	return stdout.String(), cmd.ProcessState.ExitCode()
}

// TestTheProgramHasItsEnvironmentByteForByte, names that no shell has included.
func TestTheProgramHasItsEnvironmentByteForByte(t *testing.T) {
	env := map[string]string{
		"KEY": "-----BEGIN-----\na'b\"c\\n$HOME `ls`\r\n\t-----END-----\n\n", "a.b-c": "\n", "CR": "x\ry", "TEXT": "Grüße\n☃", "LONG": strings.Repeat("a line\n", 10_000),
	}
	out, code := launched(t, plan.Launch{Env: env, Argv: []string{"env", "-0"}}, []string{"with.dot=kept", "KEY=old"})
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}

	got := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	want := []string{"PATH=/usr/bin:/bin", "with.dot=kept"}
	for name, value := range maps.All(env) {
		want = append(want, name+"="+value)
	}

	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%.2000q\nwant\n%.2000q", got, want)
	}
}

// TestACommandTakesTheProgramsPlace, with the same environment but for what it brings itself.
func TestACommandTakesTheProgramsPlace(t *testing.T) {
	l := plan.Launch{Env: map[string]string{"A": "1\n2", "B": "3\n4"}, Umask: "0077", Argv: []string{"false"}}
	out, code := launched(t, l, []string{"B=own"}, "sh", "-c", `umask; printf '%s|%s|%s' "$A" "$B" "$1"`, "sh", "it's\n")
	_, rest, _ := strings.Cut(out, "\n")
	if code != 0 || rest != "1\n2|own|it's\n" || strings.HasPrefix(out, "0077") {
		t.Errorf("exit code %d, %q", code, out)
	}

	out, code = launched(t, plan.Launch{Umask: "0027", Argv: []string{"sh", "-c", "umask; exit 3"}}, nil)
	if code != 3 || out != "0027\n" {
		t.Errorf("exit code %d, %q", code, out)
	}
}

// TestWhatCannotBeRun ends as it does in a shell.
func TestWhatCannotBeRun(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"script": 0o755, "data": 0o644} {
		err := os.WriteFile(filepath.Join(dir, name), []byte("echo \"$0 $1\"\n"), mode)
		if err != nil {
			t.Fatal(err)
		}
	}

	out, code := launched(t, plan.Launch{Argv: []string{dir + "/script", "x"}}, nil)
	if code != 0 || out != dir+"/script x\n" {
		t.Errorf("a script without an interpreter: exit code %d, %q", code, out)
	}

	for argv, want := range map[string]int{"/no/such": exitNotFound, "nosuch": exitNotFound, dir + "/data": exitNotExecutable, "": exitNotFound} {
		_, code = launched(t, plan.Launch{Argv: strings.Fields(argv)}, nil)
		if code != want {
			t.Errorf("%q: exit code %d, want %d", argv, code, want)
		}
	}
}
