//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// battery is what RFC 8906 8 asks of every name server: how dig is called, what must be in its output and what
// must not. ZONE stands for the zone.
var battery = []struct {
	section, args string
	want, not     []string
}{
	{"8.1.1 the zone is served", "+noedns +noad +norec soa ZONE", []string{"status: NOERROR", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{"OPT PSEUDOSECTION", `flags:.* ad`, `flags:.* rd`}},
	{"8.1.2 unknown types", "+noedns +noad +norec type1000 ZONE", []string{"status: NOERROR", `flags: qr aa\b`, "ANSWER: 0"}, []string{"OPT PSEUDOSECTION", `flags:.* ad`}},
	{"8.1.3.1 CD", "+noedns +noad +norec +cd soa ZONE", []string{"status: NOERROR", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{"OPT PSEUDOSECTION", `flags:.* ad`}},
	{"8.1.3.2 AD", "+noedns +norec +ad soa ZONE", []string{"status: NOERROR", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{"OPT PSEUDOSECTION"}},
	{"8.1.3.3 the reserved bit", "+noedns +noad +norec +zflag soa ZONE", []string{"status: NOERROR", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{"MBZ", `flags:.* ad`}},
	{"8.1.3.4 RD", "+noedns +noad +rec soa ZONE", []string{"status: NOERROR", `flags: qr aa rd`, `(?m)^ZONE.*SOA`}, []string{"OPT PSEUDOSECTION"}},
	{"8.1.4 unknown opcodes", "+noedns +noad +opcode=15 +norec +header-only", []string{"opcode: RESERVED15", "status: NOTIMP", "QUERY: 0, ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0"}, []string{`flags:.* aa`, `flags:.* ad`}},
	{"8.1.5 TCP", "+noedns +noad +norec +tcp soa ZONE", []string{"status: NOERROR", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{"OPT PSEUDOSECTION"}},
	{"8.2.1 EDNS", "+nocookie +edns=0 +noad +norec soa ZONE", []string{"status: NOERROR", "EDNS: version: 0", `flags: qr aa\b`, `(?m)^ZONE.*SOA`}, []string{`flags:.* ad`}},
	{"8.2.2 EDNS version", "+nocookie +edns=1 +noednsneg +noad +norec soa ZONE", []string{"status: BADVERS", "EDNS: version: 0"}, []string{`flags:.* aa`, `(?m)^ZONE.*SOA`}},
	{"8.2.3 EDNS options", "+nocookie +edns=0 +noad +norec +ednsopt=100 soa ZONE", []string{"status: NOERROR", "EDNS: version: 0", `(?m)^ZONE.*SOA`}, []string{"OPT=100"}},
	{"8.2.4 EDNS flags", "+nocookie +edns=0 +noad +norec +ednsflags=0x40 soa ZONE", []string{"status: NOERROR", "EDNS: version: 0", `(?m)^ZONE.*SOA`}, []string{"MBZ"}},
	{"8.2.5 EDNS version and flags", "+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa ZONE", []string{"status: BADVERS", "EDNS: version: 0"}, []string{"MBZ", `flags:.* aa`}},
	{"8.2.6 EDNS version and options", "+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 soa ZONE", []string{"status: BADVERS", "EDNS: version: 0"}, []string{"OPT=100"}},
	{"8.2.7 DO", "+nocookie +edns=0 +noad +norec +dnssec soa ZONE", []string{"status: NOERROR", `version: 0, flags: do`, `(?m)^ZONE.*SOA`}, nil},
	{"8.2.8 small buffer", "+nocookie +norec +noad +dnssec +bufsize=512 +ignore dnskey ZONE", []string{"status: NOERROR", `version: 0, flags: do`}, []string{`flags:.* tc`}},
	{"8.2.9 EDNS over TCP", "+nocookie +edns=0 +noad +norec +tcp soa ZONE", []string{"status: NOERROR", "EDNS: version: 0", `(?m)^ZONE.*SOA`}, nil},
	{"B5 cookies (RFC 7873)", "+cookie=0123456789abcdef +norec soa ZONE", []string{"status: NOERROR", `COOKIE: 0123456789abcdef01000000[0-9a-f]+ \(good\)`}, nil},
	{"D23 ANY (RFC 8482)", "+nocookie +notcp +norec any ZONE", []string{"status: NOERROR", `HINFO.*"RFC8482"`}, nil},
	{"D23 transfer", "+nocookie +tcp axfr ZONE", []string{"Transfer failed"}, nil},
	{"D23 class", "+nocookie txt ch version.bind", []string{"status: REFUSED"}, nil},
}

// dig asks the server at an address from inside the lab's network, with the dig of this machine.
func dig(ctx context.Context, at, args string) (string, error) {
	pid, err := exec.CommandContext(ctx, "test/lab/lab", "pid", lab).Output()
	if err != nil {
		return "", fmt.Errorf("find the lab: %w", err)
	}

	command := append([]string{"-t", strings.TrimSpace(string(pid)), "-n", "dig", "@" + at, "+tries=1", "+time=3"}, strings.Fields(args)...)
	out, err := exec.CommandContext(ctx, "nsenter", command...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("dig %s: %w: %s", args, err, out)
	}

	return string(out), nil
}

const named = `services:
  web:
    image: docker.io/library/nginx:alpine
    deploy: {replicas: 2}
    ports: ["127.0.0.1:18080-18081:80"]
`

// TestD21Conformance is the battery against the agent's own server, as the host sees it.
func TestD21Conformance(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "tools/need", "dig:bind9-dnsutils", "nsenter:util-linux").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	drop(t, "named", named)
	var at string
	eventually(t, "the network's gateway answers", func(ctx context.Context) error {
		out, err := try(ctx, "incus network get $(incus network list -f csv | cut -d, -f1 | grep '^named-' | head -n 1) ipv4.address")
		if err != nil {
			return err
		}

		at, _, _ = strings.Cut(strings.TrimSpace(out), "/")
		got, err := dig(ctx, at, "+short web.named.incus")
		if err != nil {
			return err
		}

		if len(strings.Fields(got)) != 2 {
			return fmt.Errorf("web.named.incus is %q", got)
		}

		return nil
	})

	for _, b := range battery {
		t.Run(b.section, func(t *testing.T) {
			got, err := dig(t.Context(), at, strings.ReplaceAll(b.args, "ZONE", "named.incus"))
			if err != nil {
				t.Fatal(err)
			}

			for _, deviation := range deviations(got, "named.incus", b.want, b.not) {
				t.Errorf("dig %s: %s\n%s", b.args, deviation, got)
			}
		})
	}
}

// deviations says what of an output is not as it must be.
func deviations(output, zone string, want, not []string) []string {
	var out []string
	for _, w := range want {
		w = strings.ReplaceAll(w, "ZONE", regexp.QuoteMeta(zone))
		if !regexp.MustCompile(w).MatchString(output) {
			out = append(out, "lacks "+w)
		}
	}

	for _, n := range not {
		if regexp.MustCompile(n).MatchString(output) {
			out = append(out, "has "+n)
		}
	}

	return out
}
