package imagetest

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Anything returns a registry that has every image: those added, and for any other repository and tag it
// makes one up, the same every time, with the config that well-known software of that name has. Digests it
// did not give out itself are not found.
//
// It lets the agent run where no registry is, without programs to run: the images hold no more than a passwd
// and a group file.
func Anything() *Registry {
	r := New()
	r.makeUp = true
	return r
}

// invent makes up the image of a manifest's path, unless it is there.
func (r *Registry) invent(manifest string) error {
	repo, tag, ok := strings.Cut(strings.TrimPrefix(manifest, "/v2/"), "/manifests/")
	r.mu.Lock()
	there := r.made[manifest]
	r.mu.Unlock()
	if !ok || there || strings.Contains(tag, ":") {
		return nil
	}
	// A host that is none keeps the repository as it is; nobody looks at it.
	ref := "localhost/" + repo + ":" + tag
	_, err := r.Add(ref, guess(path.Base(repo)), users(), Files{"etc/image": repo + ":" + tag + "\n"})
	if err != nil {
		return fmt.Errorf("make up %s: %w", ref, err)
	}
	return nil
}

// guess is the config of well-known software, as its official image has it; others get a shell.
func guess(name string) Config {
	c, ok := known[name]
	if !ok {
		c = Config{Cmd: []string{"sh"}}
	}
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
	return c
}

var known = map[string]Config{
	"caddy": {
		Cmd: []string{"caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"},
		Cwd: "/srv", Ports: []string{"80/tcp", "443/tcp", "443/udp", "2019/tcp"},
	},
	"grafana": {Entrypoint: []string{"/run.sh"}, User: "472", Cwd: "/usr/share/grafana", Ports: []string{"3000/tcp"}},
	"httpd":   {Cmd: []string{"httpd-foreground"}, StopSignal: "SIGWINCH", Ports: []string{"80/tcp"}},
	"mariadb": {
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"mariadbd"},
		Volumes: []string{"/var/lib/mysql"}, Ports: []string{"3306/tcp"},
	},
	"memcached": {
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"memcached"}, User: "memcache", Ports: []string{"11211/tcp"},
	},
	"nginx": {
		Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
		StopSignal: "SIGQUIT", Ports: []string{"80/tcp"},
	},
	"postgres": {
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, Env: []string{"PGDATA=/var/lib/postgresql/data"},
		StopSignal: "SIGINT", Volumes: []string{"/var/lib/postgresql/data"}, Ports: []string{"5432/tcp"},
	},
	"redis": {
		Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"},
		Cwd: "/data", Volumes: []string{"/data"}, Ports: []string{"6379/tcp"},
	},
	"traefik": {Entrypoint: []string{"/entrypoint.sh"}, Cmd: []string{"traefik"}, Ports: []string{"80/tcp"}},
	"vaultwarden": {
		Cmd: []string{"/start.sh"}, Volumes: []string{"/data"}, Ports: []string{"80/tcp"},
		Healthcheck: &plan.Healthcheck{Test: []string{"CMD", "/healthcheck.sh"}, Interval: time.Minute, Timeout: 10 * time.Second},
	},
}

// users is a layer with the users that the images above and compose files like to name.
func users() Files {
	passwd, group := "", ""
	for _, u := range []struct {
		name string
		id   int
	}{
		{"root", 0},
		{"www-data", 33},
		{"postgres", 70},
		{"nginx", 101},
		{"grafana", 472},
		{"redis", 999},
		{"node", 1000},
		{"memcache", 11211},
		{"nobody", 65534},
	} {
		passwd += fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", u.name, u.id, u.id)
		group += fmt.Sprintf("%s:x:%d:\n", u.name, u.id)
	}
	return Files{"etc/passwd": passwd, "etc/group": group}
}
