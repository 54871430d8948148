package agent

import (
	"fmt"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/api"
)

// BenchmarkConvergedPass looks again and again at a hundred services that are as they should be, all parts of the agent
// running: what it takes is what a user's "ic-agent reload" and each resync take. The Incus of memory is in it.
func BenchmarkConvergedPass(b *testing.B) {
	const many = 100
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range many {
		fmt.Fprintf(&text, "  s%d:\n    image: busybox\n    command: [sleep, inf]\n    restart: \"no\"\n", i)
	}

	h := newHouse(b)
	h.begin()
	defer func() { h.stop() }()

	h.heard("READY=1")
	h.drop("ten.yaml", text.String())
	h.until("ten in sync", func(s api.Status) bool { return stackIn(s, "ten").State == api.InSync })
	client := api.NewClient(h.conf.APISocket)
	reload := func() {
		_, err := client.Reload(b.Context(), true)
		if err != nil {
			b.Fatal(err)
		}
	}

	reload()
	b.ReportAllocs()
	h.server.ForgetCalls()
	for b.Loop() {
		reload()
	}

	b.ReportMetric(float64(len(h.server.Calls()))/float64(b.N), "calls/op")
}
