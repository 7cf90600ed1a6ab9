package gateway_test

import (
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

func TestGolden(t *testing.T) { envoytest.Golden(t, "testdata", translate) }

func TestEnvoyAccepts(t *testing.T) {
	envoytest.Accepts(t, envoytest.Case(t, "testdata/full-gateway.txtar", translate))
}

// A case's in.yaml: a view, and the endpoint sets that it names.
type input struct {
	View      snapshot.MeshGateway
	Endpoints []*snapshot.EndpointSet
}

func translate(t testing.TB, in []byte) (*envoy.Set, []*envoy.Resource, error) {
	var i input
	if err := yaml.UnmarshalStrict(in, &i); err != nil {
		t.Fatal(err)
	}
	var endpoints []*envoy.Resource
	for _, set := range i.Endpoints {
		endpoints = append(endpoints, gateway.EndpointResource(set))
	}
	set, err := gateway.Resources(&i.View)
	return set, endpoints, err
}
