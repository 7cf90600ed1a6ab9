package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by the pattern of their path, so that no name of a client's becomes a label.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	running  prometheus.Gauge
}

// newMetrics returns metrics that are shown by registerer, or by nobody for nil.
func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_api_requests_total", Help: "Answered HTTP requests.",
		}, []string{"path", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "isthmus_api_request_seconds", Help: "Time to answer an HTTP request, the wait of a blocking query included.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300},
		}, []string{"path"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "isthmus_api_requests_running", Help: "HTTP requests being answered, waiting blocking queries included.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.requests, m.seconds, m.running)
	}
	return m
}

// begin notes that a request has come, and returns what notes that it was answered.
func (m *metrics) begin(pattern, method string) func(status int) {
	start := time.Now()
	m.running.Inc()
	if !knownMethods[method] {
		method = "other"
	}
	return func(status int) {
		m.running.Dec()
		m.requests.WithLabelValues(pattern, method, strconv.Itoa(status)).Inc()
		m.seconds.WithLabelValues(pattern).Observe(time.Since(start).Seconds())
	}
}

// knownMethods keeps the values of a label few.
var knownMethods = map[string]bool{"GET": true, "HEAD": true, "PUT": true, "POST": true, "DELETE": true, "PATCH": true, "OPTIONS": true}
