package cli

import (
	"fmt"

	"github.com/incus-compose/ic-agent/internal/api"
)

// pulls prints a line for each image that is being fetched.
func (v view) pulls(all []api.Pull) {
	if len(all) > 0 {
		v.printf("\n")
	}
	for _, p := range all {
		v.printf("%s %s: %s\n", v.paint(yellow, "pulling"), p.Image, pulling(p)+", for "+since(p.Since, v.now))
	}
}

// pulling says how far a pull is.
func pulling(p api.Pull) string {
	switch {
	case p.Sent > 0 && p.Sent < p.Size:
		return fmt.Sprintf("%s of %s", amount(p.Sent), amount(p.Size))
	case p.Stage != "":
		return p.Stage
	case p.Size > 0:
		return amount(p.Size)
	}
	return "asking the registry"
}

// amount prints a size as people write it, "12.3 MB".
func amount(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	size, prefix := float64(n)/unit, 0
	for size >= unit && prefix < 3 {
		size, prefix = size/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %cB", size, "kMGT"[prefix])
}
