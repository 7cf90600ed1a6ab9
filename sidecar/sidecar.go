// Package sidecar turns a sidecar's view into Envoy resources: an inbound listener with one filter chain for each peer whose
// services may call, the secrets and rules that decide who of them comes in, and for each upstream a listener and a
// cluster. Who may come in is decided in the TLS handshake, before the application is dialled, and once more behind it.
package sidecar

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// Resources returns what a sidecar is told. The error is a failed protobuf validator, which is a bug: the proxy keeps what
// it has. The same parts give the same pointers, but for what carries the proxy's own name.
func Resources(view *snapshot.Sidecar) (*envoy.Set, error) {
	set := &envoy.Set{Proxy: string(view.ID), LeafIdentity: view.Identity}
	for _, add := range []func(*envoy.Set, *snapshot.Sidecar) error{addInbound, addAuthz, addUpstreams, addBundles} {
		if err := add(set, view); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(set.Listeners, func(a, b *envoy.Listener) int { return cmp.Compare(a.Name, b.Name) })
	byName := func(a, b *envoy.Resource) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(set.Clusters, byName)
	slices.SortFunc(set.Secrets, byName)
	slices.SortFunc(set.Extensions, byName)
	return set, nil
}

func addBundles(set *envoy.Set, view *snapshot.Sidecar) error {
	for _, bundle := range view.Bundles {
		made := bundle.Do(func() any { return roots(bundle) }).(made)
		if made.err != nil {
			return made.err
		}
		set.Secrets = append(set.Secrets, made.resource)
	}
	return nil
}

// made is what a part became that is one resource.
type made struct {
	resource *envoy.Resource
	err      error
}

func roots(bundle *snapshot.Bundle) made {
	var b envoy.Builder
	origin := envoy.Origin{Kind: "peering", Name: bundle.Peer, Peer: bundle.Peer}
	if bundle.Peer == "" {
		origin = envoy.Origin{Kind: "ca", Name: bundle.TrustDomain}
	}
	return made{b.Bundle(bundle.Name(), bundle.Roots, origin), b.Err()}
}
