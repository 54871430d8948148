//go:build e2e

package e2e

import (
	"context"
	"crypto/md5"
	"fmt"
	"strings"
	"testing"
)

const rows = `services:
  boxed:
    image: busybox
    command: [sleep, inf]
    cap_drop: [ALL]
    cap_add: [CAP_CHOWN]
    security_opt: ["no-new-privileges:true"]
    umask: "027"
    environment: {discovery.type: single-node}
    expose: [1234]
    working_dir: /not/there
    oom_score_adj: 300
    ulimits: {nofile: 1000}
  fixed:
    image: busybox
    command: [sleep, inf]
    hostname: www
    domainname: example.net
    read_only: true
    tmpfs: ["/scratch:size=1m,mode=0750,uid=5,gid=6"]
    volumes: ["data:/new/data"]
    extra_hosts: ["db.example:192.0.2.1", "host.docker.internal:host-gateway"]
    dns_search: [example.org]
    dns_opt: ["ndots:2"]
  device:
    image: busybox
    command: [sleep, inf]
    user: "1000"
    devices: ["/dev/fuse:/dev/mine:r"]
    networks: {default: {interface_name: lan0}}
    links: ["boxed:boss", "boxed:big_boss"]
    volumes_from: ["fixed:ro"]
  host:
    image: busybox
    command: [sleep, inf]
    network_mode: host
    healthcheck: {test: "ping -c 1 192.0.2.53", interval: 1s}
    volumes:
      - {type: bind, source: /srv/tree, target: /tree, bind: {recursive: enabled}}
      - {type: bind, source: /srv/tree, target: /flat, bind: {propagation: rprivate, recursive: disabled}}
      - held:/held
      - {type: volume, source: held, target: /leaf, volume: {subpath: leaf}}
  lined:
    image: busybox
    user: "1000:7"
    umask: "027"
    command: [sh, -c, 'printf %s "$$PEM" >/tmp/pem && exec sleep inf']
    environment:
      PEM: |+
        -----BEGIN-----
        it's "quoted" \n $$HOME
        -----END-----

      LAST: "\r\n"
    healthcheck: {test: 'printf %s "$$PEM" | cmp - /tmp/pem', interval: 1s, retries: 1}
    post_start: [{command: [sh, -c, 'printf %s "$$PEM" | cmp - /tmp/pem && touch /tmp/hooked']}]
  late:
    image: busybox
    command: [sleep, inf]
    volumes:
      - {type: volume, source: data, target: /sub, volume: {subpath: made/late}}
  pages:
    image: busybox
    command: [sleep, inf]
    volumes:
      - {type: image, source: "nginx:1.27", target: /pages, image: {subpath: usr/share/nginx}}
volumes:
  data: {}
  held: {driver_opts: {type: none, o: "bind,ro", device: /srv/tree/leaf/..}}
x-ic-agent: {policy: trusted}
`

// linedSum is that of what PEM holds.
var linedSum = fmt.Sprintf("%x", md5.Sum([]byte("-----BEGIN-----\nit's \"quoted\" \\n $HOME\n-----END-----\n\n")))

// What a file says of a service's rights, devices, names and places holds inside of it.
func TestRowsAreSeenFromInside(t *testing.T) {
	run(t, "mkdir -p /srv/tree/leaf /srv/tree/disk && mountpoint -q /srv/tree/disk || mount -t tmpfs tree /srv/tree/disk; touch /srv/tree/disk/on-disk /srv/tree/leaf/on-leaf")
	drop(t, "rows", rows)
	running(t, "rows", "boxed-1", "fixed-1", "device-1", "host-1", "pages-1", "lined-1")
	condition(t, "rows", "Blocked", "the volume data has no made/late")
	run(t, "incus exec fixed-1 --project rows -- mkdir -p /new/data/made/late")
	running(t, "rows", "boxed-1", "fixed-1", "device-1", "host-1", "pages-1", "lined-1", "late-1")
	settled(t, "rows")

	for _, c := range []struct{ service, look, want string }{
		{"boxed", "grep CapBnd /proc/1/status", "CapBnd:\t0000000000000001"},
		{"boxed", "grep CapEff /proc/1/status", "CapEff:\t0000000000000001"},
		{"boxed", "grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t1"},
		{"boxed", "grep Umask /proc/1/status", "Umask:\t0027"},
		{"boxed", "tr '\\0' ' ' </proc/1/environ | grep -o 'discovery.type=[^ ]*'", "discovery.type=single-node"},
		{"boxed", "readlink /proc/1/cwd", "/not/there"},
		{"boxed", "cat /proc/1/oom_score_adj", "300"},
		{"boxed", "awk '/open files/ {print $4}' /proc/1/limits", "1000"},
		{"lined", "md5sum </tmp/pem", linedSum + "  -"},
		{"lined", "tr '\\0' '|' </proc/1/environ | tr -d '\\n' | grep -o 'LAST=[^|]*|' | od -An -c", `L   A   S   T   =  \r   |  \n`},
		{"lined", "grep Umask /proc/1/status", "Umask:\t0027"},
		{"lined", "ls /tmp/hooked; stat -c '%a %u %g' /.ic-agent/environment", "/tmp/hooked\n400 1000 7"},
		{"fixed", "touch /x 2>&1", "touch: /x: Read-only file system"},
		{"fixed", "touch /scratch/x /new/data/x /run/x && echo written", "written"},
		{"fixed", "stat -c '%a %u %g' /scratch", "750 5 6"},
		{"fixed", "hostname", "www"},
		{"fixed", "grep -c 'www.example.net www$' /etc/hosts", "1"},
		{"fixed", "awk '/db.example/ {print $1}' /etc/hosts", "192.0.2.1"},
		{"fixed", "grep '^search' /etc/resolv.conf", "search rows.incus example.net example.org"},
		{"fixed", "grep '^options' /etc/resolv.conf", "options ndots:2"},
		{"fixed", "ping -c 1 -W 2 host.docker.internal >/dev/null && echo reached", "reached"},
		{"device", "stat -c '%a %u' /dev/mine", "440 1000"},
		{"device", "ls /sys/class/net | grep lan0", "lan0"},
		{"device", "nslookup big_boss 2>/dev/null | grep -c big_boss.rows.incus", "1"},
		{"device", "nslookup -type=srv _1234._tcp.boxed.rows.incus | grep -c ' 1234 boxed-1.rows.incus'", "1"},
		{"device", "nslookup boss 2>/dev/null | grep -c boss.rows.incus", "1"},
		{"host", "ls -d /sys/class/net/incusbr0", "/sys/class/net/incusbr0"},
		{"host", "nslookup upstream.example.test | grep -c 192.0.2.1", "1"},
		{"host", "ls /tree/disk /flat/disk", "/flat/disk:\n\n/tree/disk:\non-disk"},
		{"host", "ls /leaf", "on-leaf"},
		{"host", "touch /held/x 2>&1", "touch: /held/x: Read-only file system"},
		{"pages", "ls /pages/html/index.html; touch /pages/x 2>&1", "/pages/html/index.html\ntouch: /pages/x: Read-only file system"},
		{"late", "touch /sub/here && echo written", "written"},
		{"fixed", "ls /new/data/made/late", "here"},
		{"device", "touch /new/data/y 2>&1", "touch: /new/data/y: Read-only file system"},
	} {
		eventually(t, c.service+": "+c.look, func(ctx context.Context) error {
			out, err := try(ctx, "incus exec "+c.service+"-1 --project rows -- sh -c \""+strings.ReplaceAll(c.look, "$", `\$`)+"\"")
			if got := strings.TrimSpace(out); got != c.want {
				return fmt.Errorf("it says %q, want %q: %w", got, c.want, err)
			}

			return nil
		})
	}
}

// A file that asks for the host itself is refused, with the line and what to do, until it says that it is trusted.
func TestPolicyHoldsTheHostBack(t *testing.T) {
	const file = `services:
  web: {image: busybox, command: [sleep, inf], volumes: ["/etc:/host:ro"]}
`
	drop(t, "rows", file)
	condition(t, "rows", "Invalid", "the service mounts the host's /etc, which the policy standard does not allow")
	put(t, directory+"rows.yaml", file+"x-ic-agent: {policy: trusted}\n")
	running(t, "rows", "web-1")
	run(t, "incus exec web-1 --project rows -- test -f /host/hostname")
}
