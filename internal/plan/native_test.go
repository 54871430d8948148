package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

func nativeStack() (plan.Project, plan.Input) {
	p := plan.Project{
		Stack: "blog", Name: "blog", Incus: "blog", Source: "blog.yaml",
		Networks: []plan.Network{{Name: "default", Incus: "blog-default"}},
		Services: []plan.Service{{
			Name: "sys", Image: plan.ImageRef{Ref: "images:alpine/edge"}, Replicas: 1, Networks: []plan.Attachment{{Network: "default"}},
		}},
	}
	in := plan.Input{
		Owner: "me", Pool: "default", Domain: "incus",
		Images: map[string]plan.Image{"images:alpine/edge": {
			Ref: "images:alpine/edge", Digest: "sha256:1", Fingerprint: "1", Native: true, Entrypoint: []string{plan.NativeInit},
		}},
		Segments:  map[string]plan.Segment{"blog-default": {Subnet: netip.MustParsePrefix("10.1.2.0/24"), Gateway: netip.MustParseAddr("10.1.2.1")}},
		Addresses: map[string]map[string]netip.Addr{"blog-default": {"sys-1": netip.MustParseAddr("10.1.2.5")}},
	}

	return p, in
}

func TestNativeImageBecomesASystemContainer(t *testing.T) {
	p, in := nativeStack()
	d := plan.Render(p, in)
	if len(d.Instances) != 1 {
		t.Fatalf("blocked: %v", d.Blocked)
	}

	w := d.Instances[0]
	for k := range w.Config {
		if strings.HasPrefix(k, "oci.") {
			t.Errorf("%s is set", k)
		}
	}

	if raw := w.Config["raw.lxc"]; raw != "lxc.log.level = info\n" {
		t.Errorf("raw.lxc = %q", raw)
	}

	nic := w.Devices["eth0"]
	if nic["ipv4.address"] != "10.1.2.5" || nic["ipv4.gateway"] != "" {
		t.Errorf("eth0 = %v", nic)
	}

	c := d.Networks[0].Config
	if c["ipv4.dhcp"] != "true" || c["ipv4.dhcp.ranges"] != "10.1.2.254-10.1.2.254" || c["raw.dnsmasq"] != "port=0" || c["dns.nameservers"] != "10.1.2.1" {
		t.Errorf("network = %v", c)
	}
}

func TestNativeImageRunsNoCommand(t *testing.T) {
	p, in := nativeStack()
	p.Services[0].Process.Command = []string{"sleep"}
	d := plan.Render(p, in)
	if len(d.Blocked) != 1 || !strings.Contains(d.Blocked[0].Reason, "remove command") {
		t.Errorf("blocked: %v", d.Blocked)
	}
}
