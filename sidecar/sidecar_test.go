package sidecar_test

import (
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

func TestGolden(t *testing.T) { envoytest.Golden(t, "testdata", translate) }

func TestEnvoyAccepts(t *testing.T) {
	envoytest.Accepts(t, envoytest.Case(t, "testdata/full-sidecar.txtar", translate))
}

// translate reads a case's in.yaml: a view.
func translate(t testing.TB, in []byte) (*envoy.Set, []*envoy.Resource, error) {
	var view snapshot.Sidecar
	if err := yaml.UnmarshalStrict(in, &view); err != nil {
		t.Fatal(err)
	}
	set, err := sidecar.Resources(&view)
	return set, nil, err
}
