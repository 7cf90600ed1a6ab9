package xds

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/connlimit"
)

// metrics are labelled by type URL and by reason only: both are bounded by this package.
type metrics struct {
	streams     prometheus.Gauge
	ended       *prometheus.CounterVec // by reason
	revocations *prometheus.CounterVec // by step
	leafErrors  prometheus.Counter
	otherNames  prometheus.Counter // of types that are not served
	of          [kinds]kindMetrics
	connections *connections
}

// kindMetrics are those of one type: looked up once, since every response counts.
type kindMetrics struct {
	sent, removed, acks, nacks, foreign, quarantined, watchdog prometheus.Counter
	latency                                                    prometheus.Observer
}

// newMetrics panics if the names are taken: one registry has one server.
func newMetrics(registerer prometheus.Registerer) *metrics {
	const prefix = "isthmus_xds_"
	var all []prometheus.Collector
	counter := func(name, help, label string) *prometheus.CounterVec {
		vector := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
		all = append(all, vector)
		return vector
	}
	m := &metrics{
		streams:     prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "streams", Help: "Proxies connected."}),
		ended:       counter("streams_ended_total", "Streams that ended or were refused.", "reason"),
		revocations: counter("revocations_total", "Revocations started, applied, and left_out: not acknowledged in time.", "kind"),
		connections: &connections{},
		leafErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "leaf_errors_total", Help: "Certificates of proxies that could not be had."}),
	}
	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: prefix + "ack_seconds", Help: "Time from a response to its answer.",
		Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	}, []string{"type_url"})
	sent := counter("resources_sent_total", "Resources sent.", "type_url")
	removed := counter("resources_removed_total", "Resources that proxies were told to drop.", "type_url")
	acks := counter("acks_total", "Responses that proxies acknowledged.", "type_url")
	nacks := counter("nacks_total", "Responses that proxies rejected.", "type_url")
	foreign := counter("foreign_names_total", "Names that proxies asked for and that are not theirs.", "type_url")
	quarantined := counter("quarantined_total", "Resources that a proxy rejected alone, once for each try.", "type_url")
	watchdog := counter("watchdog_total", "Streams closed since a response was not answered in time.", "type_url")
	m.otherNames = foreign.WithLabelValues("other")
	for k, url := range typeURLs {
		m.of[k] = kindMetrics{
			sent: sent.WithLabelValues(url), removed: removed.WithLabelValues(url),
			acks: acks.WithLabelValues(url), nacks: nacks.WithLabelValues(url),
			foreign: foreign.WithLabelValues(url), quarantined: quarantined.WithLabelValues(url),
			watchdog: watchdog.WithLabelValues(url), latency: latency.WithLabelValues(url),
		}
	}
	if registerer != nil {
		registerer.MustRegister(append(all, m.streams, m.leafErrors, latency, m.connections)...)
	}
	return m
}

// connections tell what the listeners have let in.
type connections struct {
	mu        sync.Mutex
	listeners []*connlimit.Listener
}

var (
	openConnections    = prometheus.NewDesc("isthmus_xds_connections", "Open connections, of proxies and of strangers.", nil, nil)
	refusedConnections = prometheus.NewDesc("isthmus_xds_connections_refused_total",
		"Connections closed at once: full, or too many of one address without a token.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c *connections) Describe(out chan<- *prometheus.Desc) {
	out <- openConnections
	out <- refusedConnections
}

// Collect implements prometheus.Collector.
func (c *connections) Collect(out chan<- prometheus.Metric) {
	c.mu.Lock()
	stats := connlimit.Sum(c.listeners)
	c.mu.Unlock()
	out <- prometheus.MustNewConstMetric(openConnections, prometheus.GaugeValue, float64(stats.Connections))
	for reason, count := range stats.Refused {
		out <- prometheus.MustNewConstMetric(refusedConnections, prometheus.CounterValue, float64(count), reason)
	}
}

func (m *metrics) listen(l *connlimit.Listener) {
	m.connections.mu.Lock()
	defer m.connections.mu.Unlock()
	m.connections.listeners = append(m.connections.listeners, l)
}
