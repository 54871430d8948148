package dns

import (
	"strings"
	"sync/atomic"

	miekg "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// tally counts the replies to one view by their code; those beyond BADVERS do not occur.
type tally struct {
	rcodes [miekg.RcodeBadVers + 1]atomic.Uint64
}

func (t *tally) count(rcode int) { t.rcodes[rcode].Add(1) }

// read returns the counts that are not 0, by the code's name.
func (t *tally) read() map[string]uint64 {
	out := map[string]uint64{}
	for rcode := range t.rcodes {
		n := t.rcodes[rcode].Load()
		if n > 0 {
			out[rcodeName(rcode)] = n
		}
	}
	return out
}

// published is a zone and what belongs to it. The hot path reads nothing else.
type published struct {
	zone *Zone
	// edition counts what was published: packed answers of another one are worth nothing.
	edition              uint64
	nets                 []*tally // by network.index
	host, lan, strangers *tally
}

// tally returns where replies to a view are counted.
func (p *published) tally(v *View) *tally {
	switch {
	case v.net != nil:
		return p.nets[v.net.index]
	case v.lan:
		return p.lan
	case v.host:
		return p.host
	}
	return p.strangers
}

// publishable puts a zone together with the tallies, which outlive it.
func (s *Server) publishable(z *Zone) *published {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := func(view string) *tally {
		t := s.tallies[view]
		if t == nil {
			t = &tally{}
			s.tallies[view] = t
		}
		return t
	}
	s.editions++
	p := &published{zone: z, edition: s.editions, host: of("host"), lan: of("lan"), strangers: of("stranger")}
	if z != nil {
		for _, n := range z.nets {
			p.nets = append(p.nets, of(n.Name))
		}
	}
	return p
}

// newLatency is the histogram of the time from reading a question to having its reply. Packed answers take a
// microsecond and are not in it.
func newLatency() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ic_agent_dns_latency_seconds", Help: "Time to a reply, by where it came from; packed answers are not measured.",
		Buckets: []float64{1e-5, 1e-4, 1e-3, 5e-3, 2e-2, 0.1, 0.5, 1, 2, 4},
	}, []string{"path"})
}

// Descriptions of what Collect returns.
var (
	repliesDesc  = desc("replies_total", "Replies sent, by view and response code.", "view", "rcode")
	eventsDesc   = desc("events_total", "Questions by what became of them beside their reply.", "event")
	upstreamDesc = desc("upstream_queries_total", "Questions sent to a name server, by outcome.", "server", "outcome")
	upDesc       = desc("upstream_up", "Whether a name server answers (1) or not, or asks us back (0).", "server")
	cacheDesc    = desc("cache", "The cache of upstreams' answers: entries, bytes, hits.", "what")
	flightDesc   = desc("forwards_in_flight", "Questions waiting for a name server.")
	namesDesc    = desc("zone_names", "Names of the zone.")
	listenDesc   = desc("listener_up", "Whether an address is listened at.", "addr")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ic_agent_dns_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{repliesDesc, eventsDesc, upstreamDesc, upDesc, cacheDesc, flightDesc, namesDesc, listenDesc} {
		ch <- d
	}
	s.latency.Describe(ch)
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	st := s.Status()
	for name, n := range map[string]uint64{
		"dropped": st.Counts.Dropped, "stranger": st.Counts.Strangers, "forwarded": st.Counts.Forwarded,
		"unanswered": st.Counts.Unanswered, "overload": st.Counts.Overload, "blocked": st.Counts.Blocked,
	} {
		counter(eventsDesc, n, name)
	}
	for view, codes := range st.Replies {
		for code, n := range codes {
			counter(repliesDesc, n, view, code)
		}
	}
	for _, u := range s.forward.all() {
		asked, failed := u.asked.Load(), u.failed.Load()
		counter(upstreamDesc, asked-min(asked, failed), u.addr.String(), "asked")
		counter(upstreamDesc, failed, u.addr.String(), "failed")
		gauge(upDesc, oneIf(!u.down.Load() && !u.loops.Load()), u.addr.String())
	}
	gauge(cacheDesc, float64(st.Kept), "entries")
	gauge(cacheDesc, float64(st.KeptBytes), "bytes")
	gauge(cacheDesc, float64(st.Hits), "hits")
	gauge(flightDesc, float64(s.forward.gate.count()))
	gauge(namesDesc, float64(st.Names))
	for _, l := range st.Listeners {
		gauge(listenDesc, oneIf(l.Err == nil), l.Want.String())
	}
	s.latency.Collect(ch)
}

func oneIf(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}

// rcodeName is the mnemonic; 16 is BADVERS here, where miekg knows it as BADSIG too.
func rcodeName(rcode int) string {
	if rcode == miekg.RcodeBadVers {
		return "BADVERS"
	}
	return strings.ToUpper(miekg.RcodeToString[rcode])
}

// sampler picks one of so many; zero picks none.
type sampler struct {
	every uint64
	n     atomic.Uint64
}

func (s *sampler) pick() bool { return s.every > 0 && s.n.Add(1)%s.every == 0 }
