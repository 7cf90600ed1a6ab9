package envoy

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Endpoint is one host of a cluster.
type Endpoint struct {
	Address netip.AddrPort
	Healthy bool
	Weight  uint32 // at least 1
}

// Endpoints returns the endpoints of every cluster that names this set, in the order given. An empty list is how clusters
// lose their hosts: Envoy ignores the removal of the resource.
func (b *Builder) Endpoints(name string, endpoints []Endpoint, origin Origin) *Resource {
	assignment := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if len(endpoints) > 0 {
		hosts := make([]*endpointv3.LbEndpoint, len(endpoints))
		for i, endpoint := range endpoints {
			hosts[i] = endpoint.protobuf()
		}
		assignment.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: hosts}}
	}
	return b.Resource(name, assignment, origin)
}

func (e Endpoint) protobuf() *endpointv3.LbEndpoint {
	health := corev3.HealthStatus_UNHEALTHY
	if e.Healthy {
		health = corev3.HealthStatus_HEALTHY
	}
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: SocketAddress(e.Address.Addr().String(), e.Address.Port()),
		}},
		HealthStatus:        health,
		LoadBalancingWeight: wrapperspb.UInt32(e.Weight),
	}
}
