package sidecar_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/sidecar"
	"github.com/isthmus-mesh/isthmus/snapshot"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
	"github.com/isthmus-mesh/isthmus/xds/envoy/envoytest"
)

var (
	name  = rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?`)
	names = rapid.SliceOfNDistinct(name, 0, 3, rapid.ID)
)

// view draws a view as snapshot derives it: sorted, each name once.
var view = rapid.Custom(func(t *rapid.T) *snapshot.Sidecar {
	v := &snapshot.Sidecar{
		ID: "proxy", Service: "db", Identity: "spiffe://own.consul/ns/default/dc/dc1/svc/db",
		Inbound: &snapshot.Inbound{Bind: snapshot.Bind{Address: "0.0.0.0", Port: 21000}, App: snapshot.Bind{Address: "127.0.0.1", Port: 80}},
	}
	callers, dialled := names.Draw(t, "callers"), names.Draw(t, "dialled")
	slices.Sort(callers)
	slices.Sort(dialled)
	for _, peer := range callers {
		a := authz(peer, allowed.Draw(t, "allowed"))
		v.Authz = append(v.Authz, a)
		v.Chains = append(v.Chains, &snapshot.InboundChain{
			Peer: peer, Service: "db", ServerName: "db.default.default." + peer + ".external.own.consul", AuthzName: a.Name,
			TLSMin13: rapid.Bool().Draw(t, "1.3"), MaxConnections: rapid.IntRange(-1, 9).Draw(t, "max"),
		})
	}
	for _, peer := range dialled {
		v.Bundles = append(v.Bundles, &snapshot.Bundle{Peer: peer, Roots: []string{"ROOT-" + peer}})
		for port := range rapid.IntRange(1, 3).Draw(t, "ports") {
			v.Upstreams = append(v.Upstreams, &snapshot.Upstream{
				Peer: peer, Service: "billing", Bind: snapshot.Bind{Address: "127.0.0.1", Port: uint16(9000 + port)},
				ServerName: "billing.default.default.us.external." + peer + ".consul", Bundle: snapshot.BundleName(peer), Endpoints: "gw~" + peer,
				SpiffeIDs: rapid.SliceOfN(rapid.Just("spiffe://"+peer+".consul/ns/default/dc/dc1/svc/billing"), 0, 2).Draw(t, "ids"),
			})
		}
	}
	return v
})

var allowed = rapid.Custom(func(t *rapid.T) snapshot.Allowed {
	a := snapshot.Allowed{AllExcept: rapid.Bool().Draw(t, "all except"), Names: names.Draw(t, "names")}
	slices.Sort(a.Names)
	return a
})

func authz(peer string, allowed snapshot.Allowed) *snapshot.Authz {
	return &snapshot.Authz{
		Name: snapshot.AuthzName("db", peer), Peer: peer, Service: "db", TrustDomain: peer + ".consul", Roots: []string{"ROOT-" + peer}, Allowed: allowed,
	}
}

func resources(t rapid.TB, v *snapshot.Sidecar) *envoy.Set {
	set, err := sidecar.Resources(v)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// The same parts give the same bytes, whoever listed them and however often they are built.
func TestSameInputSameBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := view.Draw(t, "view")
		v.Upstreams = slices.CompactFunc(v.Upstreams, func(a, b *snapshot.Upstream) bool { return a.Peer == b.Peer })
		first := fingerprint(resources(t, v))
		if again := fingerprint(resources(t, v)); again != first {
			t.Fatalf("built again:\n%s\n%s", first, again)
		}
		shuffled := &snapshot.Sidecar{ID: v.ID, Service: v.Service, Identity: v.Identity, Inbound: &snapshot.Inbound{Bind: v.Inbound.Bind, App: v.Inbound.App}}
		for _, c := range rapid.Permutation(v.Chains).Draw(t, "chains") {
			shuffled.Chains = append(shuffled.Chains, &snapshot.InboundChain{
				Peer: c.Peer, Service: c.Service, ServerName: c.ServerName, AuthzName: c.AuthzName, TLSMin13: c.TLSMin13, MaxConnections: c.MaxConnections,
			})
		}
		for _, a := range rapid.Permutation(v.Authz).Draw(t, "authz") {
			shuffled.Authz = append(shuffled.Authz, authz(a.Peer, a.Allowed))
		}
		shuffled.Upstreams = rapid.Permutation(v.Upstreams).Draw(t, "upstreams")
		shuffled.Bundles = rapid.Permutation(v.Bundles).Draw(t, "bundles")
		if other := fingerprint(resources(t, shuffled)); other != first {
			t.Fatalf("in another order:\n%s\n%s", first, other)
		}
	})
}

// fingerprint writes versions, which are hashes of the bytes.
func fingerprint(set *envoy.Set) string {
	var text bytes.Buffer
	for _, l := range set.Listeners {
		fmt.Fprintln(&text, l.Name, l.ShellHash)
		for _, c := range l.Chains {
			fmt.Fprintln(&text, " ", c.Name, c.Hash, c.AuthzName, c.ExtensionNames)
		}
	}
	for _, r := range slices.Concat(set.Clusters, set.Secrets, set.Extensions) {
		fmt.Fprintln(&text, r.Name, r.Version)
	}
	return text.String()
}

// Whatever a view holds, a listener is one that Envoy takes, and everything that a part names is there.
func TestSetsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := resources(t, view.Draw(t, "view"))
		if err := set.Check(); err != nil {
			t.Fatal(err)
		}
		for _, l := range set.Listeners {
			var chains [][]byte
			for _, c := range l.Chains {
				chains = append(chains, envoy.WithEpoch(c.Body, 1))
			}
			if err := envoy.ValidateListener(envoy.JoinListener(l, chains)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// No upstream is dialled without roots, without saying who must answer, or with less than TLS 1.2 to 1.3.
func TestEveryUpstreamIsAuthenticated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := resources(t, view.Draw(t, "view"))
		for _, r := range set.Clusters {
			var cluster clusterv3.Cluster
			if err := proto.Unmarshal(r.Body, &cluster); err != nil {
				t.Fatal(err)
			}
			if cluster.Name == envoy.ClusterApp {
				continue
			}
			var socket tlsv3.UpstreamTlsContext
			if err := cluster.GetTransportSocket().GetTypedConfig().UnmarshalTo(&socket); err != nil {
				t.Fatalf("cluster %s: %v", cluster.Name, err)
			}
			common := socket.CommonTlsContext
			validation := common.GetCombinedValidationContext()
			bundle := validation.GetValidationContextSdsSecretConfig().GetName()
			if !slices.ContainsFunc(set.Secrets, func(s *envoy.Resource) bool { return s.Name == bundle }) {
				t.Fatalf("cluster %s: roots %q are not in the set", cluster.Name, bundle)
			}
			if len(validation.GetDefaultValidationContext().GetMatchTypedSubjectAltNames()) == 0 {
				t.Fatalf("cluster %s: no SAN", cluster.Name)
			}
			if params := common.GetTlsParams(); params.TlsMaximumProtocolVersion != tlsv3.TlsParameters_TLSv1_3 ||
				params.TlsMinimumProtocolVersion < tlsv3.TlsParameters_TLSv1_2 || len(common.AlpnProtocols) > 0 || socket.Sni == "" {
				t.Fatalf("cluster %s: %v", cluster.Name, &socket)
			}
		}
	})
}

// Both fences say what the compiled intentions say, for every name; and the chain does not say it a third time.
func TestFencesAgreeWithAllowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := view.Filter(func(v *snapshot.Sidecar) bool { return len(v.Authz) > 0 }).Draw(t, "view")
		before := resources(t, v)
		a := authz(v.Authz[0].Peer, allowed.Draw(t, "now allowed"))
		v.Authz[0] = a
		set := resources(t, v)
		if fingerprint(&envoy.Set{Listeners: set.Listeners}) != fingerprint(&envoy.Set{Listeners: before.Listeners}) {
			t.Fatal("who is allowed changed a listener")
		}
		for _, source := range append(append(names.Draw(t, "sources"), a.Allowed.Names...), "x") {
			want := slices.Contains(a.Allowed.Names, source) != a.Allowed.AllExcept
			got := envoytest.Admitting(t, set, "spiffe://"+a.TrustDomain+"/ns/default/dc/dc1/svc/"+source)
			if want && !slices.Equal(got, []string{a.Name, envoy.RBACName("db", a.Peer)}) || !want && got != nil {
				t.Fatalf("%+v: %s is admitted by %v", a.Allowed, source, got)
			}
		}
	})
}

// Envoy reads NoMatch as Go does.
func TestNoMatch(t *testing.T) {
	never := regexp.MustCompile(envoy.NoMatch)
	rapid.Check(t, func(t *rapid.T) {
		if text := rapid.String().Draw(t, "text"); never.MatchString(text) {
			t.Fatalf("matches %q", text)
		}
	})
}
