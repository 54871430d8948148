package healthd

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/incus-compose/ic-agent/internal/health"
)

// metrics shows a view to Prometheus: it is read anew at each scrape, and nothing is counted twice.
type metrics struct{ v viewer }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ic_healthd_"+name, help, labels, nil)
}

var (
	descInstances  = desc("instances", "Instances that are looked after.")
	descChecked    = desc("checked_instances", "Of these, instances with a check.")
	descUnhealthy  = desc("unhealthy_instances", "Instances that are unhealthy.")
	descBroken     = desc("broken_checks", "Checks that never passed or cannot be run.")
	descAway       = desc("incus_away", "1 while Incus cannot be asked.")
	descPaused     = desc("restarts_paused", "1 while unhealthy instances are not restarted, because too many are or the host is starved.")
	descChecks     = desc("checks_total", "Checks made, by their result.", "result")
	descRestarts   = desc("restarts_total", "Restarts begun, by their reason.", "reason")
	descChanges    = desc("status_changes_total", "Changes of verdicts, by the new one.", "status")
	descLeaked     = desc("leaked_probes_total", "Probes that left processes behind which could not be killed.")
	descLateness   = desc("lateness_seconds", "How late checks and restarts were begun.")
	descDuration   = desc("check_duration_seconds", "How long checks took.")
	descLoop       = desc("loop_idle_seconds", "How long ago the loop last turned.")
	descGivenUp    = desc("given_up_instances", "Instances whose limit of restarts is reached.")
	descLeftAlone  = desc("projects_left_alone", "Projects that another health daemon watches.")
	descUp         = desc("instance_healthy", "1 for a healthy instance, 0 for one that is not.", "project", "instance")
	descRestartsOf = desc("instance_restarts", "Restarts of an instance that count against its limit.", "project", "instance")
)

// Describe says nothing: what there is depends on the instances.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect shows the view of this moment; none while the loop does not answer.
func (m metrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:forbidigo // the library has none
	defer cancel()
	view, err := m.v.View(ctx)
	if err != nil {
		return
	}

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s, c := view.Summary, view.Counters
	gauge(descInstances, float64(s.Instances))
	gauge(descChecked, float64(s.Checks))
	gauge(descUnhealthy, float64(s.Unhealthy))
	gauge(descBroken, float64(s.Broken))
	gauge(descAway, number01(s.Away))
	gauge(descPaused, number01(s.Paused))
	gauge(descLoop, view.Idle.Seconds())
	gauge(descLeftAlone, float64(len(view.Refused)))
	count(descLeaked, c.Leaked)
	for verdict, n := range c.Checks {
		count(descChecks, n, string(verdict))
	}

	for kind, n := range c.Restarts {
		count(descRestarts, n, kind)
	}

	for status, n := range c.Changes {
		count(descChanges, n, string(status))
	}

	out <- histogram(descLateness, c.Late, health.LateSteps, c.LateSum)
	out <- histogram(descDuration, c.Took, health.TookSteps, c.TookSum)
	givenUp := 0
	for _, r := range view.Rows {
		if r.GaveUp {
			givenUp++
		}

		if r.Watched {
			gauge(descUp, number01(r.Status == health.Healthy), r.Project, r.Instance)
			gauge(descRestartsOf, float64(r.Restarts), r.Project, r.Instance)
		}
	}

	gauge(descGivenUp, float64(givenUp))
}

func number01(on bool) float64 {
	if on {
		return 1
	}

	return 0
}

// histogram makes counts by step, the last for all above, a histogram of Prometheus.
func histogram(d *prometheus.Desc, counts []uint64, steps []time.Duration, sum time.Duration) prometheus.Metric {
	buckets := make(map[float64]uint64, len(steps))
	var all uint64
	for i, n := range counts {
		all += n
		if i < len(steps) {
			buckets[steps[i].Seconds()] = all
		}
	}

	return prometheus.MustNewConstHistogram(d, all, sum.Seconds(), buckets)
}

// handler answers scrapes.
func (m metrics) handler() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(m)

	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}
