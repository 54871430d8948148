//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/incus/incustest/conformance"
	"github.com/incus-compose/ic-agent/internal/plan"
)

// The real Incus passes the suite that the fake one passes, so that the fake cannot lie.
func TestConformance(t *testing.T) {
	var inspected struct {
		Layers []string
	}
	err := json.Unmarshal([]byte(run(t, "skopeo inspect docker://docker.io/library/busybox:latest")), &inspected)
	if err != nil || len(inspected.Layers) == 0 {
		t.Fatalf("inspect the image: %v", err)
	}

	pid, err := exec.CommandContext(t.Context(), "test/lab/lab", "pid", lab).Output()
	if err != nil {
		t.Fatal(err)
	}

	socket := "/proc/" + strings.TrimSpace(string(pid)) + "/root/var/lib/incus/unix.socket"
	sum := sha256.Sum256([]byte(strings.Join(inspected.Layers, "")))
	conformance.Run(t, nil, func(*testing.T) conformance.Host {
		return conformance.Host{
			Dial: func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
			Image: plan.Image{
				Server: "https://docker.io", Alias: "library/busybox:latest", Ref: "docker.io/library/busybox:latest",
				Fingerprint: hex.EncodeToString(sum[:]),
			},
		}
	})
}
