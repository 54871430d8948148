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

// updates prints what is known of newer images of a stack.
func (v view) updates(all []api.Service) {
	var lines []string
	for _, s := range all {
		if s.Update != "" {
			lines = append(lines, s.Name+": "+s.Update)
		}
	}
	v.list("Images", len(lines), func(i int) string { return lines[i] })
}

// available prints a line for each newer image of any stack.
func (v view) available(all []api.Stack) {
	first := true
	for _, st := range all {
		for _, s := range st.Services {
			if s.Update == "" {
				continue
			}
			if first {
				v.printf("\n")
			}
			first = false
			v.printf("%s/%s: %s\n", v.paint(bold, st.Name), s.Name, s.Update)
		}
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
