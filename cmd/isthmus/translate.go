package main

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

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
