//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A change that interrupts a running service waits for the stack's window, says so, and is made when it opens, or by a
// word. A released stack runs on, untouched, until it is adopted again.
func TestChangesWaitForTheWindow(t *testing.T) {
	file := func(window, mode, limit string) string {
		return fmt.Sprintf(`x-ic-agent: {window: %q}
services:
  app: {image: busybox, init: true, command: [sleep, inf], mem_limit: %s, environment: {MODE: %s}, deploy: {update_config: {monitor: 1s}}}
`, window, limit, mode)
	}
	const never, mode = "2199-12-31 03:00", "sh -c 'tr \"\\0\" \"\\n\" < /proc/1/environ | grep MODE'"
	drop(t, "later", file(never, "a", "64m"))
	before := running(t, "later", "app-1")
	outcome(t, "later", "did well")

	put(t, directory+"later.yaml", file(never, "b", "64m"))
	condition(t, "later", "Scheduled", "the window, Tue 2199-12-31 03:00")
	if r := restarted(before, running(t, "later", "app-1")); len(r) > 0 {
		t.Errorf("restarted: %v", r)
	}

	run(t, "ic-agent apply later --now")
	saysInside(t, "later", "app-1", mode, "MODE=b")
	outcome(t, "later", "did well")

	soon := run(t, "date -d '+9 seconds' +%T")
	before = running(t, "later", "app-1")
	put(t, directory+"later.yaml", file(soon, "c", "64m"))
	condition(t, "later", "Scheduled", "the window, ")
	run(t, "systemctl restart ic-agent")
	if r := restarted(before, running(t, "later", "app-1")); len(r) > 0 {
		t.Errorf("restarted: %v", r)
	}

	saysInside(t, "later", "app-1", mode, "MODE=c")
	settled(t, "later")

	before = running(t, "later", "app-1")
	if out := run(t, "ic-agent release later"); !strings.Contains(out, "instance/app-1") || !strings.Contains(out, "dns.mode") {
		t.Errorf("release says %q", out)
	}

	condition(t, "later", "Released", "ic-agent adopt later")
	if owner := run(t, "incus config get app-1 user.ic-agent.owner --project later"); owner != "" {
		t.Errorf("its owner is %q", owner)
	}

	put(t, directory+"later.yaml", file("*:*", "c", "64m"))
	run(t, "ic-agent adopt later")
	settled(t, "later")
	if r := restarted(before, running(t, "later", "app-1")); len(r) > 0 {
		t.Errorf("restarted: %v", r)
	}
}
