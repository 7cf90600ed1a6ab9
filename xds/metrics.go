package xds

import "github.com/prometheus/client_golang/prometheus"

// metrics are labelled by type URL and by reason only: both are bounded by this package.
type metrics struct {
	streams     prometheus.Gauge
	ended       *prometheus.CounterVec // by reason
	sent        *prometheus.CounterVec // by type URL, as all below
	removed     *prometheus.CounterVec
	acks        *prometheus.CounterVec
	nacks       *prometheus.CounterVec
	foreign     *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	watchdog    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	revocations *prometheus.CounterVec // by kind of step
	leafErrors  prometheus.Counter
}

// newMetrics panics if the names are taken: one registry has one server.
func newMetrics(registerer prometheus.Registerer) *metrics {
	const prefix = "isthmus_xds_"
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
	}
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "streams", Help: "Proxies connected."}),
		ended:   counter("streams_ended_total", "Streams that ended or were refused, by reason.", "reason"),
		sent:    counter("resources_sent_total", "Resources sent.", "type_url"),
		removed: counter("resources_removed_total", "Resources that proxies were told to drop.", "type_url"),
		acks:    counter("acks_total", "Responses that proxies acknowledged.", "type_url"),
		nacks:   counter("nacks_total", "Responses that proxies rejected.", "type_url"),
		foreign: counter("foreign_names_total", "Names that proxies asked for and that are not theirs.", "type_url"),
		quarantined: counter("quarantined_total",
			"Resources that a proxy rejected alone and is never sent again.", "type_url"),
		watchdog: counter("watchdog_total", "Streams closed since a response was not answered in time.", "type_url"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "ack_seconds",
			Help:    "Time from a response to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"type_url"}),
		revocations: counter("revocations_total",
			"Revocations started, applied, and left out: not acknowledged, so that the chain was left out.", "kind"),
		leafErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "leaf_errors_total", Help: "Certificates of proxies that could not be had."}),
	}
	if registerer != nil {
		registerer.MustRegister(m.streams, m.ended, m.sent, m.removed, m.acks, m.nacks, m.foreign, m.quarantined,
			m.watchdog, m.latency, m.revocations, m.leafErrors)
	}
	return m
}
