package health

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// X3: what the commands that people write are from the host.
func TestX3Recognised(t *testing.T) {
	web := func(p Probe) *Probe {
		p.Type = "http"
		if p.Path == "" {
			p.Path = "/"
		}
		if p.Host == "" {
			p.Host = "localhost"
		}
		return &p
	}
	redis := func(p Probe) *Probe { p.Type = "redis"; p.Port = max(p.Port, 6379); return &p }
	postgres := func(p Probe) *Probe { p.Type = "postgres"; p.Port = max(p.Port, 5432); return &p }
	for line, want := range map[string]*Probe{
		"curl -f http://localhost":                                      web(Probe{}),
		"curl -f http://localhost/ || exit 1":                           web(Probe{}),
		"curl --fail http://localhost:8080/healthz || exit 1":           web(Probe{Port: 8080, Path: "/healthz", Host: "localhost:8080"}),
		"curl -fsS http://127.0.0.1:80/a?b=c -o /dev/null":              web(Probe{Port: 80, Path: "/a?b=c", Host: "127.0.0.1:80"}),
		"curl -sf localhost:3000 > /dev/null 2>&1 || exit 1":            web(Probe{Port: 3000, Host: "localhost:3000"}),
		"curl http://localhost":                                         web(Probe{Any: true}),
		"curl -sSfL -m 3 http://localhost":                              web(Probe{Follow: true, Within: 3 * time.Second}),
		"curl -fk https://localhost:8443/x":                             web(Probe{Port: 8443, Path: "/x", Host: "localhost:8443", TLS: true}),
		"curl -I -f http://localhost":                                   web(Probe{Method: "HEAD"}),
		`curl -f -H "Host: a.example" -H 'X-A: b' http://localhost`:     web(Probe{Host: "a.example", Headers: map[string]string{"X-A": "b"}}),
		"curl -f -X POST --max-time=2.5 http://localhost":               web(Probe{Method: "POST", Within: 2500 * time.Millisecond}),
		"exec /usr/bin/curl -f http://localhost:${PORT}/ && exit 0":     web(Probe{Port: 9000, Host: "localhost:9000"}),
		"curl -fs http://localhost:$PORT | grep -q ok":                  web(Probe{Port: 9000, Host: "localhost:9000", Body: "ok"}),
		"curl -s http://localhost:${OTHER:-81}/":                        web(Probe{Port: 81, Host: "localhost:81", Any: true}),
		"wget --spider http://localhost":                                web(Probe{Method: "HEAD", Follow: true}),
		"wget -q --spider --tries=1 http://localhost/x || exit 1":       web(Probe{Method: "HEAD", Follow: true, Path: "/x"}),
		`sh -c "wget -qO- http://localhost:8080/"`:                      web(Probe{Follow: true, Port: 8080, Host: "localhost:8080"}),
		"wget -qO- http://localhost:8080/":                              web(Probe{Follow: true, Port: 8080, Host: "localhost:8080"}),
		"wget -q -O - -T 5 http://127.0.0.1":                            web(Probe{Follow: true, Host: "127.0.0.1", Within: 5 * time.Second}),
		"wget -nv -t 1 -O /dev/null http://localhost || false":          web(Probe{Follow: true}),
		"wget --no-verbose --tries=1 --spider http://localhost":         web(Probe{Method: "HEAD", Follow: true}),
		"wget --no-check-certificate -q --spider https://localhost":     web(Probe{Method: "HEAD", Follow: true, TLS: true}),
		"nc -z localhost 5432":                                          {Type: "tcp", Port: 5432},
		"nc -zv -w 2 127.0.0.1 80 || exit 1":                            {Type: "tcp", Port: 80, Within: 2 * time.Second},
		"nc -zw1 localhost 80":                                          {Type: "tcp", Port: 80, Within: time.Second},
		"pg_isready":                                                    postgres(Probe{}),
		"pg_isready -U postgres":                                        postgres(Probe{}),
		`pg_isready -U "$NOBODY" -d app || exit 1`:                      nil,
		`pg_isready -U $USER -d ${DB:-app} -h localhost -p 5433 -q -t5`: postgres(Probe{Port: 5433, Within: 5 * time.Second}),
		"redis-cli ping":                                                redis(Probe{}),
		"redis-cli ping | grep PONG":                                    redis(Probe{Body: "PONG"}),
		"redis-cli --raw -p 6380 -a s3cret ping 2>&1 | grep -q PONG":    redis(Probe{Port: 6380, Password: "s3cret", Body: "PONG"}),
		`test "$(redis-cli ping)" = "PONG"`:                             redis(Probe{Body: "PONG"}),
		`[ "$(redis-cli -h localhost ping)" = PONG ] || exit 1`:         redis(Probe{Body: "PONG"}),
		"valkey-cli PING":                                               redis(Probe{}),

		"":                                 nil,
		"curl -f http://example.org":       nil, // asks somebody else
		"curl -f http://[::1]/":            nil, // another address than the host's
		"curl -f https://localhost":        nil, // by the container's own certificates
		"curl -f http://user:pw@localhost": nil,
		"curl -f http://localhost http://localhost":  nil,
		"curl --retry 3 -f http://localhost":         nil,
		"curl -f http://localhost || exit 0":         nil, // always passes
		"curl -f http://localhost || true":           nil,
		"curl -f http://localhost || exit 126":       nil,
		"curl -f http://localhost || curl localhost": nil,
		"curl -f http://localhost; exit 0":           nil,
		"curl -f http://localhost -o /tmp/x":         nil,
		"curl -f http://localhost > /tmp/x":          nil,
		"curl -f http://localhost &":                 nil,
		"curl -f `cat url`":                          nil,
		"curl -f $(cat url)":                         nil,
		"curl -f http://localhost/*":                 nil,
		"curl -f http://localhost:$NOBODY/":          nil,
		"curl -f 'http://localhost":                  nil,
		"curl -s http://localhost | grep -v bad":     nil,
		"curl -s http://localhost | grep '^ok$'":     nil,
		"curl -sI http://localhost | grep ok":        nil,
		"! curl -f http://localhost":                 nil,
		"wget http://localhost":                      nil, // writes a file
		"wget -t 3 --spider http://localhost":        nil,
		"nc localhost 80":                            nil,
		"nc -z db 80":                                nil,
		"nc -zu localhost 53":                        nil,
		"pg_isready -h db":                           nil,
		"pg_isready -d postgres://db/x":              nil,
		"redis-cli ping pong":                        nil,
		"redis-cli info":                             nil,
		"redis-cli -u redis://x ping":                nil,
		"test -e /ready":                             nil,
		"mysqladmin ping":                            nil,
	} {
		env := func(name string) (string, bool) {
			v, set := map[string]string{"PORT": "9000", "USER": "app", "STAR": "*"}[name]
			return v, set
		}
		for form, test := range map[string][]string{
			"shell": {"CMD-SHELL", line}, "tail": append([]string{"CMD-SHELL"}, strings.Split(line, " ")...), "sh -c": {"CMD", "/bin/sh", "-c", line},
		} {
			if diff := cmp.Diff(want, Recognise(test, env)); diff != "" {
				t.Errorf("%s: %q: (-want +got)\n%s", form, line, diff)
			}
		}
	}
}

func TestX3RecognisedArguments(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	got := Recognise([]string{"CMD", "curl", "-f", "http://localhost/a b"}, none)
	if got == nil || got.Path != "/a%20b" {
		t.Errorf("it is %+v", got)
	}
	if got := Recognise([]string{"CMD", "curl", "-f", "http://localhost", "||", "exit", "1"}, none); got != nil {
		t.Errorf("without a shell these are words: %+v", got)
	}
	if got := Recognise([]string{"CMD", "pg_isready"}, func(n string) (string, bool) { return "db", n == "PGHOST" }); got != nil {
		t.Errorf("it asks another host: %+v", got)
	}
}

func FuzzX3Recognise(f *testing.F) {
	f.Add(`[ "$(redis-cli ping)" = PONG ] || exit 1`)
	f.Add("curl -f http://localhost:${PORT:-80}/ 2>&1 | grep -q 'x' && exit 0")
	f.Fuzz(func(t *testing.T, line string) {
		p := Recognise([]string{"CMD-SHELL", line}, func(string) (string, bool) { return "1", true })
		if p != nil && (p.At() < 1 || p.At() > 65535) {
			t.Errorf("port %d of %q", p.At(), line)
		}
	})
}
