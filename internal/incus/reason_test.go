package incus

import (
	"errors"
	"strings"
	"testing"
)

func TestMissingMountSaysWhatToMake(t *testing.T) {
	var c Client
	refused := errors.New(`Failed add validation for device "bind-data": Missing source path "/srv/data" for disk "bind-data"`)
	err := c.explained(t.Context(), "blog", "web-1", refused)
	if !strings.Contains(err.Error(), "mkdir -p /srv/data") || !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
}

func TestReasonOfAFailedStart(t *testing.T) {
	const log = `lxc bad_app-1 20261122015611.504 NOTICE   start - ../src/lxc/start.c:start:2206 - Exec'ing "/no/such"
lxc bad_app-1 20261122015611.504 ERROR    start - ../src/lxc/start.c:start:2209 - No such file or directory - Failed to exec "/no/such"
lxc bad_app-1 20261122015611.504 ERROR    sync - ../src/lxc/sync.c:sync_wait:34 - An error occurred in another process (expected sequence number 7)
`
	for text, want := range map[string]string{
		log: `No such file or directory - Failed to exec "/no/such"`,
		"":  "",
		"lxc a 1 INFO  utils - ../src/lxc/utils.c:x:1 - Executing script": "",
	} {
		got := reasonIn(text)
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestProgramThatCannotBeRunIsNamed(t *testing.T) {
	for _, c := range []struct {
		program, reason string
		want            []string
	}{
		{"/no/such", "No such file or directory", []string{"no /no/such to run", "interpreter", "127"}},
		{"job", "No such file or directory", []string{`no program "job" in its PATH`, "127"}},
		{"/etc/passwd", "Permission denied", []string{"/etc/passwd may not be run: permission denied", "126"}},
		{"/app", "Exec format error", []string{"/app is no program for this machine", "126"}},
	} {
		got := unrun(c.program, c.reason)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q lacks %q", got, want)
			}
		}
	}
}
