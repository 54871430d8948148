package plan_test

import (
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestExitCodesInWords(t *testing.T) {
	for code, want := range map[int]string{
		0: "0", 3: "3", 125: "125", 126: "126 (not executable)", 127: "127 (command not found)", 128: "128", 137: "137 (signal 9)",
		192: "192 (signal 64)", 193: "193", 255: "255",
	} {
		if got := plan.ExitWords(code); got != want {
			t.Errorf("%d is %q, want %q", code, got, want)
		}
	}
}

func TestCountsInWords(t *testing.T) {
	for n, want := range map[int]string{0: "0 checks", 1: "1 check", 2: "2 checks"} {
		if got := plan.Count(n, "check"); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
