package main

import (
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// What Envoys refuse is named by xds/envoy, and why looks for it by snapshot's own names.
func TestPartsAreCalledAsEnvoyHearsThem(t *testing.T) {
	for _, peer := range []string{"east", ""} {
		for _, parts := range []struct {
			what      string
			got, want []string
		}{
			{"inbound", snapshot.InboundParts("db", peer), []string{
				envoy.ListenerIn, envoy.ClusterApp, envoy.LeafName, envoy.PeerChainName(peer), snapshot.AuthzName("db", peer), envoy.RBACName("db", peer),
			}},
			{"outbound", snapshot.OutboundParts("db", peer), []string{envoy.LeafName, snapshot.BundleName(peer), envoy.OutName(peer, "db")}},
			{"ingress", snapshot.IngressParts("db", peer), []string{envoy.ListenerIngress, envoy.ExportName(peer, "db")}},
			{"egress", snapshot.EgressParts(peer), []string{envoy.ListenerEgress, envoy.ImportName(peer)}},
		} {
			if !slices.Equal(parts.got, parts.want) {
				t.Errorf("%s parts of peer %q: %v, want %v", parts.what, peer, parts.got, parts.want)
			}
		}
	}
}
