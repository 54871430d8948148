//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// troubled has five services of which each lacks something, and one that does not.
const troubled = `services:
  full: {image: "redis:7", volumes: ["small:/usr/bin"], stop_grace_period: 1s}
  crowd: {image: busybox, command: [sleep, inf], scale: 2, networks: [tiny], stop_grace_period: 1s}
  alien: {image: "registry.example.test/alien:1", command: [sleep, inf], stop_grace_period: 1s}
  lost: {image: busybox, entrypoint: [/no/such], stop_grace_period: 1s}
  unfit: {image: busybox, init: true, entrypoint: [/no/such], stop_grace_period: 1s}
  quick: {image: busybox, command: [sh, -c, "exit 3"], restart: on-failure, stop_grace_period: 1s}
networks: {tiny: {ipam: {config: [{subnet: 10.99.9.0/30}]}}}
volumes: {small: {x-incus-compose: {pool: small}}}
`

// A full storage pool, a subnet without a free address, an image for another machine, programs that are not there and one
// that ends at once: each is said, with what to do, hinders nothing else, and is over once that is done.
func TestEachTroubleIsNamedAndEndsWithItsCause(t *testing.T) {
	run(t, `mkdir -p /mnt/small && mount -t tmpfs -o size=2m tmpfs /mnt/small && incus storage create small dir source=/mnt/small
		/usr/local/lib/lab/mkimage --from busybox --arch s390x registry.example.test/alien:1`)
	drop(t, "troubled", troubled)
	t.Cleanup(func() { // before the stack goes
		_, err := try(context.WithoutCancel(t.Context()), `systemctl stop ic-agent
			for try in 1 2 3 4 5; do incus delete -f full-1 --project troubled 2>/dev/null; incus storage volume delete small vol-small --project troubled && break; sleep 1; done
			incus storage delete small && umount /mnt/small`)
		if err != nil {
			t.Error(err)
		}
	})

	for _, c := range []struct{ kind, says string }{
		{"Failed", "make room in the storage pool small (incus storage info small)"},
		{"Blocked", "no free address is left in 10.99.9.0/30 of network troubled-tiny: give it a larger ipam subnet"},
		{"Blocked", "wrong platform: it is not made for linux/"},
		{"Failed", "the container has no /no/such to run"},
		{"Ended", "the program /no/such does not exist or cannot be run"},
		{"Down", "it ended with 3 (restart: on-failure"},
	} {
		condition(t, "troubled", c.kind, c.says)
	}

	first, err := instances(t.Context(), "troubled")
	if err != nil || first["crowd-1"].Status != "Running" {
		t.Fatalf("crowd-1 is %q: %v", first["crowd-1"].Status, err)
	}

	run(t, `mount -o remount,size=80m /mnt/small; /usr/local/lib/lab/mkimage --from busybox registry.example.test/alien:1`)
	eventually(t, "what was mended outside of the file to run", func(ctx context.Context) error {
		found, err := instances(ctx, "troubled")
		if err == nil && (found["full-1"].Status != "Running" || found["alien-1"].Status != "Running") {
			err = fmt.Errorf("full-1 is %q, alien-1 is %q", found["full-1"].Status, found["alien-1"].Status)
		}

		return err
	})
	run(t, "incus exec full-1 --project troubled -- cmp /usr/bin/redis-server /proc/1/exe")

	put(t, directory+"troubled.yaml", strings.NewReplacer(
		"scale: 2", "scale: 1", "entrypoint: [/no/such]", "command: [sleep, inf]", "exit 3", "exec sleep inf").Replace(troubled))
	found := running(t, "troubled", "full-1", "crowd-1", "alien-1", "lost-1", "unfit-1", "quick-1")
	settled(t, "troubled")
	if found["crowd-1"].State.PID != first["crowd-1"].State.PID {
		t.Error("crowd-1, which lacked nothing, was restarted")
	}
}
