package health_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/compose"
	"github.com/incus-compose/ic-agent/internal/health"
)

// What a file says arrives here as it was meant, in every form the compose specification has.
func TestComposeFilesArriveAsSpecs(t *testing.T) {
	base := func(change func(*health.Spec)) *health.Spec {
		s := health.Spec{Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3, Successes: 1, Stretch: 1, OnUnhealthy: health.ReactNone}
		change(&s)
		return &s
	}
	shell := []string{"CMD-SHELL", "curl -f http://localhost:81"}
	shortcut := &health.Probe{Type: "http", Port: 81, Path: "/", Host: "localhost:81"}
	for name, c := range map[string]struct {
		service string
		want    *health.Spec // nil: not looked after
	}{
		"H01 text":           {`{healthcheck: {test: "curl -f http://localhost:81"}}`, base(func(s *health.Spec) { s.Test = shell })},
		"H01 CMD-SHELL":      {`{healthcheck: {test: [CMD-SHELL, "curl -f http://localhost:81"]}}`, base(func(s *health.Spec) { s.Test = shell })},
		"H01 CMD":            {`{healthcheck: {test: [CMD, a, "b c", ""]}}`, base(func(s *health.Spec) { s.Test = []string{"CMD", "a", "b c", ""} })},
		"H01 NONE":           {`{healthcheck: {test: [NONE]}}`, nil},
		"H01 disable":        {`{healthcheck: {disable: true, test: [CMD, a]}}`, nil},
		"H01 none, restarts": {`{restart: always, healthcheck: {test: [NONE]}}`, base(func(s *health.Spec) { s.Restart.Mode, s.OnUnhealthy = health.ModeAlways, health.ReactRestart })},
		"H02 all times": {`{healthcheck: {test: [CMD, a], interval: 1m30s, timeout: 1500ms, retries: 7, start_period: 1h, start_interval: 250ms}}`, base(func(s *health.Spec) {
			s.Test, s.Interval, s.Timeout, s.Retries = []string{"CMD", "a"}, 90*time.Second, 1500*time.Millisecond, 7
			s.StartPeriod, s.StartInterval = time.Hour, 250*time.Millisecond
		})},
		"H02 zeros are the defaults": {`{healthcheck: {test: [CMD, a], interval: 0s, timeout: 0s, retries: 0, start_period: 0s, start_interval: 0s}}`, base(func(s *health.Spec) { s.Test = []string{"CMD", "a"} })},
		"H19 on-failure": {`{restart: "on-failure:3"}`, base(func(s *health.Spec) {
			s.Restart, s.OnUnhealthy = health.Policy{Mode: health.ModeOnFailure, Max: 3}, health.ReactRestart
		})},
		"H23 reaction": {`{restart: always, healthcheck: {test: [CMD, a]}, x-ic-agent: {on-unhealthy: notify}}`, base(func(s *health.Spec) {
			s.Test, s.Restart.Mode, s.OnUnhealthy = []string{"CMD", "a"}, health.ModeAlways, health.ReactNotify
		})},
		"X8 threshold": {`{healthcheck: {test: [CMD, a]}, x-ic-agent: {success-threshold: 4}}`, base(func(s *health.Spec) { s.Test, s.Successes = []string{"CMD", "a"}, 4 })},
		"X9 stretch":   {`{healthcheck: {test: [CMD, a]}, x-ic-agent: {stretch: 4}}`, base(func(s *health.Spec) { s.Test, s.Stretch = []string{"CMD", "a"}, 4 })},
		"X3 auto": {`{healthcheck: {test: "curl -f http://localhost:81"}, x-ic-agent: {probe: auto}}`, base(func(s *health.Spec) {
			s.Test, s.Auto, s.Shortcut = shell, true, shortcut
		})},
		"X3 auto, of the environment": {`{environment: {PORT: 81}, healthcheck: {test: "curl -f http://localhost:$$PORT"}, x-ic-agent: {probe: auto}}`, base(func(s *health.Spec) {
			s.Test, s.Auto, s.Shortcut = []string{"CMD-SHELL", "curl -f http://localhost:$PORT"}, true, shortcut
		})},
		"X3 exec": {`{healthcheck: {test: "curl -f http://localhost:81"}, x-ic-agent: {probe: exec}}`, base(func(s *health.Spec) { s.Test = shell })},
		"X3 http": {`{x-ic-agent: {probe: {http: {port: 8080, path: /healthz, headers: {a: b}, tls: true}}}, healthcheck: {interval: 5s}}`, base(func(s *health.Spec) {
			s.Probe, s.Interval = &health.Probe{Type: "http", Port: 8080, Path: "/healthz", Headers: map[string]string{"a": "b"}, TLS: true}, 5*time.Second
		})},
		"X3 tcp":      {`{x-ic-agent: {probe: {tcp: 5432}}}`, base(func(s *health.Spec) { s.Probe = &health.Probe{Type: "tcp", Port: 5432} })},
		"X3 grpc":     {`{x-ic-agent: {probe: {grpc: {port: 9000, service: a}}}}`, base(func(s *health.Spec) { s.Probe = &health.Probe{Type: "grpc", Port: 9000, Service: "a"} })},
		"X3 dns":      {`{x-ic-agent: {probe: {dns: example.org}}}`, base(func(s *health.Spec) { s.Probe = &health.Probe{Type: "dns", Name: "example.org"} })},
		"X3 redis":    {`{x-ic-agent: {probe: {redis: {body: PONG}}}}`, base(func(s *health.Spec) { s.Probe = &health.Probe{Type: "redis", Body: "PONG"} })},
		"X3 postgres": {`{x-ic-agent: {probe: {postgres: {}}}}`, base(func(s *health.Spec) { s.Probe = &health.Probe{Type: "postgres"} })},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := os.WriteFile(filepath.Join(dir, "blog.yaml"), []byte("services: {web: {image: x, <<: "+c.service+"}}"), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			project, err := compose.Load(t.Context(), compose.Input{Stack: "blog", Dir: dir, Files: []string{filepath.Join(dir, "blog.yaml")}})
			if err != nil {
				t.Fatal(err)
			}
			config := project.Services[0].Config
			for k, v := range project.Services[0].Environment {
				config["environment."+k] = v
			}
			got, watched, why, err := health.ParseSpec(config)
			switch {
			case err != nil || watched != (c.want != nil):
				t.Fatalf("watched is %t (%s): %v: %v", watched, why, err, config)
			case c.want == nil:
			case cmp.Diff(*c.want, got) != "":
				t.Errorf("(-want +got)\n%s", cmp.Diff(*c.want, got))
			}
		})
	}
}
