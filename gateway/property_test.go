package gateway_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

var names = rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?`), 0, 3, rapid.ID)

// view draws a view as snapshot derives it.
var view = rapid.Custom(func(t *rapid.T) *snapshot.MeshGateway {
	v := &snapshot.MeshGateway{ID: "gw", Ingress: snapshot.Bind{Address: "0.0.0.0", Port: 8443}}
	if rapid.Bool().Draw(t, "egress") {
		v.Egress = &snapshot.Bind{Address: "::", Port: 8444}
	}
	for _, peer := range names.Draw(t, "peers") {
		v.Imports = append(v.Imports, imported(peer))
		for _, service := range names.Draw(t, "services") {
			v.Exports = append(v.Exports, export(peer, service))
		}
	}
	return v
})

func export(peer, service string) *snapshot.GatewayExport {
	return &snapshot.GatewayExport{
		Peer: peer, Service: service, ServerName: service + ".default.default." + peer + ".external.own.consul", Endpoints: snapshot.EndpointsOf(service),
	}
}

func imported(peer string) *snapshot.GatewayImport {
	return &snapshot.GatewayImport{Peer: peer, ServerNames: "*.us.external." + peer + ".consul", Endpoints: snapshot.EndpointsOfPeer(peer)}
}

func resources(t interface{ Fatal(...any) }, v *snapshot.MeshGateway) *envoy.Set {
	set, err := gateway.Resources(v)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The same parts give the same bytes, whoever listed them.
func TestSameInputSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := view.Draw(t, "view")
		shuffled := &snapshot.MeshGateway{ID: v.ID, Ingress: v.Ingress, Egress: v.Egress}
		for _, x := range rapid.Permutation(v.Exports).Draw(t, "exports") {
			shuffled.Exports = append(shuffled.Exports, export(x.Peer, x.Service))
		}
		for _, m := range rapid.Permutation(v.Imports).Draw(t, "imports") {
			shuffled.Imports = append(shuffled.Imports, imported(m.Peer))
		}
		first, other := resources(t, v), resources(t, shuffled)
		if fingerprint(first) != fingerprint(other) {
			t.Fatalf("in another order:\n%s\n%s", fingerprint(first), fingerprint(other))
		}
	})
}

// fingerprint writes versions, which are hashes of the bytes.
func fingerprint(set *envoy.Set) string {
	var text bytes.Buffer
	for _, l := range set.Listeners {
		fmt.Fprintln(&text, l.Name, l.ShellHash)
		for _, c := range l.Chains {
			fmt.Fprintln(&text, " ", c.Name, c.Hash)
		}
	}
	for _, r := range set.Clusters {
		fmt.Fprintln(&text, r.Name, r.Version)
	}
	return text.String()
}

// Whatever a view holds: Envoy takes the listeners, each chain is for one server name, and nothing of a gateway has a key.
func TestGatewaysOnlyPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := resources(t, view.Draw(t, "view"))
		if err := set.Check(); err != nil {
			t.Fatal(err)
		}
		if set.LeafIdentity != "" || set.Secrets != nil || set.Extensions != nil {
			t.Fatalf("a gateway has secrets: %+v", set)
		}
		for _, l := range set.Listeners {
			checkListener(t, l)
		}
		for _, r := range set.Clusters {
			var cluster clusterv3.Cluster
			if err := proto.Unmarshal(r.Body, &cluster); err != nil {
				t.Fatal(err)
			}
			if cluster.TransportSocket != nil || r.EndpointSet != cluster.EdsClusterConfig.ServiceName || r.EndpointSet == "" {
				t.Fatalf("cluster %v", &cluster)
			}
		}
	})
}

func checkListener(t *rapid.T, l *envoy.Listener) {
	var chains [][]byte
	for _, c := range l.Chains {
		var chain listenerv3.FilterChain
		if err := proto.Unmarshal(c.Body, &chain); err != nil {
			t.Fatal(err)
		}
		if len(chain.FilterChainMatch.ServerNames) != 1 || chain.TransportSocket != nil || chain.Metadata != nil || c.AuthzName != "" {
			t.Fatalf("chain %v", &chain)
		}
		chains = append(chains, c.Body)
	}
	if err := envoy.ValidateListener(envoy.JoinListener(l, chains)); err != nil {
		t.Fatal(err)
	}
}

// What did not change is the same pointer, also on another gateway: it is built once.
func TestUnchangedPartsAreShared(t *testing.T) {
	billing, orders := export("east", "billing"), export("east", "orders")
	one := resources(t, &snapshot.MeshGateway{ID: "gw-1", Ingress: snapshot.Bind{Address: "10.0.0.1", Port: 8443}, Exports: []*snapshot.GatewayExport{billing}})
	two := resources(t, &snapshot.MeshGateway{ID: "gw-2", Ingress: snapshot.Bind{Address: "10.0.0.2", Port: 8443}, Exports: []*snapshot.GatewayExport{billing, orders}})
	if one.Listeners[0].Chains[0] != two.Listeners[0].Chains[0] || !slices.Contains(two.Clusters, one.Clusters[0]) {
		t.Error("an unchanged part was built twice")
	}
}

func BenchmarkOneMoreExport(b *testing.B) {
	for _, n := range []int{50, 5000} {
		v := &snapshot.MeshGateway{ID: "gw", Ingress: snapshot.Bind{Address: "0.0.0.0", Port: 8443}}
		for i := range n {
			v.Exports = append(v.Exports, export("east", fmt.Sprintf("service-%04d", i)))
		}
		resources(b, v)
		last := len(v.Exports) - 1
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				v.Exports[last] = export("east", fmt.Sprintf("service-%04d", last))
				resources(b, v)
			}
		})
	}
}
