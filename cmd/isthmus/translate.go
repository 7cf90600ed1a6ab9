package main

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// A shape makes all that a proxy is told, with listeners of one config_schema.
type shape struct {
	schema    int
	resources func(snapshot.View) (*envoy.Set, error)
}

// shapes are those that are served, oldest first. An Envoy that runs keeps the shape that its bootstrap noted, since a
// listener of another one would cut its connections: so the last two are kept. A new one is a line here, with
// bootstrap.ConfigSchema raised to it.
var shapes = []shape{{1, resources}}

// translate returns one set for each shape.
func translate(view snapshot.View, shapes []shape) ([]*envoy.Set, error) {
	sets := make([]*envoy.Set, 0, len(shapes))
	for _, s := range shapes {
		set, err := s.resources(view)
		if err != nil {
			return nil, err
		}
		set.Schema = s.schema
		sets = append(sets, set)
	}
	return sets, nil
}

// resources is the one switch on the kind of a proxy.
func resources(view snapshot.View) (*envoy.Set, error) {
	switch view := view.(type) {
	case *snapshot.MeshGateway:
		return gateway.Resources(view)
	case *snapshot.Sidecar:
		return sidecar.Resources(view)
	}
	return nil, fmt.Errorf("proxy %s: no translator for %T", view.ProxyID(), view)
}
