//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// canaries are secrets nobody may find anywhere but inside: short and long ones, binary ones, ones with line breaks.
func canaries() map[string]string {
	out := map[string]string{}
	for i := range 20 {
		c := fmt.Sprintf("cAnArY%02d", i)
		switch i % 4 {
		case 1:
			c += strings.Repeat("-long", 2000)
		case 2:
			c += "\x00\x01\xfe\xff" + c + "\n"
		case 3:
			c += "\nline two of " + c + "\n"
		}

		out[fmt.Sprintf("s%02d", i)] = c
	}

	return out
}

// plant writes the canaries as files, variables and external secrets, and returns the stack that uses all of them.
func plant(t *testing.T, dir string) string {
	t.Helper()
	var service, top strings.Builder
	env := ""
	secrets := canaries()
	for i := range len(secrets) {
		name := fmt.Sprintf("s%02d", i)
		put := func(path string) {
			run(t, fmt.Sprintf("mkdir -p $(dirname %[1]s); echo %[2]s | base64 -d > %[1]s; chgrp ic-agent %[1]s; chmod 640 %[1]s",
				path, base64.StdEncoding.EncodeToString([]byte(secrets[name]))))
		}
		switch {
		case i%4 == 0:
			env += fmt.Sprintf("V%02d=%s\n", i, secrets[name])
			fmt.Fprintf(&top, "  %s: {environment: V%02d}\n", name, i)
		case i%4 == 1:
			put("/etc/ic-agent/secrets/" + name)
			fmt.Fprintf(&top, "  %s: {external: true}\n", name)
		default:
			put(dir + name)
			fmt.Fprintf(&top, "  %s: {file: ./%s}\n", name, name)
		}

		target := ""
		if i >= 15 {
			target = ", target: /etc/app/" + name
		}

		fmt.Fprintf(&service, "      - {source: %s, uid: \"1000\", gid: \"1001\", mode: 0440%s}\n", name, target)
	}

	put(t, dir+".env", env)

	return "services:\n  app:\n    image: busybox\n    command: [sleep, inf]\n    user: \"1000:1001\"\n    secrets:\n" + service.String() +
		"  db:\n    image: postgres:17\n    environment: {POSTGRES_PASSWORD_FILE: /run/secrets/password}\n    secrets: [password]\n" +
		"    volumes: [\"data:/var/lib/postgresql/data\"]\n" +
		"volumes: {data: {}}\nsecrets:\n  password: {file: ./password}\n" + top.String()
}

// Secrets are read inside with the asked owner and mode, are found nowhere else, come back after a reboot, and a new
// one arrives.
func TestSecretsAreSeenInsideAndNowhereElse(t *testing.T) {
	dir := directory + "vault/"
	t.Cleanup(func() {
		_, _ = try(context.WithoutCancel(t.Context()), "systemctl stop ic-agent; rm -rf "+dir+" /etc/ic-agent/secrets/*")
		forget(t, "vault")
	})
	run(t, "mkdir -p "+dir+" && printf openSesame > "+dir+"password && chgrp ic-agent "+dir+"password && chmod 640 "+dir+"password")
	put(t, dir+"compose.yaml", plant(t, dir))
	running(t, "vault", "app-1", "db-1")
	settled(t, "vault")
	readInside(t)
	nowhereElse(t)

	out, err := command(t, "reboot")
	if err != nil {
		t.Fatalf("reboot: %v: %s", err, out)
	}

	running(t, "vault", "app-1", "db-1")
	settled(t, "vault")
	readInside(t)
	if log := run(t, "journalctl -b -u incus -o cat --no-pager | grep -ci 'failed to .*start' || true"); log != "0" {
		t.Errorf("Incus could not start an instance before the agent was there: %s", log)
	}

	eventually(t, "the password to open the database", func(ctx context.Context) error {
		_, err := try(ctx, "incus exec db-1 --project vault --env PGPASSWORD=openSesame -- psql -h 127.0.0.1 -U postgres -c 'create table if not exists t (n int)'")
		return err
	})
	before := running(t, "vault", "app-1", "db-1")
	run(t, "printf cAnArYrotated > "+dir+"s02.new && chgrp ic-agent "+dir+"s02.new && chmod 640 "+dir+"s02.new && mv "+dir+"s02.new "+dir+"s02")
	eventually(t, "the new secret to be inside", func(ctx context.Context) error {
		out, err := try(ctx, "incus exec app-1 --project vault -- cat /run/secrets/s02")
		if err == nil && out != "cAnArYrotated" {
			err = fmt.Errorf("it is %q", out)
		}

		return err
	})
	settled(t, "vault")
	if got := fmt.Sprint(restarted(before, running(t, "vault", "app-1", "db-1"))); got != "[app-1]" {
		t.Errorf("restarted: %s", got)
	}

	run(t, "incus exec db-1 --project vault --env PGPASSWORD=openSesame -- psql -h 127.0.0.1 -U postgres -c 'select * from t'")
}

// readInside compares every canary with what the service sees, as its own user.
func readInside(t *testing.T) {
	t.Helper()
	for name, want := range canaries() {
		path := "/run/secrets/" + name
		if name >= "s15" {
			path = "/etc/app/" + name
		}

		eventually(t, path+" to be read", func(ctx context.Context) error {
			got, err := try(ctx, fmt.Sprintf("incus exec app-1 --project vault --user 1000 --group 1001 -- sh -c 'base64 %[1]s | tr -d \"\\n\"; echo; stat -c \"%%u:%%g %%a\" %[1]s'", path))
			if err == nil && got != base64.StdEncoding.EncodeToString([]byte(want))+"\n1000:1001 440\n" {
				err = fmt.Errorf("it is %.80q", got)
			}

			return err
		})
	}
}

// nowhereElse looks for the canaries in everything that is kept or shown.
func nowhereElse(t *testing.T) {
	t.Helper()
	run(t, "incus snapshot create app-1 --project vault")
	for what, look := range map[string]string{
		"the ledger":            "cat /var/lib/ic-agent/state.db",
		"the journal":           "journalctl -o cat --no-pager",
		"command lines":         "cat /proc/[0-9]*/cmdline",
		"environments":          "cat /proc/[0-9]*/environ",
		"Incus's instances":     "incus query '/1.0/instances?recursion=2&project=vault'",
		"Incus's other objects": "incus query '/1.0/storage-pools/default/volumes/custom?recursion=1&project=vault'; incus query '/1.0/projects/vault'",
		"Incus's database":      "cat /var/lib/incus/database/global/* 2>/dev/null",
		"root filesystems":      "grep -rl 'cAnA[r]Y' /var/lib/incus/storage-pools/default/containers/ 2>/dev/null | sed s/^/cAnA''rY/",
		"snapshots":             "grep -rl 'cAnA[r]Y' /var/lib/incus/storage-pools/default/containers-snapshots/ 2>/dev/null | sed s/^/cAnA''rY/",
		"the agent's API":       "curl -s --unix-socket /run/ic-agent/api.sock http://x/v1/status; ic-agent status --json; ic-agent status vault; ic-agent plan vault; ic-agent why vault; ic-agent history vault; ic-agent diff vault",
		"check":                 "ic-agent check /etc/incus-compose.d/vault; ic-agent check --json /etc/incus-compose.d/vault",
		"logs":                  "cat /var/log/incus/vault_*/* 2>/dev/null",
	} {
		if n := run(t, "("+look+") 2>&1 | grep -ac 'cAnA[r]Y' || true"); n != "0" {
			t.Errorf("%s hold a secret, in %s lines", what, n)
		}
	}

	run(t, "incus snapshot delete app-1 snap0 --project vault")
}

// A fresh volume gets the image's files with their owner and mode, an image's VOLUME is a volume of its own, and data
// outlives the instances.
func TestFreshVolumeGetsTheImagesFiles(t *testing.T) {
	const stack = `services:
  web:
    image: nginx:1.27
    volumes: ["html:/usr/share/nginx/html", {type: volume, source: bare, target: /etc/nginx, volume: {nocopy: true}}]
  cache:
    image: redis:7
volumes: {html: {}, bare: {}}
`
	plain := strings.Replace(stack, `, {type: volume, source: bare, target: /etc/nginx, volume: {nocopy: true}}`, "", 1)
	plain = strings.Replace(plain, ", bare: {}", "", 1)
	drop(t, "seeds", plain)
	running(t, "seeds", "web-1", "cache-1")
	settled(t, "seeds")
	if got := run(t, "incus exec web-1 --project seeds -- sh -c 'grep -c nginx /usr/share/nginx/html/index.html; grep -c \" /usr/share/nginx/html \" /proc/self/mountinfo'"); !strings.HasSuffix(got, "\n1") || got[0] == '0' {
		t.Errorf("the volume has %q", got)
	}

	if got := run(t, "incus exec cache-1 --project seeds -- sh -c 'stat -c \"%u:%g\" /data; grep -c \" /data \" /proc/self/mountinfo'"); got != "999:999\n1" {
		t.Errorf("the image's VOLUME is %q", got)
	}

	run(t, "incus exec web-1 --project seeds -- sh -c 'echo mine > /usr/share/nginx/html/index.html'")
	run(t, "incus exec cache-1 --project seeds -- redis-cli set answer 42; incus exec cache-1 --project seeds -- redis-cli save")
	run(t, "for i in web-1 cache-1; do incus delete -f $i --project seeds; done")
	running(t, "seeds", "web-1", "cache-1")
	settled(t, "seeds")
	eventually(t, "the user's file to be there still", func(ctx context.Context) error {
		out, err := try(ctx, "incus exec web-1 --project seeds -- cat /usr/share/nginx/html/index.html")
		if err == nil && out != "mine\n" {
			err = fmt.Errorf("it is %q", out)
		}

		return err
	})

	eventually(t, "the answer to be there still", func(ctx context.Context) error {
		out, err := try(ctx, "incus exec cache-1 --project seeds -- redis-cli get answer")
		if err == nil && strings.TrimSpace(out) != "42" {
			err = fmt.Errorf("it is %q", out)
		}

		return err
	})

	put(t, directory+"seeds.yaml", stack)
	eventually(t, "nocopy to leave its volume empty", func(ctx context.Context) error {
		out, err := try(ctx, "incus exec web-1 --project seeds -- sh -c 'ls -A /etc/nginx | wc -l'")
		if err == nil && strings.TrimSpace(out) != "0" {
			err = fmt.Errorf("it holds %q", out)
		}

		return err
	})
}
