package healthd

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/incus-compose/ic-agent/internal/health"
)

// still is a view that does not change.
type still struct{ view health.View }

func (s still) View(context.Context) (health.View, error) { return s.view, nil }
func (s still) Late(time.Time) time.Duration              { return s.view.Idle }

func TestH42Metrics(t *testing.T) {
	v := health.View{
		Summary: health.Summary{Instances: 3, Checks: 2, Unhealthy: 1, Away: true}, Idle: 250 * time.Millisecond,
		Refused: map[string]string{"shop": "another watches it"},
		Rows: []health.Row{
			{Project: "blog", Instance: "web-1", Watched: true, Status: health.Healthy, Restarts: 2},
			{Project: "blog", Instance: "db-1", Watched: true, Status: health.Unhealthy, GaveUp: true},
			{Project: "shop", Instance: "web-1"},
		},
		Counters: health.Counters{
			Checks: map[health.Verdict]uint64{health.Passed: 7, health.TimedOut: 1}, Restarts: map[string]uint64{"unhealthy": 2},
			Changes: map[health.Status]uint64{health.Starting: 3}, Leaked: 1,
			Late: []uint64{5, 1, 0, 0, 0, 0, 0, 2}, LateSum: 90 * time.Second, Took: []uint64{0, 8, 0, 0, 0, 0, 0, 0, 0}, TookSum: 40 * time.Millisecond,
		},
	}
	rec := httptest.NewRecorder()
	metrics{still{v}}.handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	got := "\n" + rec.Body.String()
	for _, want := range []string{
		`ic_healthd_instances 3`, `ic_healthd_checked_instances 2`, `ic_healthd_unhealthy_instances 1`, `ic_healthd_incus_away 1`,
		`ic_healthd_restarts_paused 0`, `ic_healthd_checks_total{result="passed"} 7`, `ic_healthd_checks_total{result="timed out"} 1`,
		`ic_healthd_restarts_total{reason="unhealthy"} 2`, `ic_healthd_status_changes_total{status="starting"} 3`,
		`ic_healthd_leaked_probes_total 1`, `ic_healthd_lateness_seconds_bucket{le="0.001"} 5`, `ic_healthd_lateness_seconds_bucket{le="10"} 6`,
		`ic_healthd_lateness_seconds_bucket{le="+Inf"} 8`, `ic_healthd_lateness_seconds_sum 90`, `ic_healthd_check_duration_seconds_count 8`,
		`ic_healthd_loop_idle_seconds 0.25`, `ic_healthd_given_up_instances 1`, `ic_healthd_projects_left_alone 1`,
		`ic_healthd_instance_healthy{instance="web-1",project="blog"} 1`, `ic_healthd_instance_healthy{instance="db-1",project="blog"} 0`,
		`ic_healthd_instance_restarts{instance="web-1",project="blog"} 2`,
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "shop") {
		t.Error("what is not looked after has no health")
	}
}

func TestH42OneLineATransition(t *testing.T) {
	onHost(t, func(h *host) {
		h.create("web", checked(health.KeyRestart, "always"))
		time.Sleep(10 * time.Second)
		h.srv.SetUser("ic-healthd")
		h.says("web", 1)
		time.Sleep(17 * time.Second)
		h.says("web", 0)
		time.Sleep(time.Hour)
		h.is("web", "healthy", "Running")
		log := h.log.String()
		for line, want := range map[string]int{
			"to=unhealthy": 1, "msg=restarting": 1, "to=healthy": 2,
			`reason="3 failures in a row, the last: exit code 1: said"`: 1, `reason="unhealthy: exit code 1: said"`: 1,
		} {
			if n := strings.Count(log, line); n != want {
				h.Errorf("%d lines with %s, want %d:\n%s", n, line, want, log)
			}
		}
		if n := strings.Count(log, "\n"); n > 9 {
			h.Errorf("an hour took %d lines:\n%s", n, log)
		}
	})
}
