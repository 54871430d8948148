//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// The package comes anew, goes, and comes back: nothing restarts, no data is lost, no question for a name is lost over
// an upgrade, and whoever removes it is told what that ends.
func TestPackageComesAndGoes(t *testing.T) {
	drop(t, "shop", strings.Replace(shop, "    restart: always\n", "    restart: always\n    configs: [{source: motd, target: /etc/motd}]\n", 1)+
		"configs: {motd: {content: hello}}\n")
	before := running(t, "shop", "web-1", "cache-1")
	settled(t, "shop")
	run(t, "incus exec cache-1 --project shop -- sh -c 'redis-cli set a b && redis-cli save'")

	gateway, _, _ := strings.Cut(run(t, "incus network get shop-default ipv4.address"), "/")
	asked := run(t, fmt.Sprintf(`while [ ! -e /tmp/installed ]; do dig +short +tries=1 +time=5 @%s web.shop.incus >> /tmp/answers 2>&1 || echo lost >> /tmp/answers; done &
		dpkg -i /root/ic-agent.deb >/dev/null 2>&1; touch /tmp/installed; wait; sort /tmp/answers | uniq -c; rm /tmp/installed /tmp/answers`, gateway))
	addr, _, _ := strings.Cut(before["web-1"].Devices["eth0"]["ipv4.address"], "/")
	if want := " " + addr; !strings.HasSuffix(asked, want) || strings.Contains(asked, "\n") {
		t.Errorf("over an upgrade the name was answered with:\n%s\nwant only%s", asked, want)
	}

	settled(t, "shop")
	unlike := func(when string) {
		if got := restarted(before, running(t, "shop", "web-1", "cache-1")); len(got) > 0 {
			t.Errorf("restarted by %s: %v", when, got)
		}
	}
	unlike("an upgrade")

	said := run(t, "dpkg -P ic-agent 2>&1; ls -d /run/ic-* /var/lib/ic-* /etc/incus-compose.d/* 2>/dev/null; systemctl --failed --no-legend")
	t.Cleanup(func() { _, _ = try(context.WithoutCancel(t.Context()), "dpkg -i /root/ic-agent.deb") })
	for _, want := range []string{"what runs on Incus runs on", "/etc/incus-compose.d/shop.yaml", "/run/ic-agent-files"} {
		if !strings.Contains(said, want) {
			t.Errorf("removal does not leave or say %q", want)
		}
	}

	for _, gone := range []string{".sock", "/var/lib/ic-", "failed"} {
		if strings.Contains(said, gone) {
			t.Errorf("removal leaves %q", gone)
		}
	}

	unlike("the removal")
	inside := run(t, "incus exec cache-1 --project shop -- sh -c 'redis-cli get a; cat /etc/motd'")
	if inside != "b\nhello" {
		t.Errorf("without the package there is %q inside", inside)
	}

	run(t, "dpkg -i /root/ic-agent.deb")
	settled(t, "shop")
	if got := fmt.Sprint(restarted(before, running(t, "shop", "web-1", "cache-1"))); got != "[]" && got != "[cache-1]" {
		t.Errorf("restarted without a ledger: %s; the one with a config may be", got)
	}

	if got := run(t, "incus exec cache-1 --project shop -- redis-cli get a"); got != "b" {
		t.Errorf("the data is %q", got)
	}
}
