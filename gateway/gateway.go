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
	if view.Ingress.Address != "" { // else the view says what kept it from being one
		parts := make([]part, len(view.Exports))
		for i, x := range view.Exports {
			parts[i] = x.Do(func() any { return export(x) }).(part)
		}
		if err := addListener(set, envoy.ListenerIngress, append([]snapshot.Bind{view.Ingress}, view.IngressAlso...), corev3.TrafficDirection_INBOUND, parts); err != nil {
			return nil, err
		}
	}
	if view.Egress != nil {
		parts := make([]part, len(view.Imports))
		for i, m := range view.Imports {
			parts[i] = m.Do(func() any { return imported(m) }).(part)
		}
		if err := addListener(set, envoy.ListenerEgress, []snapshot.Bind{*view.Egress}, corev3.TrafficDirection_OUTBOUND, parts); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(set.Listeners, func(a, b *envoy.Listener) int { return cmp.Compare(a.Name, b.Name) })
	return set, nil
}

// addListener puts a listener at binds with the chains of parts, and their clusters, into set. What parts of an earlier call are
// called comes before what these are called: "exp~" before "imp~".
func addListener(set *envoy.Set, name string, binds []snapshot.Bind, direction corev3.TrafficDirection, parts []part) error {
	l, err := listener(name, binds, direction, envoy.Origin{Kind: "proxy", Name: set.Proxy})
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.err != nil {
			return p.err
		}
	}
	// Thousands come in this order, so that each is looked at once.
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.chain.Name, b.chain.Name) })
	l.Chains = make([]*envoy.Chain, 0, len(parts))
	set.Clusters = slices.Grow(set.Clusters, len(parts))
	for _, p := range parts {
		l.Chains = append(l.Chains, p.chain)
		set.Clusters = append(set.Clusters, p.cluster)
	}
	set.Listeners = append(set.Listeners, l)
	return nil
}
