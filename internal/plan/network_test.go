package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestFamilies: what a network, a NIC and a published port become with each combination of IPv4 and IPv6.
func TestFamilies(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(*plan.Network)
		network map[string]string
		nic     plan.Device
		ports   map[string]string // device → listen → connect
		carried []string
	}{
		{
			name: "IPv4", edit: func(*plan.Network) {},
			network: map[string]string{"ipv4.address": "10.201.0.1/24", "ipv6.address": "none"},
			nic:     plan.Device{"ipv4.address": "10.201.0.3/24", "ipv4.gateway": "10.201.0.1", "ipv6.address": "none"},
			ports:   map[string]string{"port-tcp": "tcp:0.0.0.0:8080 tcp:10.201.0.3:80"},
			carried: []string{"tcp 0.0.0.0:8080 10.201.0.3:80", "tcp [::]:8080 10.201.0.3:80"},
		},
		{
			name: "both", edit: func(n *plan.Network) { n.IPv6 = true },
			network: map[string]string{"ipv4.address": "10.201.0.1/24", "ipv6.address": "fd00::1/64", "ipv6.nat": "true", "ipv6.dhcp": "false", "raw.dnsmasq": "port=0"},
			nic: plan.Device{
				"ipv4.address": "10.201.0.3/24", "ipv4.gateway": "10.201.0.1", "ipv6.address": "fd00::3/64", "ipv6.gateway": "fd00::1",
			},
			ports: map[string]string{
				"port-tcp":  "tcp:0.0.0.0:8080 tcp:10.201.0.3:80",
				"port-tcp6": "tcp:[::]:8080 tcp:[fd00::3]:80",
			},
			carried: []string{"tcp 0.0.0.0:8080 10.201.0.3:80", "tcp [::]:8080 [fd00::3]:80"},
		},
		{
			name: "IPv6", edit: func(n *plan.Network) { n.IPv6, n.NoIPv4 = true, true },
			network: map[string]string{"ipv4.address": "none", "ipv6.address": "fd00::1/64"},
			nic:     plan.Device{"ipv4.address": "none", "ipv6.address": "fd00::3/64", "ipv6.gateway": "fd00::1"},
			ports:   map[string]string{"port-tcp6": "tcp:[::]:8080 tcp:[fd00::3]:80"},
			carried: []string{"tcp 0.0.0.0:8080 [fd00::3]:80", "tcp [::]:8080 [fd00::3]:80"},
		},
		{
			name: "internal", edit: func(n *plan.Network) { n.IPv6, n.Internal = true, true },
			network: map[string]string{"ipv4.nat": "false", "ipv4.routing": "false", "ipv6.nat": "false", "ipv6.routing": "false"},
			nic: plan.Device{
				"ipv4.address": "10.201.0.3/24", "ipv4.gateway": "none", "ipv6.address": "fd00::3/64", "ipv6.gateway": "none",
			},
			ports:   map[string]string{},
			carried: []string{"tcp 0.0.0.0:8080 10.201.0.3:80", "tcp [::]:8080 [fd00::3]:80"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := blog()
			c.edit(&p.Networks[0])
			want := plan.Render(p, input(p, newWorld().Observed, newLedger()))
			for k, v := range c.network {
				if got := want.Networks[0].Config[k]; got != v {
					t.Errorf("the network has %s=%q, want %q", k, got, v)
				}
			}

			web := want.Instances[1]
			nic := plan.Device{}
			for k, v := range web.Devices["eth0"] {
				if strings.HasPrefix(k, "ipv") {
					nic[k] = v
				}
			}

			ports := map[string]string{}
			for n, d := range web.Devices {
				if d["type"] == "proxy" {
					ports[n] = d["listen"] + " " + d["connect"]
				}
			}

			var carried []string
			for _, f := range web.Forwards {
				carried = append(carried, f.Listen.String()+" "+f.To.String())
			}

			if diff := cmp.Diff([]any{c.nic, c.ports, c.carried}, []any{nic, ports, carried}); diff != "" || len(web.Late) > 0 {
				t.Errorf("(-want +got)\n%s, late: %v", diff, web.Late)
			}
		})
	}
}

// TestNetworkIsMadeAnew: addresses that change under instances stop them all first.
func TestNetworkIsMadeAnew(t *testing.T) {
	w, led, p := newWorld(), newLedger(), blog()
	_, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	have := w.Networks["blog-default"]
	have.UsedBy = 2
	w.Networks["blog-default"] = have
	p.Networks[0].Subnet = netip.MustParsePrefix("10.9.9.0/24")
	pl, err := w.apply(p, led)
	if err != nil {
		t.Fatal(err)
	}

	want := `stack blog: 7 steps
[1] stop instance/db-1: the network default goes from 10.201.0.1/24 to 10.9.9.1/24
[2] stop instance/web-1: the network default goes from 10.201.0.1/24 to 10.9.9.1/24
[3 after 1,2] update network/blog-default: the network default goes from 10.201.0.1/24 to 10.9.9.1/24
[4 after 1,3] update instance/db-1: oci.dns.nameservers, device eth0 changed
[5 after 3,4] start instance/db-1: oci.dns.nameservers, device eth0 changed
[6 after 2,3] update instance/web-1: oci.dns.nameservers, device eth0 changed, device port-tcp changed
[7 after 3,5,6] start instance/web-1: oci.dns.nameservers, device eth0 changed, device port-tcp changed
`
	if diff := cmp.Diff(want, pl.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
