package xds

import (
	"context"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/redact"
	"github.com/isthmus-mesh/isthmus/xds/envoy"
)

// benchProxies is how many sidecars connect to each server of the benchmark.
const benchProxies = 1000

func benchID(i int) string { return fmt.Sprintf("web-sidecar-proxy-%04d", i) }

var benchOrigin = envoy.Origin{Kind: "service", Name: "web"}

// made is one resource of the benchmark: about as large as what the translators make.
func made(k kind, name string, m proto.Message) *envoy.Resource {
	body := marshalled(m)
	return &envoy.Resource{TypeURL: typeURLs[k], Name: name, Version: envoy.Hash(body), Body: body, Origin: benchOrigin}
}

func marshalled(m proto.Message) []byte {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(err)
	}
	return body
}

func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func address(ip string, port int) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)}}}}
}

func assignment(name string, addresses ...*corev3.Address) *envoy.Resource {
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, a := range addresses {
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus:        corev3.HealthStatus_HEALTHY,
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
			LoadBalancingWeight: wrapperspb.UInt32(1),
		})
	}
	return made(endpoints, name, &endpointv3.ClusterLoadAssignment{ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{locality}})
}

// benchEndpoints is the endpoint set that changes: each generation has other ports.
func benchEndpoints(generation int) *envoy.Resource {
	port := 20000 + generation
	return assignment("svc~db~default", address("10.0.0.1", port), address("10.0.0.2", port), address("10.0.0.3", port))
}

func benchGateways() *envoy.Resource { return assignment("gw~east", address("192.0.2.1", 8443)) }

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func benchTLS(authz string) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{
		TypedConfig: packed(&tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:                      &tlsv3.TlsParameters{TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: envoy.LeafName, SdsConfig: ads()}},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig{
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: authz, SdsConfig: ads()}},
		}}),
	}}
}

func benchProxyFilter(stat, cluster string) []*listenerv3.Filter {
	return []*listenerv3.Filter{{Name: "envoy.filters.network.tcp_proxy", ConfigType: &listenerv3.Filter_TypedConfig{
		TypedConfig: packed(&tcpproxyv3.TcpProxy{StatPrefix: stat, ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster}})}}}
}

func benchCluster(name, endpointSet string) *envoy.Resource {
	r := made(clusters, name, &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: endpointSet},
		ConnectTimeout:       durationpb.New(5 * time.Second),
		TransportSocket:      benchTLS("bundle~east"),
	})
	r.EndpointSet = endpointSet
	return r
}

func benchListener(name string, port int) *envoy.Listener {
	shell := marshalled(&listenerv3.Listener{Name: name, Address: address("127.0.0.1", port), StatPrefix: name,
		FilterChains: []*listenerv3.FilterChain{{Name: name, Filters: benchProxyFilter(name, name)}}})
	return &envoy.Listener{Name: name, Shell: shell, ShellHash: envoy.Hash(shell), Origin: benchOrigin}
}

// benchSet is a sidecar with one upstream in its cluster, one at a peer, and one peer that calls it. Its parts are shared by
// all the proxies.
func benchSet() *envoy.Set {
	set := &envoy.Set{
		LeafIdentity: "spiffe://td.consul/ns/default/dc/dc1/svc/web",
		Clusters: []*envoy.Resource{
			made(clusters, "app", &clusterv3.Cluster{Name: "app", ConnectTimeout: durationpb.New(time.Second)}),
			benchCluster("out~east~api~default", "gw~east"),
			benchCluster("out~local~db~default", "svc~db~default"),
		},
		Listeners: []*envoy.Listener{benchListener("in", 21000), benchListener("out~east~api~default", 9000),
			benchListener("out~local~db~default", 9001)},
	}
	roots := &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: benchPEM}}
	for _, name := range benchNames[secrets][:3] {
		r := made(secrets, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: roots}}})
		if name != "bundle~east" {
			r.Authz = &envoy.Authz{Names: []string{"api"}, Roots: []string{benchPEM}}
			body := marshalled(&listenerv3.FilterChain{Name: name, TransportSocket: benchTLS(name), Filters: benchProxyFilter("in", "app"),
				FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{name + ".external.td.consul"}}})
			set.Listeners[0].Chains = append(set.Listeners[0].Chains, &envoy.Chain{Name: name, Hash: envoy.Hash(body), Body: body,
				AuthzName: name, Origin: benchOrigin})
		}
		set.Secrets = append(set.Secrets, r)
	}
	return set
}

// benchNames is what a proxy of the benchmark asks for by name.
var benchNames = map[kind][]string{
	endpoints: {"gw~east", "svc~db~default"},
	secrets:   {"authz~web~default~east", "authz~web~default~local", "bundle~east", envoy.LeafName},
}

// benchResources is everything that one proxy gets, by kind, as bytes.
func benchResources(generation int) [kinds][]item {
	set := benchSet()
	var all [kinds][]item
	add := func(k kind, r *envoy.Resource) {
		all[k] = append(all[k], item{name: r.Name, version: r.Version, body: r.Body})
	}
	for _, r := range set.Secrets {
		add(secrets, r)
	}
	leaf, _ := benchLeaves{}.Leaf(context.Background(), "")
	body, err := leafSecret(&leaf)
	if err != nil {
		panic(err)
	}
	all[secrets] = append(all[secrets], item{name: envoy.LeafName, version: leaf.Version, body: body})
	for _, r := range set.Clusters {
		add(clusters, r)
	}
	add(endpoints, benchGateways())
	add(endpoints, benchEndpoints(generation))
	for _, l := range set.Listeners {
		c := &composition{listener: l}
		for _, fc := range l.Chains {
			c.chains = append(c.chains, composedChain{chain: fc})
		}
		c.seal()
		all[listeners] = append(all[listeners], c.item())
	}
	return all
}

// benchLeaves answers with one certificate for everybody: making them is not what is measured.
type benchLeaves struct{}

var benchStart = time.Now()

func (benchLeaves) Leaf(context.Context, string) (Leaf, error) {
	return Leaf{CertPEM: []byte(benchPEM), KeyPEM: redact.NewBytes([]byte(benchPEM)), RootID: "root",
		RenewAt: benchStart.Add(time.Hour), Version: fmt.Sprintf("root.%d", benchStart.Add(2*time.Hour).Unix())}, nil
}

func (benchLeaves) RenewAt(string) (time.Time, bool) { return benchStart.Add(time.Hour), true }

// benchPEM has the size of a certificate, which is all that anybody here looks at.
var benchPEM = func() string {
	text := "-----BEGIN CERTIFICATE-----\n"
	for range 12 {
		text += "MIIBszCCAVmgAwIBAgIUW8v0Lw0p5bTKXbq5mXa3a1q3q3EwCgYIKoZIzj0EAwIw\n"
	}
	return text + "-----END CERTIFICATE-----\n"
}()
