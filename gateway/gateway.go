// Package gateway turns a mesh gateway's view into Envoy resources: one filter chain and one cluster for each service that a
// peer may dial, and for each peer that local sidecars dial in mode local. A gateway passes TLS through: it gets no key, no
// roots and no authorization, and it has no chain that takes any server name.
package gateway

import (
	"cmp"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// Resources returns what a mesh gateway is told. The error is a failed protobuf validator, which is a bug: the proxy keeps
// what it has. The same parts give the same pointers.
func Resources(view *snapshot.MeshGateway) (*envoy.Set, error) {
	set := &envoy.Set{Proxy: string(view.ID)}
	origin := envoy.Origin{Kind: "proxy", Name: string(view.ID)}

	ingress, err := listener(envoy.ListenerIngress, view.Ingress, corev3.TrafficDirection_INBOUND, origin)
	if err != nil {
		return nil, err
	}
	for _, x := range view.Exports {
		if err := add(set, ingress, x.Do(func() any { return export(x) }).(part)); err != nil {
			return nil, err
		}
	}
	set.Listeners = append(set.Listeners, ingress)

	if view.Egress != nil {
		egress, err := listener(envoy.ListenerEgress, *view.Egress, corev3.TrafficDirection_OUTBOUND, origin)
		if err != nil {
			return nil, err
		}
		for _, m := range view.Imports {
			if err := add(set, egress, m.Do(func() any { return imported(m) }).(part)); err != nil {
				return nil, err
			}
		}
		set.Listeners = append(set.Listeners, egress)
	}
	sortSet(set)
	return set, nil
}

// add puts a part's chain into l and its cluster into set.
func add(set *envoy.Set, l *envoy.Listener, p part) error {
	if p.err != nil {
		return p.err
	}
	l.Chains = append(l.Chains, p.chain)
	set.Clusters = append(set.Clusters, p.cluster)
	return nil
}

// sortSet sorts by name. The views are sorted too, but by name of peer: "~", which follows it here, comes after letters.
func sortSet(set *envoy.Set) {
	slices.SortFunc(set.Listeners, func(a, b *envoy.Listener) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(set.Clusters, func(a, b *envoy.Resource) int { return cmp.Compare(a.Name, b.Name) })
	for _, l := range set.Listeners {
		slices.SortFunc(l.Chains, func(a, b *envoy.Chain) int { return cmp.Compare(a.Name, b.Name) })
	}
}
