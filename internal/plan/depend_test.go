package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// needing is the blog whose web server needs its database in a way of its own.
func needing(need plan.Dependency) plan.Project {
	p := blog()
	need.Service = "db"
	p.Services[1].DependsOn = []plan.Dependency{need}

	return p
}

// TestJobIsDoneOnceByDefinition: what counts is the exit of the run that the definition was started with.
func TestJobIsDoneOnceByDefinition(t *testing.T) {
	p := needing(plan.Dependency{Condition: "service_completed_successfully"})
	p.Services[0].Restart = ""
	w, led := newWorld(), newLedger()
	expect := func(edit func(*plan.Project), want string) {
		t.Helper()
		q := p
		q.Services = append([]plan.Service(nil), p.Services...)
		if edit != nil {
			edit(&q)
		}

		pl, err := w.apply(q, led)
		if err != nil || !strings.Contains(pl.String(), want) {
			t.Fatalf("want %q in\n%s%v", want, pl, err)
		}
	}

	ends := func(code int) {
		_ = w.power("db-1", plan.Stopped)
		led.Exits = map[string]plan.Exit{"db-1": {Run: w.Instances["db-1"].LastUsed, Code: code, Known: true}}
	}

	expect(nil, "start instance/db-1")
	expect(nil, "waiting instance/web-1: it waits for db-1 to have done its work")
	ends(3)
	expect(nil, `blocked instance/web-1: it needs db-1 to end with 0, and that ended with 3: "incus console --show-log db-1 --project blog" shows why; run it again with "incus start db-1 --project blog", or change it`)
	_ = w.power("db-1", plan.Running) // by hand
	expect(nil, "waiting instance/web-1")
	_ = w.power("db-1", plan.Stopped)
	expect(nil, "waiting instance/web-1: it waits to hear how db-1 ended") // the exit known is another run's
	ends(0)
	expect(nil, "start instance/web-1")
	expect(nil, "nothing to do")

	again := func(q *plan.Project) { q.Services[0].Environment = map[string]string{"VERSION": "2"} }
	expect(again, "start instance/db-1: environment.VERSION")
	ends(0)
	expect(again, "nothing to do")
}

// TestRestartWithDependency: restart: true stops a service before what it depends on is interrupted, and starts it
// when its condition holds again.
func TestRestartWithDependency(t *testing.T) {
	change := func(p *plan.Project) { p.Services[0].Environment = map[string]string{"TUNE": "1"} }
	for _, c := range []struct {
		name string
		need plan.Dependency
		want string
	}{
		{
			name: "started", need: plan.Dependency{Condition: "service_started", Restart: true},
			want: `stack blog: 5 steps
[1] stop instance/web-1: it depends on db with restart: true
[2 after 1] stop instance/db-1: environment.TUNE
[3 after 2] update instance/db-1: environment.TUNE
[4 after 1,3] start instance/db-1: stopped for the change
[5 after 1,4] start instance/web-1: stopped for what it needs
`,
		},
		{
			name: "healthy", need: plan.Dependency{Condition: "service_healthy", Restart: true},
			want: `stack blog: 4 steps
[1] stop instance/web-1: it depends on db with restart: true
[2 after 1] stop instance/db-1: environment.TUNE
[3 after 2] update instance/db-1: environment.TUNE
[4 after 1,3] start instance/db-1: stopped for the change
waiting instance/web-1: it waits for db-1 to be healthy again, after its own change
`,
		},
		{
			name: "without", need: plan.Dependency{Condition: "service_started"},
			want: `stack blog: 3 steps
[1] stop instance/db-1: environment.TUNE
[2 after 1] update instance/db-1: environment.TUNE
[3 after 2] start instance/db-1: stopped for the change
`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			p := needing(c.need)
			p.Services[0].Config = map[string]string{"user.healthcheck.enabled": "true"}
			for range 2 {
				_, err := w.apply(p, led)
				if err != nil {
					t.Fatal(err)
				}

				w.Instances["db-1"].Config[plan.KeyHealthStatus] = "healthy"
			}

			change(&p)
			pl, err := w.apply(p, led)
			if err != nil {
				t.Fatal(err)
			}

			if diff := cmp.Diff(c.want, pl.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestOptionalDependencyHoldsNothing that will not be had; a required one does.
func TestOptionalDependencyHoldsNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		optional bool
		want     string
	}{
		{"optional", true, "[6 after 5] start instance/web-1: new instance"},
		{"required", false, "waiting instance/web-1: it waits for db-1, which cannot be had now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, led := newWorld(), newLedger()
			p := needing(plan.Dependency{Condition: "service_healthy", Optional: c.optional})
			in := input(p, w.Observed, led)
			delete(in.Images, "postgres:16")
			in.Missing = map[string]plan.Blocked{"postgres:16": {Reason: "there is no such image"}}
			got := plan.Diff(plan.Render(p, in), w.Observed, *led).String()
			if !strings.Contains(got, c.want) {
				t.Errorf("want %q in\n%s", c.want, got)
			}
		})
	}
}

// TestRunningDependentKeepsRunning until what it needs is there: its change waits, not its users.
func TestRunningDependentKeepsRunning(t *testing.T) {
	w, led := newWorld(), newLedger()
	p := needing(plan.Dependency{Condition: "service_healthy"})
	p.Services[0].Config = map[string]string{"user.healthcheck.enabled": "true"}
	for range 2 {
		_, err := w.apply(p, led)
		if err != nil {
			t.Fatal(err)
		}

		w.Instances["db-1"].Config[plan.KeyHealthStatus] = "healthy"
	}

	w.Instances["db-1"].Config[plan.KeyHealthStatus] = "unhealthy"
	p.Services[1].Environment = map[string]string{"MODE": "b"}
	pl, err := w.apply(p, led)
	want := "stack blog: nothing to do\nwaiting instance/web-1: it waits for db-1 to be healthy, which is unhealthy\n"
	if err != nil || pl.String() != want || w.Instances["web-1"].Status != plan.Running {
		t.Errorf("web-1 is %s after\n%s%v", w.Instances["web-1"].Status, pl, err)
	}
}
