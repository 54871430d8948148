//go:build bench

package bench

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

const agent = "ic-agent.service"

// usage is the processor time that a service has used, its children's included.
func usage(t *testing.T, service string) time.Duration {
	t.Helper()

	return time.Duration(number(t, "sed -n 's/^usage_usec //p' /sys/fs/cgroup/system.slice/"+service+"/cpu.stat")) * time.Microsecond
}

// switches is how often the threads of a service have gone to sleep of their own will: each time something woke one.
func switches(t *testing.T, service string) int {
	t.Helper()

	return number(t, "cat /proc/$(systemctl show -p MainPID --value "+service+")/task/*/status | awk '/^voluntary/ {n += $2} END {print n}'")
}

// resident is the memory of a service's process.
func resident(t *testing.T, service string) int {
	t.Helper()

	return number(t, "sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$(systemctl show -p MainPID --value "+service+")/status") << 10
}

func number(t *testing.T, command string) int {
	t.Helper()
	n, err := strconv.Atoi(sh(t, command))
	if err != nil {
		t.Fatal(err)
	}

	return n
}

// TestConvergedPass measures what a look at a hundred services that are as they should be costs the agent, the scan of
// the files included: the least of five rounds of twenty.
func TestConvergedPass(t *testing.T) {
	const many, looks = 100, 20
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range many {
		fmt.Fprintf(&b, "  s%d:\n    image: busybox\n    command: [sleep, inf]\n    restart: \"no\"\n", i)
	}

	c := connect(t)
	rename(t, root(t), "ten", b.String())
	lastStart(t, c, "ten", many)
	defer forgetTen(t, c)

	sh(t, "ic-agent reload --wait")

	least := time.Hour
	for range rounds {
		before := usage(t, agent)
		sh(t, fmt.Sprintf("for i in $(seq %d); do ic-agent reload --wait; done", looks))
		least = min(least, (usage(t, agent)-before)/looks)
	}

	fmt.Printf("\na look at %d services with nothing to do\n", many)
	fmt.Printf("  %-44s %8s   (goal 20ms)\n", "processor time of the agent", least.Round(10*time.Microsecond))
	fmt.Printf("  %-44s %5d MB\n", "its resident memory", resident(t, agent)>>20)
}

// TestQuiet is what the agent costs with twenty stacks and nothing to do.
func TestQuiet(t *testing.T) {
	base := root(t)
	for i := range 20 {
		rename(t, base, fmt.Sprintf("small%02d", i), "services:\n  app:\n    image: busybox\n    command: [sleep, inf]\n")
	}

	c := connect(t)
	for i := range 20 {
		lastStart(t, c, fmt.Sprintf("small%02d", i), 1)
	}

	sh(t, "ic-agent reload --wait")
	fmt.Printf("\ntwenty stacks of one service\n  %-44s %5d MB   (goal 60 MB)\n", "resident memory of the agent", resident(t, agent)>>20)

	pause(t, 45*time.Second) // what is watched after a start, for 30 s, is over
	const idle = time.Minute
	woken, used := switches(t, agent), usage(t, agent)
	pause(t, idle)
	woken, used = switches(t, agent)-woken, usage(t, agent)-used
	fmt.Printf("  %-44s %8.1f a second\n  %-44s %8.3f %%\n", "its threads wake, with nothing to do", float64(woken)/idle.Seconds(), "of one processor", 100*used.Seconds()/idle.Seconds())
}
