//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// says runs a shell command in an instance until it prints what is wanted.
func says(t *testing.T, project, instance, command, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s to say %q", instance, want), func(ctx context.Context) error {
		out, err := try(ctx, "incus exec "+instance+" --project "+project+" -- sh -c '"+command+"'")
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("it says %q", out)
		}

		return err
	})
}

// counted is how many lines of the agent's journal contain a text.
func counted(t *testing.T, text string) int {
	t.Helper()

	return strings.Count(run(t, "journalctl -u ic-agent -o cat --no-pager"), text)
}

const dockerfile = `FROM busybox:1.36
ARG WHO=nobody
ENV GREETING="hello $WHO"
RUN mkdir /work && echo made > /work/step
COPY page /page
USER 65534
WORKDIR /work
STOPSIGNAL SIGKILL
HEALTHCHECK --interval=1s CMD test -e /page
ENTRYPOINT ["/bin/sleep"]
CMD ["1000000"]
`

// A service with a build section runs what was built, with the whole of its config; it is built again when what it
// is made of changes, and only then; a build that fails leaves what runs; and with its registry away nothing changes.
func TestBuiltImageRuns(t *testing.T) {
	const file = `services:
  web:
    build: {context: /srv/e2e-build, args: {WHO: world}}
    environment: {MODE: first}
`
	put(t, "/srv/e2e-build/Dockerfile", dockerfile)
	put(t, "/srv/e2e-build/page", "one\n")
	put(t, "/srv/e2e-build/.dockerignore", "*.md\n")
	drop(t, "built", file)
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "rm -rf /srv/e2e-build; systemctl start docker-registry")
	})
	before := running(t, "built", "web-1")
	says(t, "built", "web-1", "tr \\\\0 \\\\n < /proc/1/environ; cat /page /work/step; stat -c uid=%u /proc/1; readlink /proc/1/cwd; tr \\\\0 _ < /proc/1/cmdline",
		"GREETING=hello world")
	says(t, "built", "web-1", "cat /page /work/step; stat -c uid=%u /proc/1; readlink /proc/1/cwd; tr \\\\0 _ < /proc/1/cmdline",
		"one\nmade\nuid=65534\n/work\n/bin/sleep_1000000_")
	eventually(t, "its HEALTHCHECK to be made", func(ctx context.Context) error {
		out, err := try(ctx, "incus config get web-1 user.healthcheck.status --project built")
		if err == nil && strings.TrimSpace(out) != "healthy" {
			err = fmt.Errorf("it is %q", out)
		}

		return err
	})
	settled(t, "built")

	builds := counted(t, "image built")
	put(t, "/srv/e2e-build/notes.md", "nothing that is built")
	put(t, directory+"built.yaml", "# a remark\n"+file)
	run(t, "ic-agent reload --wait")
	settled(t, "built")
	if n := counted(t, "image built"); n != builds {
		t.Errorf("an edit of nothing that matters built %d images", n-builds)
	}

	if got := restarted(before, running(t, "built", "web-1")); len(got) > 0 {
		t.Errorf("restarted: %v", got)
	}

	put(t, "/srv/e2e-build/page", "two\n")
	run(t, "ic-agent reload --wait")
	says(t, "built", "web-1", "cat /page", "two")
	settled(t, "built")

	before = running(t, "built", "web-1")
	put(t, "/srv/e2e-build/Dockerfile", strings.Replace(dockerfile, "mkdir /work", "echo the step says why; false", 1))
	run(t, "ic-agent reload --wait; true")
	condition(t, "built", "Blocked", "the step says why")
	if got := restarted(before, running(t, "built", "web-1")); len(got) > 0 {
		t.Errorf("a failed build restarted: %v", got)
	}

	put(t, "/srv/e2e-build/Dockerfile", dockerfile)
	run(t, "ic-agent reload --wait; systemctl stop docker-registry; systemctl restart ic-agent")
	settled(t, "built")
	if got := restarted(before, running(t, "built", "web-1")); len(got) > 0 {
		t.Errorf("without the registry: restarted %v", got)
	}

	put(t, directory+"built.yaml", strings.Replace(file, "first", "second", 1))
	says(t, "built", "web-1", "tr \\\\0 \\\\n < /proc/1/environ; cat /page", "MODE=second")
}

// privateRegistry is the lab's registry once more, for one user.
const privateRegistry = `version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}, maintenance: {readonly: {enabled: true}}}
auth: {htpasswd: {realm: lab, path: /etc/lab/htpasswd}}
http: {addr: "127.0.0.1:5444", secret: lab, tls: {certificate: /etc/lab/tls/cert.pem, key: /etc/lab/tls/key.pem}}
`

// An image of a registry that wants a password runs once the login is there, and nobody finds the password in Incus.
func TestPrivateRegistry(t *testing.T) {
	put(t, "/etc/lab/private.yml", privateRegistry)
	put(t, "/etc/lab/htpasswd", "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n")
	run(t, "chmod 644 /etc/lab/private.yml /etc/lab/htpasswd; systemd-run --unit e2e-private -q docker-registry serve /etc/lab/private.yml")
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "systemctl stop e2e-private; rm -f /etc/ic-agent/auth.json /etc/lab/private.yml /etc/lab/htpasswd")
	})
	drop(t, "private", "services:\n  web: {image: \"localhost:5444/library/nginx:1.27\"}\n")
	condition(t, "private", "Blocked", "log in: skopeo login --authfile /etc/ic-agent/auth.json localhost:5444")

	put(t, "/etc/ic-agent/auth.json", `{"auths":{"localhost:5444":{"username":"me","password":"secret"}}}`)
	run(t, "chown root:ic-agent /etc/ic-agent/auth.json; chmod 640 /etc/ic-agent/auth.json; touch "+directory+"private.yaml; ic-agent update private; true")
	running(t, "private", "web-1")
	says(t, "private", "web-1", "env", "NGINX_VERSION=1.27.5")
	settled(t, "private")
	for _, look := range []string{
		"incus query '/1.0/images?recursion=1'", "incus query '/1.0/instances?recursion=2&project=private'", "journalctl -o cat --no-pager -u ic-agent -u incus",
		"cat /var/lib/ic-agent/state.db", "grep -rs . /var/lib/incus/images /var/log/incus --include=*.yaml --include=*.log",
	} {
		out := run(t, look+" | grep -c -e 'secret\"' -e 'me:secret' -e bWU6c2VjcmV0; true")
		if strings.TrimSpace(out) != "0" {
			t.Errorf("%s shows the password", look)
		}
	}
}

// A newer image behind a tag is shown, and taken when somebody says so; one named by its digest stays; two images of
// the same layers run with their own config each; and what no stack needs any more is deleted, but not what ran before.
func TestNewerImagesAreShownTakenAndForgotten(t *testing.T) {
	mkimage := func(ref string, args string) string {
		return run(t, "/usr/local/lib/lab/mkimage --from busybox:1.36 --cmd '[\"sleep\",\"1000000\"]' --stop-signal SIGKILL "+args+" "+ref)
	}
	run(t, "sed -i 's/^#keep_unused = .*/keep_unused = \"1s\"/' /etc/ic-agent/agent.toml; systemctl restart ic-agent")
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "sed -i 's/^keep_unused = .*/#keep_unused = \"24h\"/' /etc/ic-agent/agent.toml; systemctl restart ic-agent")
	})
	pinned := mkimage("e2e/app:1", "--write /v=1 --env MINE=first")
	mkimage("e2e/twin:1", "--env ONLY_ONE=1")
	mkimage("e2e/twin:2", "--env ONLY_TWO=2")
	drop(t, "newer", `services:
  app: {image: "docker.io/e2e/app:1", x-ic-agent: {update: {check: daily}}}
  fixed: {image: "docker.io/e2e/app:1@`+pinned+`"}
  one: {image: "docker.io/e2e/twin:1"}
  two: {image: "docker.io/e2e/twin:2"}
`)
	before := running(t, "newer", "app-1", "fixed-1", "one-1", "two-1")
	settled(t, "newer")
	first := imageOf(t, "newer", "app-1")
	says(t, "newer", "one-1", "tr \\\\0 \\\\n < /proc/1/environ | grep -c ONLY_TWO; tr \\\\0 \\\\n < /proc/1/environ", "ONLY_ONE=1")
	says(t, "newer", "two-1", "tr \\\\0 \\\\n < /proc/1/environ | grep ONLY", "ONLY_TWO=2")
	both := run(t, "for i in one-1 two-1; do incus exec $i --project newer -- sh -c 'tr \\\\0 \\\\n < /proc/1/environ' | grep -c ONLY; done")
	if both != "1\n1" {
		t.Errorf("of the two variables they see %q, want one each", both)
	}

	mkimage("e2e/app:1", "--write /v=2 --env MINE=second")
	out := run(t, "ic-agent update newer; ic-agent status newer")
	if strings.Count(out, "update available: docker.io/e2e/app:1 ") != 2 {
		t.Errorf("what is newer is not shown:\n%s", out)
	}

	if got := restarted(before, running(t, "newer", "app-1", "fixed-1", "one-1", "two-1")); len(got) > 0 {
		t.Errorf("asking restarted %v", got)
	}

	run(t, "ic-agent update --apply newer")
	says(t, "newer", "app-1", "cat /v", "2")
	settled(t, "newer")
	if got := fmt.Sprint(restarted(before, running(t, "newer", "app-1", "fixed-1", "one-1", "two-1"))); got != "[app-1]" {
		t.Errorf("restarted: %s, want [app-1]", got)
	}

	says(t, "newer", "fixed-1", "cat /v", "1")
	var were []string
	for _, v := range []string{"3", "4"} {
		were = append(were, imageOf(t, "newer", "app-1"))
		mkimage("e2e/app:1", "--write /v="+v+" --env MINE="+v)
		run(t, "ic-agent update --apply newer")
		says(t, "newer", "app-1", "cat /v", v)
	}

	settled(t, "newer")
	eventually(t, "the image before the last to be deleted", func(ctx context.Context) error {
		all, err := localImages(ctx)
		if err == nil && all[were[0]] {
			err = errors.New("it is still there")
		}

		return err
	})
	all, err := localImages(t.Context())
	if err != nil || !all[first] || !all[were[1]] || !all[imageOf(t, "newer", "app-1")] {
		t.Errorf("an image that runs, or ran before, is gone: %v, %v", all, err)
	}
}

// An image of Incus's own kind runs as a system container, with the address and the names that the agent gives it.
func TestNativeImageRuns(t *testing.T) {
	run(t, `d=$(mktemp -d); mkdir -p $d/rootfs/bin $d/rootfs/sbin $d/rootfs/etc $d/rootfs/proc $d/rootfs/sys $d/rootfs/dev $d/rootfs/run $d/rootfs/tmp $d/rootfs/root
		cp /bin/busybox $d/rootfs/bin/; for a in sh ip udhcpc cat nslookup sleep mkdir grep; do ln -s busybox $d/rootfs/bin/$a; done; ln -s ../bin/busybox $d/rootfs/sbin/init
		printf '%s\n' '::sysinit:/bin/sh -c "/bin/ip link set lo up; /bin/ip link set eth0 up; /bin/udhcpc -i eth0 -s /etc/lease -q"' '::respawn:/bin/sleep 1000000' > $d/rootfs/etc/inittab
		printf '%s\n' '#!/bin/sh' '[ "$1" = bound ] || exit 0' 'ip addr add $ip/$mask dev eth0; ip route add default via $router' 'echo "search $search $domain" > /etc/resolv.conf; for n in $dns; do echo "nameserver $n" >> /etc/resolv.conf; done' > $d/rootfs/etc/lease
		chmod +x $d/rootfs/etc/lease; printf '%s\n' 'architecture: x86_64' 'creation_date: 1735689600' 'properties: {os: busybox}' > $d/metadata.yaml
		sed -i "s/x86_64/$(uname -m)/" $d/metadata.yaml; tar -C $d -cf $d.tar metadata.yaml rootfs; incus image import $d.tar --alias e2e-sys; rm -rf $d $d.tar`)
	t.Cleanup(func() { _, _ = try(context.WithoutCancel(t.Context()), "incus image delete e2e-sys") })
	drop(t, "native", "services:\n  sys: {image: \"local:e2e-sys\"}\n  web: {image: nginx:1.27}\n")
	found := running(t, "native", "sys-1", "web-1")
	says(t, "native", "sys-1", "ip addr show eth0", "inet "+found["sys-1"].Devices["eth0"]["ipv4.address"]+"/")
	web, _, _ := strings.Cut(found["web-1"].Devices["eth0"]["ipv4.address"], "/")
	says(t, "native", "sys-1", "cat /etc/resolv.conf; nslookup web.native.incus", web)
	says(t, "native", "sys-1", "cat /proc/1/cmdline", "init")
	settled(t, "native")
}

func imageOf(t *testing.T, project, name string) string {
	t.Helper()

	return strings.TrimSpace(run(t, "incus config get "+name+" volatile.base_image --project "+project))
}

// localImages are the fingerprints of the images Incus has.
func localImages(ctx context.Context) (map[string]bool, error) {
	out, err := try(ctx, "incus query '/1.0/images?recursion=1'")
	if err != nil {
		return nil, err
	}

	var list []struct {
		Fingerprint string `json:"fingerprint"`
	}
	err = json.Unmarshal([]byte(out), &list)
	all := map[string]bool{}
	for _, i := range list {
		all[i.Fingerprint] = true
	}

	return all, err
}
