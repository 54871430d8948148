//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stubs are the resolver libraries programs come with, and how a program of each is called in the lab.
var stubs = []struct{ name, build, call string }{
	{"glibc", "gcc -O2 -o OUT gai.c", "timeout 4 DIR/glibc NAMES"},
	{"musl", "musl-gcc -O2 -static -o OUT gai.c", "timeout 4 DIR/musl NAMES"},
	{"go", "env CGO_ENABLED=0 go build -o OUT gai.go", "timeout 4 DIR/go NAMES"},
	// Its warnings are about lookups in files that nobody asks for.
	{"c-ares", "gcc -O2 -o OUT cares.c -static -lcares -Wl,--no-warnings", "timeout 4 DIR/c-ares NAMES"},
	{"busybox", "", `for n in NAMES; do echo "$n" $(timeout 4 busybox nslookup $n | sed '1,/^$/d' | sed -n 's/^Address: *//p; s/.*can.t find.*NXDOMAIN.*/error no such name/p' | sort -u); done`},
	{"resolved", "", `for n in NAMES; do case $n in *.*) f=$n;; *) f=$n.shop.stub;; esac
		echo "$n" $(timeout 4 resolvectl query --legend=no $f 2>&1 | sed 's/.*not found$/error no such name/; s/ *-- link.*//; s/^.*stub: *//'); done`},
}

// TestD43StubMatrix: every stub resolver gets every kind of answer: one family, the other, both, more than fits into
// a datagram, none, and a short name by its search domain; each within the time a timeout of any of them would take.
func TestD43StubMatrix(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "tools/need", "gcc:gcc", "/usr/include/stdlib.h:libc6-dev", "musl-gcc:musl-tools",
		"/usr/include/ares.h:libc-ares-dev").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	const dir = "/root/stubs"
	run(t, "mkdir -p "+dir)
	install := func(name, build string) {
		into := filepath.Join(t.TempDir(), name)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(build, "OUT", into))
		cmd.Dir = "test/e2e/testdata/stubs"
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", build, err, out)
		}

		out, err = exec.CommandContext(t.Context(), "test/lab/lab", "put", lab, into, dir+"/"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	install("serve", "env CGO_ENABLED=0 go build -o OUT serve.go")
	run(t, "systemd-run --quiet --unit=stub-server "+dir+"/serve; resolvectl dns lan0 127.53.1.1; resolvectl domain lan0 '~stub'")
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "systemctl stop stub-server; resolvectl revert lan0") // the lab goes anyway
	})
	eventually(t, "the server answers", func(ctx context.Context) error {
		_, err := try(ctx, "dig +time=1 +tries=1 +short @127.53.1.1 v4only.shop.stub | grep -q .")
		return err
	})

	names := []string{"v4only.shop.stub", "v6only.shop.stub", "dual.shop.stub", "many.shop.stub", "v4only", "nosuch.shop.stub"}
	for _, s := range stubs {
		t.Run(s.name, func(t *testing.T) {
			if s.build != "" {
				install(s.name, s.build)
			}

			script, shell := strings.NewReplacer("DIR", dir, "NAMES", strings.Join(names, " ")).Replace(s.call), "sh"
			if s.name != "resolved" {
				// A resolv.conf of its own, and DNS instead of the host's resolver.
				shell = "unshare -m sh"
				script = "printf 'nameserver 127.53.1.1\nsearch shop.stub\n' > /tmp/resolv.conf\necho 'hosts: files dns' > /tmp/nsswitch.conf\n" +
					"mount --bind /tmp/resolv.conf $(realpath /etc/resolv.conf); mount --bind /tmp/nsswitch.conf /etc/nsswitch.conf\n" + script
			}

			put(t, dir+"/"+s.name+".sh", script+"\n")
			got := run(t, shell+" "+dir+"/"+s.name+".sh")
			for _, complaint := range unlike(s.name, got) {
				t.Errorf("%s\n%s", complaint, got)
			}
		})
	}
}

// unlike says what a stub was told that it should not have been, or the other way round.
func unlike(stub, output string) []string {
	got := map[string][]string{}
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) > 0 {
			slices.Sort(f[1:])
			got[f[0]] = slices.Compact(f[1:])
		}
	}

	var out []string
	for name, want := range map[string]string{
		"v4only.shop.stub": "127.53.2.1", "v6only.shop.stub": "fd00:53::2", "dual.shop.stub": "127.53.2.3 fd00:53::3", "v4only": "127.53.2.1",
		"nosuch.shop.stub": "error name no such",
	} {
		if have := strings.Join(got[name], " "); have != want {
			out = append(out, fmt.Sprintf("%s: %q, want %q", name, have, want))
		}
	}

	// Musl before 1.2.4 and busybox ask over UDP alone: they take what fits into 512 bytes.
	many, least := len(got["many.shop.stub"]), 60
	if stub == "musl" || stub == "busybox" {
		least = 20
	}

	if many < least || many > 60 {
		out = append(out, fmt.Sprintf("many.shop.stub: %d addresses, want %d", many, least))
	}

	return out
}
