//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// opened lets one machine of the LAN ask, copy the zone, and ask for others, and keeps private addresses of the world
// outside out.
const opened = `[dns]
log_every = 1
block_private = true
allow_private = ["nas.example.test"]
relays = ["198.51.100.2"]
transfer = ["198.51.100.2"]
[dns.lan]
listen = ["198.51.100.1"]
allow = ["198.51.100.2"]
`

// openToLAN writes the settings. What the file was comes back at the end.
func openToLAN(t *testing.T) {
	t.Helper()
	run(t, "cp -a /etc/ic-agent/agent.toml /root/agent.toml; ip netns exec lan ip address replace 198.51.100.3/24 dev eth0; "+
		"ip netns exec lan ip route replace 10.201.0.0/16 via 198.51.100.1")
	put(t, "/etc/ic-agent/agent.toml", opened)
	run(t, "systemctl restart ic-agent")
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "cp -a /root/agent.toml /etc/ic-agent/agent.toml; systemctl restart ic-agent; ip netns exec lan ip route del 10.201.0.0/16")
	})
}

// digOnLAN asks from an address of a machine on the LAN; the answer is dig's.
func digOnLAN(ctx context.Context, from, at, args string) string {
	out, err := try(ctx, "ip netns exec lan dig +tries=1 +time=1 -b "+from+" @"+at+" "+args)
	if err != nil {
		return err.Error() + "\n" + out
	}

	return out
}

// onTheLAN: the machine that may is told our names and nothing else, may copy the zone, and is believed whom it asks for;
// all others are refused, wherever they ask. Web is what the name web stands for, gateway that of its network, db an
// instance of another one, app that of app there.
func onTheLAN(t *testing.T, web []string, gateway, db, app string) {
	const friend, stranger, host = "198.51.100.2", "198.51.100.3", "198.51.100.1"
	eventually(t, "the LAN is told our names", func(ctx context.Context) error {
		got := digOnLAN(ctx, friend, host, "+short web.street.incus")
		for _, w := range web {
			if !strings.Contains(got, w) {
				return fmt.Errorf("dig says %q", got)
			}
		}

		return nil
	})
	for _, c := range []struct{ what, from, at, args, want string }{
		{"D37 a foreign name", friend, host, "upstream.example.test", "status: REFUSED"},
		{"D37 a machine that may not ask", stranger, host, "web.street.incus", "status: REFUSED"},
		{"D37 the address of a bridge", friend, gateway, "web.street.incus", "status: REFUSED"},
		{"D37 over TCP", stranger, host, "+tcp web.street.incus", "status: REFUSED"},
		{"D23 a copy of the zone", friend, host, "axfr street.incus", "web-1.street.incus."},
		{"D23 a copy for somebody else", stranger, host, "axfr street.incus", "Transfer failed"},
		{"D06 a relay asks for an instance", friend, host, "+short app +subnet=" + db + "/32", app},
		{"D06 somebody else does", stranger, host, "app +subnet=" + db + "/32", "status: REFUSED"},
	} {
		got := digOnLAN(t.Context(), c.from, c.at, c.args)
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: want %q, dig says\n%s", c.what, c.want, got)
		}
	}
	for name, want := range map[string]string{"evil.example.test": "", "nas.example.test": "10.9.9.8"} {
		got := inside(t.Context(), "app-1", name)
		if got != want {
			t.Errorf("D35 %s is %q inside, want %q", name, got, want)
		}
	}
	journal := run(t, "journalctl -u ic-agent -o cat --no-pager | grep 'dns query' | grep evil.example.test | tail -n 1")
	if !strings.Contains(journal, "view=street-") || !strings.Contains(journal, "from=10.201.") {
		t.Errorf("D47 the log of questions says %q", journal)
	}
}
