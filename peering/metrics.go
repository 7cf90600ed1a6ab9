package peering

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/internal/connlimit"
	"github.com/isthmus-mesh/isthmus/snapshot"
)

// metrics reads, when it is asked, what Status knows. Labels are peers only: services are unbounded.
type metrics struct {
	*Service
	exported, healthy                          *prometheus.Desc // under Consul's names
	state, age, imported, missing, refused     *prometheus.Desc
	rewrites, sessions, heartbeats, roundTrips *prometheus.Desc
	strangers, turnedAway                      *prometheus.Desc
}

func newMetrics(s *Service) *metrics {
	peer := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"peer"}, more...), nil)
	}
	consul := []string{"peer_name", "peer_id"}
	return &metrics{
		Service:    s,
		exported:   prometheus.NewDesc("consul_peering_exported_services", "Services exported to the peer.", consul, nil),
		healthy:    prometheus.NewDesc("consul_peering_healthy", "1 while the last round trip with the peer is young.", consul, nil),
		state:      peer("isthmus_peering_state", "1 for the state that the peering is in.", "state"),
		age:        peer("isthmus_peering_round_trip_age_seconds", "Time since the last verified round trip, absent before the first."),
		roundTrips: peer("isthmus_peering_round_trip_seconds", "How long the last answer of the peer took."),
		heartbeats: peer("isthmus_peering_heartbeat_age_seconds", "Time since the peer's last heartbeat, absent before the first."),
		imported:   peer("isthmus_peering_imported_services", "Services imported from the peer."),
		missing:    peer("isthmus_peering_not_exported_services", "Services that an entry exports to the peer and that do not, or not fully, get there."),
		refused:    peer("isthmus_peering_refused_resources", "Resources of the peer that are refused, the last good ones being kept."),
		rewrites:   peer("isthmus_peering_rewrites_total", "Fields by which the peer said who it, or something of it, is, and which were ignored."),
		sessions:   peer("isthmus_peering_sessions_total", "Streams that began."),
		strangers:  prometheus.NewDesc("isthmus_peering_strangers", "Connections to the peering port without a stream of a peer.", nil, nil),
		turnedAway: prometheus.NewDesc("isthmus_peering_connections_refused_total",
			"Connections to the peering port that were closed at once, by reason: full, or address for too many of one address.", []string{"reason"}, nil),
	}
}

// Describe sends what Collect may send.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		m.exported, m.healthy, m.state, m.age, m.roundTrips, m.heartbeats, m.imported, m.missing, m.refused, m.rewrites, m.sessions,
		m.strangers, m.turnedAway,
	} {
		out <- desc
	}
}

// Collect reads the state of every peering, and of the port.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	stats := m.connections()
	out <- prometheus.MustNewConstMetric(m.strangers, prometheus.GaugeValue, float64(stats.Strangers))
	for reason, count := range stats.Refused {
		out <- prometheus.MustNewConstMetric(m.turnedAway, prometheus.CounterValue, float64(count), reason)
	}
	for _, peer := range m.Store.World().Peers() {
		m.collect(out, peer)
	}
}

// connections tells what the port has let in.
func (s *Service) connections() connlimit.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return connlimit.Sum(s.listeners)
}

func (m *metrics) collect(out chan<- prometheus.Metric, peer *snapshot.Peer) {
	status, l := m.Status(peer.Name), m.link(peer)
	var refused int
	var ignored, sessions uint64
	l.note(func(n *notes) { refused, ignored, sessions = len(n.refusedByUs), n.ignored, n.sessions })
	verified := l.pulse().verified
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	healthy := 0.0
	if status.State == snapshot.Active {
		healthy = 1
	}
	gauge(m.healthy, healthy, peer.Name, peer.ID)
	gauge(m.exported, float64(len(status.Exported)), peer.Name, peer.ID)
	gauge(m.state, 1, peer.Name, string(status.State))
	gauge(m.imported, float64(len(status.Imported)), peer.Name)
	gauge(m.missing, float64(len(status.NotExported)), peer.Name)
	gauge(m.refused, float64(refused), peer.Name)
	if !verified.IsZero() {
		gauge(m.age, m.Now().Sub(verified).Seconds(), peer.Name)
		gauge(m.roundTrips, status.RoundTrip.Seconds(), peer.Name)
	}
	if !status.LastHeartbeat.IsZero() {
		gauge(m.heartbeats, m.Now().Sub(status.LastHeartbeat).Seconds(), peer.Name)
	}
	out <- prometheus.MustNewConstMetric(m.rewrites, prometheus.CounterValue, float64(ignored), peer.Name)
	out <- prometheus.MustNewConstMetric(m.sessions, prometheus.CounterValue, float64(sessions), peer.Name)
}
