# shellcheck shell=bash
# What a lab promises, tried on one. Sourced by lab.

lab_selftest() {
	SELF=selftest-$$
	trap 'lab_down "$SELF"' EXIT
	lab_up "$SELF"
	self_check "no unit failed" self_no_failed_units
	self_check "the registry answers as docker.io, ghcr.io and quay.io" self_registry
	self_check "names outside resolve by the lab's resolver, unknown ones do not exist" self_dns
	self_check "the Incus socket is reachable from this machine" self_socket
	self_check "a service with a static address runs, the app as PID 1" self_service
	self_check "its published port answers on the LAN" wait_for 5 self_published
	self_check "a stop honours the app's own signal handler" self_stop
	self_check "a file and a volume mounted into it are its own" self_mounts
	self_check "exit status and standard input pass through" self_run
	self_check "a changed image has another digest" self_mkimage
	lab_reboot "$SELF"
	self_check "after a reboot the service runs again" wait_for 10 self_running
	self_kill_supervisor
	lab_down "$SELF"
	self_check "down leaves nothing, even after its supervisor was killed" self_nothing_left
	self_check "a bad name is refused and removes nothing" self_bad_names
	trap - EXIT
	say "selftest passed"
}

self_check() {
	local what=$1
	shift
	"$@" || die "selftest: NOT SO: $what"
	say "      ok  $what"
}

self() { box_exec "$SELF" "$@"; }

self_no_failed_units() { [ "$(self systemctl is-system-running)" = running ]; }

self_registry() {
	local image
	for image in docker.io/library/nginx:alpine docker.io/traefik/whoami ghcr.io/example/web:1 quay.io/example/job; do
		self skopeo inspect --raw "docker://$image" >/dev/null || return
	done
}

self_dns() {
	[ "$(self dig +short upstream.example.test)" = 192.0.2.1 ] &&
		self dig nosuch.example.org | grep -q NXDOMAIN &&
		self getent hosts ghcr.io | grep -q 192.0.2.80
}

self_socket() {
	curl -s --unix-socket "/proc/$(box_pid "$SELF")/root/var/lib/incus/unix.socket" http://incus/1.0 | grep -q '"auth":"trusted"'
}

self_service() {
	self sh -eu <<'SH'
incus network create net0 ipv4.address=10.77.0.1/24 ipv4.dhcp=false dns.mode=none ipv6.address=none >/dev/null
incus remote add docker https://docker.io --protocol=oci 2>/dev/null
incus init docker:nginx:alpine web --no-profiles -s default -n net0 >/dev/null
incus config device set web eth0 ipv4.address=10.77.0.10/24 ipv4.gateway=10.77.0.1 ipv6.address=none
incus config device add web port proxy nat=true listen=tcp:0.0.0.0:8080 connect=tcp:0.0.0.0:80 >/dev/null
printf 'lxc.execute.cmd=\nlxc.init.cmd=/docker-entrypoint.sh nginx -g "daemon off;"\nlxc.signal.halt=SIGQUIT\n' | incus config set web raw.lxc=-
incus start web
SH
	self_running && [ "$(self incus exec web -- cat /proc/1/comm)" = nginx ]
}

self_running() { [ "$(self incus list -f csv -c s web)" = RUNNING ]; }

self_published() { self ip netns exec lan curl -sf -m 2 http://198.51.100.1:8080/ | grep -q 'Welcome to nginx'; }

self_stop() {
	self sh -eu <<'SH'
incus init docker:busybox slow --no-profiles -s default >/dev/null 2>&1
printf '%s\n' 'trap "sleep 2; exit 7" TERM' 'while :; do sleep 0.1; done' >/root/slow.sh
incus file push -q /root/slow.sh slow/slow.sh
printf 'lxc.execute.cmd=\nlxc.init.cmd=/bin/sh /slow.sh\nlxc.signal.halt=SIGTERM\nlxc.log.level=info\n' | incus config set slow raw.lxc=-
incus start slow
sleep 0.3
incus stop slow --timeout 10
incus query /1.0/instances/slow/logs/lxc.log --raw | grep -q 'ended on error (7)'
incus delete slow
SH
}

self_mounts() {
	self sh -eu <<'SH'
echo 'hello from a file' >/root/page.html
incus config device add web page disk source=/root/page.html path=/usr/share/nginx/html/page.html shift=true >/dev/null
incus storage volume create default data initial.uid=101 initial.gid=101 initial.mode=0750 >/dev/null
incus config device add web data disk pool=default source=data path=/data >/dev/null
test "$(incus exec web -- stat -c %u:%g:%a /data)" = 101:101:750
test "$(incus exec web -- stat -c %u /usr/share/nginx/html/page.html)" = 0
curl -sf http://10.77.0.10/page.html | grep -q 'hello from a file'
SH
}

self_run() {
	local status=0
	self sh -c 'exit 42' || status=$?
	[ $status = 42 ] && [ "$(echo in | self cat)" = in ]
}

self_mkimage() {
	local old new
	old=$(self skopeo inspect --raw docker://nginx:1.28 | sha256sum)
	self /usr/local/lib/lab/mkimage --from nginx:1.28 --env CHANGED=yes nginx:1.28 >/dev/null
	new=$(self skopeo inspect --raw docker://nginx:1.28 | sha256sum)
	[ "$old" != "$new" ] && self skopeo inspect --config docker://nginx:1.28 | jq_in '.config.Env | index("CHANGED=yes")'
}

jq_in() { self jq -e "$1" >/dev/null; }

# With a service still running in the lab.
self_kill_supervisor() { pgrep -f "supervisor.sh $SELF " | xargs kill -KILL; }

self_bad_names() {
	local state name
	state=$(mktemp -d)
	mkdir "$state/precious"
	for name in '' . .. ../precious A 'a b' -x; do
		! IC_LAB_STATE=$state/precious/.. "$LAB_HOME/lab" down "$name" 2>/dev/null || return
	done
	[ -d "$state/precious" ] && rm -r "$state"
}

self_nothing_left() {
	[ ! -e "$(lab_dir "$SELF")" ] &&
		[ ! -e "$(cgroup2_mount)/ic-agent-lab-$SELF" ] &&
		! grep -q "$SELF" /proc/self/mountinfo &&
		! pgrep -f "supervisor.sh $SELF " >/dev/null
}
