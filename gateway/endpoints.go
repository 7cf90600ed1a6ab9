package gateway

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// EndpointResource returns a set of addresses as Envoy is told it, for gateways and sidecars alike. A set without addresses
// is served too: Envoy ignores the removal of the resource, and would go on using what it had.
func EndpointResource(set *snapshot.EndpointSet) *envoy.Resource {
	endpoints := make([]envoy.Endpoint, 0, len(set.Endpoints))
	for _, e := range set.Endpoints {
		if e.Address.IsValid() {
			endpoints = append(endpoints, envoy.Endpoint{Address: e.Address, Healthy: e.Healthy, Weight: max(e.Weight, 1)})
		}
	}
	slices.SortFunc(endpoints, func(a, b envoy.Endpoint) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Weight, b.Weight))
	})
	var b envoy.Builder
	resource := b.Endpoints(set.Name, endpoints, envoy.Origin{Kind: "endpoints", Name: set.Name})
	if err := b.Err(); err != nil {
		panic(err) // a set always has a name, and what its validator asks of an endpoint is ensured above
	}
	return resource
}
