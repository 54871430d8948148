package incus

import (
	"errors"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// The texts are those of Incus 7.0.2 and liblxc 6.0.4.
func TestBlame(t *testing.T) {
	config := map[string]string{
		"limits.memory": "lots", "limits.nosuch": "1", "linux.sysctl.kernel.nosuch": "1", "limits.kernel.nofile": "1000000000000",
		"boot.autostart": "maybe", "user.label.a": "lots", "environment.A": "lots", "limits.processes": "1",
	}
	devices := map[string]plan.Device{"gpu0": {"type": "gpu"}, "bind-data": {"type": "disk"}}
	for _, tc := range []struct{ text, key, device string }{
		{"create instance a-1: Failed creating instance record: Invalid value: lots", "limits.memory", ""},
		{"Failed creating instance record: Unknown configuration key: limits.nosuch", "limits.nosuch", ""},
		{`Invalid devices: Device validation failed for "gpu0": Invalid value for device option "pci": Invalid PCI address`, "", "gpu0"},
		{`Failed add validation for device "bind-data": Missing source path "/srv"`, "", "bind-data"},
		{`Failed to start device "gpu0": no such card`, "", "gpu0"},
		{"No such file or directory - Failed to setup sysctl parameters kernel.nosuch to 1", "linux.sysctl.kernel.nosuch", ""},
		{"Operation not permitted - Failed to set limit nofile", "limits.kernel.nofile", ""},
		{`Invalid value for a boolean "maybe"`, "boot.autostart", ""},
		{"Invalid config: limits.memory is odd", "limits.memory", ""},
		{"Invalid value: 1", "", ""}, // of three keys
		{"connect: connection refused", "", ""},
		{`Failed to start device "eth7": what`, "", ""},
	} {
		key, device := Blame(errors.New(tc.text), config, devices)
		if key != tc.key || device != tc.device {
			t.Errorf("%s: %q %q, want %q %q", tc.text, key, device, tc.key, tc.device)
		}
	}
}
