package peering

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestMetricsTellTheStateOfEachPeer(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	east, west := newCluster(t, "east", func(c *Config) { c.Registerer = registry }), newCluster(t, "west")
	east.commit(append(reachable("db"), exports("west", "db"))...)
	none, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, none, 2, "only those of the port")
	west.peerWith(east)
	east.token("south")
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.Metric {
			key := family.GetName()
			for _, label := range metric.Label {
				if label.GetName() != "peer_id" {
					key += " " + label.GetValue()
				}
			}
			values[key] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	require.Equal(t, 1.0, values["consul_peering_healthy west"])
	require.Equal(t, 0.0, values["consul_peering_healthy south"])
	require.Equal(t, 1.0, values["consul_peering_exported_services west"])
	require.Equal(t, 1.0, values["isthmus_peering_state west ACTIVE"])
	require.Equal(t, 1.0, values["isthmus_peering_state south PENDING"])
	require.Equal(t, 1.0, values["isthmus_peering_sessions_total west"])
	require.Contains(t, values, "isthmus_peering_round_trip_age_seconds west")
	require.NotContains(t, values, "isthmus_peering_round_trip_age_seconds south")
}
