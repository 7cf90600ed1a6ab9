// Package envoytest turns an envoy.Set into what a person can judge: YAML, the calls it lets through in words, and a
// bootstrap that a real Envoy reads. It runs the golden cases of the translators. Only tests import it.
package envoytest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// TB is a test: a *testing.T or a *rapid.T.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Listeners returns the set's listeners as Envoy gets them: shells and chains joined.
func Listeners(t TB, set *envoy.Set) []*listenerv3.Listener { return listenersAt(t, set, 0) }

// listenersAt gives each chain that has a revocation epoch this one; 0 leaves it out.
func listenersAt(t TB, set *envoy.Set, epoch uint64) []*listenerv3.Listener {
	t.Helper()
	var list []*listenerv3.Listener
	for _, l := range set.Listeners {
		chains := make([][]byte, len(l.Chains))
		for i, chain := range l.Chains {
			chains[i] = chain.Body
			if epoch > 0 && chain.AuthzName != "" {
				chains[i] = envoy.WithEpoch(chain.Body, epoch)
			}
		}
		list = append(list, decode(t, envoy.JoinListener(l, chains), &listenerv3.Listener{}))
	}
	return list
}

// Clusters returns the set's clusters.
func Clusters(t TB, set *envoy.Set) []*clusterv3.Cluster {
	return decodeAll(t, set.Clusters, func() *clusterv3.Cluster { return &clusterv3.Cluster{} })
}

// Secrets returns the set's secrets.
func Secrets(t TB, set *envoy.Set) []*tlsv3.Secret {
	return decodeAll(t, set.Secrets, func() *tlsv3.Secret { return &tlsv3.Secret{} })
}

// Extensions returns the set's ECDS resources.
func Extensions(t TB, set *envoy.Set) []*corev3.TypedExtensionConfig {
	return decodeAll(t, set.Extensions, func() *corev3.TypedExtensionConfig { return &corev3.TypedExtensionConfig{} })
}

// Endpoints returns endpoint resources.
func Endpoints(t TB, resources []*envoy.Resource) []*endpointv3.ClusterLoadAssignment {
	return decodeAll(t, resources, func() *endpointv3.ClusterLoadAssignment { return &endpointv3.ClusterLoadAssignment{} })
}

// decodeAll also checks that each resource is what it says it is.
func decodeAll[M proto.Message](t TB, resources []*envoy.Resource, empty func() M) []M {
	t.Helper()
	var list []M
	for _, r := range resources {
		m := decode(t, r.Body, empty())
		if want := "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()); r.TypeURL != want {
			t.Errorf("%s: type %s: want %s", r.Name, r.TypeURL, want)
		}
		if r.Version != envoy.Hash(r.Body) {
			t.Errorf("%s: version %s is not the hash of its body", r.Name, r.Version)
		}
		list = append(list, m)
	}
	return list
}

// decode also runs the validators of all that m holds.
func decode[M proto.Message](t TB, body []byte, m M) M {
	t.Helper()
	if err := proto.Unmarshal(body, m); err != nil {
		t.Fatal(err)
	}
	if err := envoy.Validate(m); err != nil {
		t.Errorf("%s: %v", m.ProtoReflect().Descriptor().Name(), err)
	}
	return m
}

// YAML returns the messages as one YAML list.
func YAML[M proto.Message](t TB, messages []M) []byte {
	t.Helper()
	if len(messages) == 0 {
		return []byte("none\n")
	}
	list := make([]json.RawMessage, len(messages))
	for i, m := range messages {
		list[i] = toJSON(t, m)
	}
	// protojson varies its spacing on purpose; YAML has its own.
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	text, err = yaml.JSONToYAML(text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func toJSON(t TB, m proto.Message) json.RawMessage {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	return compact.Bytes()
}

// held returns what an Any holds, which must be an M.
func held[M proto.Message](t TB, packed interface{ UnmarshalNew() (proto.Message, error) }) M {
	t.Helper()
	m, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	want, ok := m.(M)
	if !ok {
		t.Fatalf("%s: want %s", m.ProtoReflect().Descriptor().Name(), fmt.Sprintf("%T", want))
	}
	return want
}
