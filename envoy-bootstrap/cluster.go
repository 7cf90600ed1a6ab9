package bootstrap

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The static clusters have names that no server name can equal: Envoy lower-cases what it reads from a client.
const (
	adsClusterName   = "ISTHMUS/ADS"
	adminClusterName = "ISTHMUS/ADMIN"
)

// adsCluster reaches the control plane: TLS 1.3, our roots only, one exact name. The HTTP/2 pings notice a dead server
// in 20 s.
func adsCluster(xds XDS) (*clusterv3.Cluster, error) {
	if len(xds.Addresses) == 0 {
		return nil, fmt.Errorf("cluster %s: no address: want the xDS server's host:port", adsClusterName)
	}
	discovery := clusterv3.Cluster_STATIC
	endpoints := &endpointv3.LocalityLbEndpoints{}
	for _, text := range xds.Addresses {
		host, port, err := splitAddress(text)
		if err != nil {
			return nil, err
		}
		if net.ParseIP(host) == nil {
			discovery = clusterv3.Cluster_STRICT_DNS
		}
		endpoints.LbEndpoints = append(endpoints.LbEndpoints, lbEndpoint(socketAddress(host, port)))
	}
	cluster := &clusterv3.Cluster{
		Name:                          adsClusterName,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: discovery},
		ConnectTimeout:                seconds(5),
		LoadAssignment:                &endpointv3.ClusterLoadAssignment{ClusterName: adsClusterName, Endpoints: []*endpointv3.LocalityLbEndpoints{endpoints}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": mustAny(http2WithPings())},
		TransportSocket:               &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: mustAny(tlsToXDS(xds))}},
	}
	if discovery == clusterv3.Cluster_STRICT_DNS {
		cluster.DnsLookupFamily = clusterv3.Cluster_ALL
	}
	return cluster, nil
}

func splitAddress(text string) (string, uint16, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return "", 0, fmt.Errorf("xDS address %q: want host:port", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", 0, fmt.Errorf("xDS address %q: want a port from 1 to 65535", text)
	}
	return host, uint16(number), nil
}

func lbEndpoint(address *corev3.Address) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}
}

func http2WithPings() *httpv3.HttpProtocolOptions {
	return &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
					ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: seconds(15), Timeout: seconds(5)},
				},
			},
		},
	}}
}

func tlsToXDS(xds XDS) *tlsv3.UpstreamTlsContext {
	sanType, serverName := tlsv3.SubjectAltNameMatcher_URI, xds.ServerName
	if !strings.Contains(xds.SAN, "://") {
		sanType = tlsv3.SubjectAltNameMatcher_DNS
		if serverName == "" {
			serverName = xds.SAN
		}
	}
	return &tlsv3.UpstreamTlsContext{
		Sni: serverName,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			AlpnProtocols: []string{"h2"},
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: xds.CAPEM}},
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: sanType,
					Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: xds.SAN}},
				}},
			}},
		},
	}
}

// adminCluster is Envoy's own admin interface, for the metrics listener only.
func adminCluster(admin Endpoint) *clusterv3.Cluster {
	address := admin.address()
	if pipe := address.GetPipe(); pipe != nil {
		pipe.Mode = 0 // of a listener only
	}
	return &clusterv3.Cluster{
		Name:                 adminClusterName,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       seconds(1),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: adminClusterName,
			Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{lbEndpoint(address)}}},
		},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(16),
			MaxPendingRequests: wrapperspb.UInt32(16),
			MaxRequests:        wrapperspb.UInt32(16),
		}}},
	}
}
