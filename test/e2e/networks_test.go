//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// dual has a service on a network of both families, one on a network of IPv6 alone, and one that nothing gets out of.
const dual = `services:
  web: {image: traefik/whoami, ports: ["8060:80"]}
  only6: {image: busybox, command: ["sh", "-c", "echo SIX > /tmp/index.html; exec httpd -f -p 80 -h /tmp"], networks: [six]}
  client: {image: busybox, command: [sleep, inf], networks: [default, six]}
  inside: {image: busybox, command: [httpd, -f, -p, "80"], networks: [closed]}
networks:
  default: {enable_ipv6: true}
  six: {enable_ipv4: false, enable_ipv6: true}
  closed: {internal: true, enable_ipv6: true}
`

// inDual runs a command in an instance of the stack.
func inDual(t *testing.T, instance, command string) (string, error) {
	t.Helper()

	return try(t.Context(), "incus exec "+instance+" --project dual -- sh -c '"+command+"'")
}

// IPv6 has addresses by the agent, names, a way out and published ports, with the caller's address; a network of IPv6
// alone works; nothing gets out of an internal network, nor in from another one, whatever routes it gives itself.
func TestIPv6AndInternalNetworks(t *testing.T) {
	drop(t, "dual", dual)
	found := running(t, "dual", "web-1", "only6-1", "client-1", "inside-1")
	settled(t, "dual")

	address := func(instance, option string) string {
		t.Helper()
		p, err := netip.ParsePrefix(found[instance].Devices["eth0"][option])
		if err != nil {
			t.Fatalf("%s of %s: %v", option, instance, err)
		}

		return p.Addr().String()
	}
	// The kernel makes sure for a second or two that nobody else has a new IPv6 address (RFC 4862, 5.4).
	eventually(t, "names and addresses of IPv6 from inside", func(context.Context) error {
		out, err := inDual(t, "client-1", "nslookup -type=aaaa web; wget -q -T 5 -O - http://only6/; wget -q -T 5 -O - http://web/")
		if err == nil && (!strings.Contains(out, address("web-1", "ipv6.address")) || !strings.Contains(out, "SIX")) {
			err = fmt.Errorf("it says %q", out)
		}

		return err
	})

	// Asked over IPv6, the server tells each what it would over IPv4, and nobody on an internal network about the world.
	server := strings.TrimSuffix(run(t, "incus network get "+found["web-1"].Devices["eth0"]["network"]+" ipv6.address"), "/64")
	closed := strings.TrimSuffix(run(t, "incus network get "+found["inside-1"].Devices["eth0"]["network"]+" ipv6.address"), "/64")
	for _, c := range []struct{ from, ask, want string }{
		{"client-1", "nslookup web " + server, address("web-1", "ipv4.address")},
		{"client-1", "nslookup only6 " + server, address("only6-1", "ipv6.address")},
		{"client-1", "nslookup " + address("web-1", "ipv6.address") + " " + server, "name = web-1.dual.incus"},
		{"client-1", "nslookup upstream.example.test " + server, "2001:db8::1"},
		{"web-1", "nslookup web.dual.incus " + server, address("web-1", "ipv6.address")},
		{"web-1", "nslookup only6.dual.incus " + server, "NXDOMAIN"},
		{"inside-1", "nslookup inside " + closed, address("inside-1", "ipv6.address")},
		{"inside-1", "nslookup upstream.example.test " + closed, "REFUSED"},
	} {
		out, _ := inDual(t, c.from, c.ask) // whose code is 1 when there is no answer
		if !strings.Contains(out, c.want) {
			t.Errorf("D05 %s: %s: want %q in\n%s", c.from, c.ask, c.want, out)
		}
	}

	run(t, "ip -6 addr replace 2001:db8:77::1/64 dev lan0 nodad; ip netns exec lan ip -6 addr replace 2001:db8:77::2/64 dev eth0 nodad")
	for _, c := range []struct{ from, url, caller string }{
		{"", "http://[::1]:8060/", "RemoteAddr:"},
		{"", "http://127.0.0.1:8060/", "RemoteAddr:"},
		{"ip netns exec lan ", "http://[2001:db8:77::1]:8060/", "RemoteAddr: [2001:db8:77::2]"},
		{"ip netns exec lan ", "http://198.51.100.1:8060/", "198.51.100.2]:"},
	} {
		out, err := try(t.Context(), c.from+"curl -sf -m 5 '"+c.url+"'")
		if err != nil || !strings.Contains(out, c.caller) {
			t.Errorf("%s from %q: %v, want %q in\n%s", c.url, c.from, err, c.caller, out)
		}
	}

	out, err := inDual(t, "web-1", "ping -c 1 -W 5 2001:db8:77::2 && ping -c 1 -W 5 198.51.100.2")
	if err != nil {
		t.Errorf("web-1 does not get out: %v\n%s", err, out)
	}

	// Root inside gives itself every route it can think of.
	gateway := netip.MustParsePrefix(found["inside-1"].Devices["eth0"]["ipv4.address"]).Masked().Addr().Next()
	gateway6 := netip.MustParsePrefix(found["inside-1"].Devices["eth0"]["ipv6.address"]).Masked().Addr().Next()
	_, _ = inDual(t, "inside-1", "ip route add default via "+gateway.String()+"; ip -6 route add default via "+gateway6.String())
	for _, to := range []string{"198.51.100.2", "2001:db8:77::2", address("web-1", "ipv4.address"), address("web-1", "ipv6.address")} {
		_, err := inDual(t, "inside-1", "ping -c 1 -W 1 "+to)
		if err == nil {
			t.Errorf("an internal network reaches %s", to)
		}
	}

	for _, option := range []string{"ipv4.address", "ipv6.address"} {
		_, err := inDual(t, "web-1", "ping -c 1 -W 1 "+address("inside-1", option))
		if err == nil {
			t.Errorf("an internal network is reached at its %s", option)
		}
	}
}

// A subnet that changes is told and left, and taken with all addresses once the file allows it.
func TestNetworkIsMadeAnewWhenAllowed(t *testing.T) {
	const before = "services: {web: {image: nginx:1.27, ports: [\"8062:80\"]}}\nnetworks: {default: {ipam: {config: [{subnet: 10.66.1.0/24}]}}}\n"
	drop(t, "moving", before)
	first := running(t, "moving", "web-1")
	settled(t, "moving")
	after := strings.Replace(before, "10.66.1.0/24", "10.66.2.0/24", 1)
	put(t, directory+"moving.yaml", after)
	condition(t, "moving", "Blocked", "its subnet stays 10.66.1.0/24")
	if got := restarted(first, running(t, "moving", "web-1")); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	put(t, directory+"moving.yaml", after+"x-ic-agent: {allow: [network-recreate]}\n")
	settled(t, "moving")
	answers(t, "http://127.0.0.1:8062/")
	if a := running(t, "moving", "web-1")["web-1"].Devices["eth0"]["ipv4.address"]; !strings.HasPrefix(a, "10.66.2.") {
		t.Errorf("web-1 has %s", a)
	}
}
